"""Claims of a verified token: every type, every time, every place of a role."""

from typing import Any

import pytest

from agent.identity.claims import ClaimRules
from agent.identity.headers import check_claim_header, encode
from agent.ports.keys import TokenError
from tests.kit.tokens import ISSUER, WALL, claims, issuer_settings

NOW = 50.0


def identify(payload: dict[str, Any], **settings: Any) -> Any:
    return ClaimRules("main", issuer_settings(**settings)).identify(payload, now=NOW, wall=WALL)


def refuses(payload: dict[str, Any], why: str = "", **settings: Any) -> None:
    with pytest.raises(TokenError) as caught:
        identify(payload, **settings)
    assert caught.value.code == "token_invalid"
    assert why in str(caught.value)


NO_DATE = [None, True, False, -1, -0.5, "", "1800000000", [], [1], {}, {"a": 1}, 10**400, 1e300]
NO_TEXT = [None, True, False, 0, 1, 1.5, [], ["jane"], [["jane"]], {}, {"a": "jane"}, 10**400]
NO_AUDIENCE = [None, True, 1, "", [], [1], ["orders", 1], ["orders", None], [["orders"]], {}, {"orders": "orders"}]


@pytest.mark.parametrize("value", NO_DATE, ids=str)
@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
def test_dates_of_wrong_types_are_refused(name: str, value: object) -> None:
    refuses(claims(**{name: value}), f"'{name}' is no date", require_exp=False)


@pytest.mark.parametrize("value", NO_TEXT, ids=str)
@pytest.mark.parametrize("name", ["iss", "sub", "jti"])
def test_texts_of_wrong_types_are_refused(name: str, value: object) -> None:
    refuses(claims(**{name: value}), f"'{name}'")


@pytest.mark.parametrize("value", NO_AUDIENCE, ids=str)
def test_audiences_of_wrong_types_are_refused(value: object) -> None:
    refuses(claims(aud=value), "'aud'")


@pytest.mark.parametrize("name", ["iss", "aud", "exp", "sub"])
def test_what_must_be_there(name: str) -> None:
    refuses(claims(**{name: ...}))


@pytest.mark.parametrize("name", ["iat", "nbf", "jti"])
def test_what_may_be_missing(name: str) -> None:
    identify(claims(**{name: ...}))


@pytest.mark.parametrize("aud", ["orders", ["orders"], ["billing", "orders"], ["orders"] * 3])
def test_audiences_intersect(aud: object) -> None:
    identify(claims(aud=aud))
    identify(claims(aud=aud), audiences=["x", "orders"])


@pytest.mark.parametrize("aud", ["billing", "Orders", "orders ", "order", "orders billing", ["billing"], "*", "ORDERS"])
def test_foreign_audiences_are_refused(aud: object) -> None:
    refuses(claims(aud=aud), "'aud'")


@pytest.mark.parametrize(
    ("changed", "settings", "code"),
    [
        ({"exp": WALL + 0.5}, {"leeway_s": 0}, ""),
        ({"exp": WALL}, {"leeway_s": 0}, "token_expired"),
        ({"exp": WALL - 29.9}, {}, ""),
        ({"exp": WALL - 30}, {}, "token_expired"),
        ({"exp": WALL - 1e6}, {}, "token_expired"),
        ({"exp": (WALL + 600) * 1000}, {}, "token_invalid"),
        ({"exp": 1e11}, {}, ""),
        ({"exp": 253402300799}, {}, ""),
        ({"exp": 253402300800}, {}, "token_invalid"),
        ({"exp": -1}, {}, "token_invalid"),
        ({"nbf": WALL + 30}, {}, ""),
        ({"nbf": WALL + 30.5}, {}, "token_invalid"),
        ({"nbf": WALL + 1}, {"leeway_s": 0}, "token_invalid"),
        ({"nbf": WALL}, {"leeway_s": 0}, ""),
        ({"iat": WALL + 30}, {}, ""),
        ({"iat": WALL + 31}, {}, "token_invalid"),
        ({"exp": ...}, {}, "token_invalid"),
        ({"exp": ...}, {"require_exp": False}, ""),
        ({"exp": None}, {"require_exp": False}, "token_invalid"),
        ({"iat": WALL - 1, "exp": WALL + 599}, {"max_lifetime_s": 600}, ""),
        ({"iat": WALL - 1, "exp": WALL + 600}, {"max_lifetime_s": 600}, "token_invalid"),
        ({"iat": ...}, {"max_lifetime_s": 600}, "token_invalid"),
        ({"iat": WALL - 629, "exp": ...}, {"max_lifetime_s": 600, "require_exp": False}, ""),
        ({"iat": WALL - 630, "exp": ...}, {"max_lifetime_s": 600, "require_exp": False}, "token_expired"),
    ],
    ids=str,
)
def test_times(changed: dict[str, Any], settings: dict[str, Any], code: str) -> None:
    if not code:
        identify(claims(**changed), **settings)
        return
    with pytest.raises(TokenError) as caught:
        identify(claims(**changed), **settings)
    assert caught.value.code == code


def test_the_end_is_told_in_monotonic_seconds_with_the_leeway() -> None:
    assert identify(claims(exp=WALL + 100)).expires_at == NOW + 130
    assert identify(claims(exp=...), require_exp=False).expires_at == float("inf")
    lifetime = identify(claims(exp=..., iat=WALL - 10), require_exp=False, max_lifetime_s=60)
    assert lifetime.expires_at == NOW + 80


@pytest.mark.parametrize(
    ("path", "roles"),
    [
        ("realm_access.roles", {"a", "b"}),
        ("resource_access.orders.roles", {"c"}),
        (["resource_access", "my.client", "roles"], {"d"}),
        ("resource_access.my.client.roles", set()),
        (["https://shop.example/roles"], {"e"}),
        ("single", {"one role"}),
        ("missing.roles", set()),
        ("single.deeper", set()),
        ("nothing", set()),
        ("empty", set()),
        ("realm_access.roles.0", set()),
    ],
    ids=str,
)
def test_roles_are_found_where_providers_put_them(path: Any, roles: set[str]) -> None:
    payload = claims(
        realm_access={"roles": ["a", "b"]},
        resource_access={"orders": {"roles": ["c"]}, "my.client": {"roles": ["d"]}},
        single="one role",
        nothing=None,
        empty=["", ""],
    )
    payload["https://shop.example/roles"] = ["e"]
    assert identify(payload, roles_from=[path]).roles == roles
    assert identify(payload, roles_from=[path, "realm_access.roles"]).roles == roles | {"a", "b"}


def test_without_roles_from_nobody_has_roles() -> None:
    assert identify(claims(roles=["admin"], realm_access={"roles": ["admin"]})).roles == frozenset()


@pytest.mark.parametrize("value", [1, True, {"a": 1}, ["a", 1], [["a"]], [None], 1.5], ids=str)
def test_roles_and_scopes_of_other_types_are_refused(value: object) -> None:
    refuses(claims(r=value), "no list of strings", roles_from=["r"])
    refuses(claims(scope=value), "no list of strings")


@pytest.mark.parametrize(
    ("value", "scopes"),
    [
        ("a b", {"a", "b"}),
        ("  a   b ", {"a", "b"}),
        ("", set()),
        (["a", "b"], {"a", "b"}),
        (["a b"], {"a b"}),
        (None, set()),
        ("a\tb", {"a\tb"}),
    ],
    ids=str,
)
def test_scopes(value: object, scopes: set[str]) -> None:
    assert identify(claims(scope=value)).scopes == scopes
    assert identify(claims(scp=value, scope="x"), scopes_from=["scp"]).scopes == scopes


def test_a_scope_with_a_blank_stays_one_in_the_header() -> None:
    assert b"x-outrigger-scopes: a%20b c\r\n" in identify(claims(scope=["a b", "c"])).headers


def test_a_tenant_that_is_asked_for_must_be_there() -> None:
    assert identify(claims(org={"id": "t1"}), tenant_from="org.id").tenant == "t1"
    for value in ({}, {"id": ""}, {"id": 7}, {"id": None}, "t1", None):
        refuses(claims(org=value), "tenant_from", tenant_from="org.id")


def test_the_subject_may_be_another_claim() -> None:
    payload = claims(sub=..., client_id="batch")
    refuses(payload, "subject_from")
    assert identify(payload, subject_from="client_id").subject == "batch"


def test_bound_tokens_are_refused_unless_configured() -> None:
    payload = claims(cnf={"jkt": "abc"})
    refuses(payload, "cnf")
    identify(payload, accept_bound_tokens=True)


@pytest.mark.parametrize(
    "value",
    [
        "a\r\nx-outrigger-roles: admin",
        "a\nb",
        "a\rb",
        "a\x00b",
        "a,b",
        "ü",
        "a b",
        "a%0d%0ab",
        '"',
        "<x>",
        "a;b",
        "\x7f",
    ],
)
def test_claims_can_not_inject_into_headers(value: str) -> None:
    made = identify(
        claims(sub=value, org=value, roles=[value], scope=[value], email=value),
        tenant_from="org",
        roles_from=["roles"],
        claim_headers={"x-email": "email"},
    )
    assert made.headers.count(b"\r\n") == 6
    for line in made.headers.removesuffix(b"\r\n").split(b"\r\n"):
        name, _, text = line.partition(b": ")
        assert name.replace(b"-", b"").isalpha()
        assert all(33 <= byte < 127 and byte not in b',"<>;' for byte in text), line
    assert made.subject == value


@pytest.mark.parametrize("text", ["jane", "auth0|5f7", "https://x.example/u/1", "j@e.x", "A-Z_0.9~"])
def test_ordinary_values_stay_readable(text: str) -> None:
    assert encode(text) == text


@pytest.mark.parametrize(
    ("value", "header"),
    [
        ("a,b", b"a%2Cb"), (["a,b", "c"], b"a%2Cb,c"), (7, b"7"), (1.5, b"1.5"), (True, b"true"), (False, b"false"),
        (10**4000, b"1" + b"0" * 4000),
    ],
    ids=range(7),
)  # fmt: skip
def test_claim_headers(value: object, header: bytes) -> None:
    made = identify(claims(x=value), claim_headers={"x-claim": "x"})
    assert made.headers.endswith(b"\r\nx-claim: " + header + b"\r\n")


@pytest.mark.parametrize("value", [{"a": 1}, [1], [{"a": 1}]])
def test_claims_without_a_form_for_headers_are_refused(value: object) -> None:
    refuses(claims(x=value), "no form for a header", claim_headers={"x-claim": "x"})


@pytest.mark.parametrize("value", [None, "", []])
def test_empty_claims_make_no_header(value: object) -> None:
    assert b"x-claim" not in identify(claims(x=value), claim_headers={"x-claim": "x"}).headers


@pytest.mark.parametrize(
    "name",
    [
        "", "X-Email", "x_email", "x email", "x-email:", "x\r\n", "host", "connection", "content-length",
        "content-type",
        "transfer-encoding", "authorization", "cookie", "x-forwarded-for", "forwarded", "traceparent", "te", "upgrade",
        "x-outrigger-subject", "x-outrigger-anything", "proxy-authorization", "expect", "-x", "x" * 65, "é",
    ],
)  # fmt: skip
def test_claim_headers_have_names_of_their_own(name: str) -> None:
    with pytest.raises(ValueError, match=r"header name|meaning of its own"):
        check_claim_header(name)


def test_the_issuer_is_compared_exactly() -> None:
    assert identify(claims()).issuer == "main"
    refuses(claims(iss=ISSUER + "/"), "'iss'")
