"""From text to a configuration, or to findings that say what is wrong, where, and what would be right."""

from pathlib import Path
from typing import NamedTuple

import pytest

from agent.config.errors import ConfigError, Finding, dotted, render, summary
from agent.config.load import load, loads
from agent.config.root import Config

APP = 'app: {url: "http://127.0.0.1:8000"}\n'
ISSUER = "issuers: {main: {issuer: https://sso.example, audiences: [a]}}\n"
ROLES = ISSUER.replace("[a]", "[a], roles_from: [roles]")
UPSTREAM = 'upstreams: {search: {targets: ["http://10.1.1.1:80"]}}\n'
SECRET = "0123456789abcdef0123456789abcdef"


def good(text: str, **environ: str) -> Config:
    return loads(text, file="f.yaml", environ=environ)


def bad(text: str, **environ: str) -> tuple[Finding, ...]:
    with pytest.raises(ConfigError) as caught:
        loads(text, file="f.yaml", environ=environ)
    return caught.value.findings


class Wrong(NamedTuple):
    """A mistake, and what must be said about it: path, line, and words of message and remedy."""

    text: str
    path: str
    line: int
    words: list[str]


MODELS = [
    Wrong("ap: {}\n", "ap", 1, ["unknown key", "Did you mean `app`?"]),
    Wrong(APP + "brokers: {events: {kind: memory}}\n", "brokers", 2, ["unknown key", "Allowed here: service, app"]),
    Wrong("app: {}\n", "app.url", 1, ["is required", "http://HOST:PORT"]),
    Wrong("app: {url: localhost:8000}\n", "app.url", 1, ["is no address", "http://HOST:PORT"]),
    Wrong("app: http://h\n", "app", 1, ["must be a mapping", 'given: "http://h"']),
    Wrong(APP + "workers: 0\n", "workers", 2, ["at least 1", "given: 0"]),
    Wrong(APP + "workers: two\n", "workers", 2, ["a whole number", 'given: "two"']),
    Wrong(APP + "workers: 1.5\n", "workers", 2, ["a whole number", "given: 1.5"]),
    Wrong(APP + "listen:\n  inbound:\n    port: 70000\n", "listen.inbound.port", 4, ["at most 65535"]),
    Wrong(APP + "limits: {header_timeout_s: -1}\n", "limits.header_timeout_s", 2, ["greater than 0", "given: -1"]),
    Wrong(APP + "limits: {header_timeout_s: .nan}\n", "limits.header_timeout_s", 2, ["a number"]),
    Wrong(APP + "routes: [{name: a, timeout_s: inf}]\n", "routes[0].timeout_s", 2, ["a finite number", "`null`"]),
    Wrong(APP + "lifecycle: {drain_s: Infinity}\n", "lifecycle.drain_s", 2, ["a finite number"]),
    Wrong(APP + "service: {version: 1.10}\n", "service.version", 2, ["must be text", "quotes"]),
    Wrong(APP + "trusted_proxies: 10.0.0.0/8\n", "trusted_proxies", 2, ["a list", "[10.0.0.0/8]"]),
    Wrong(APP + "trusted_proxies: [10.0.0.1/8]\n", "trusted_proxies[0]", 2, ["bits set", "10.0.0.0/8"]),
    Wrong(APP + "routes: {a: 1}\n", "routes", 2, ["must be a list"]),
    Wrong(APP + "routes:\n  - match: {}\n", "routes[0].name", 3, ["is required"]),
    Wrong(APP + "routes: [{name: a b}]\n", "routes[0].name", 2, ["of the form", 'given: "a b"']),
    Wrong(APP + "routes: [{name: a, mode: shado}]\n", "routes[0].mode", 2, ["one of: enforce, shadow", "`shadow`"]),
    Wrong(
        APP + "routes: [{name: a, auth: nome}]\n",
        "routes[0].auth",
        2,
        ["one of: none, deny or a mapping", "Did you mean `none`"],
    ),
    Wrong(APP + ISSUER + "routes: [{name: a, auth: {role: {any: [x]}}}]\n", "routes[0].auth.role", 3, ["`roles`"]),
    Wrong(
        APP + ISSUER + "routes: [{name: a, auth: {roles: {any: x}}}]\n",
        "routes[0].auth.roles.any",
        3,
        ["must be a list", "Write [x]"],
    ),
    Wrong(APP + "routes: [{name: a, match: {path: orders}}]\n", "routes[0].match.path", 2, ["begins with '/'"]),
    Wrong(
        APP + "routes: [{name: a, retry: {on: [connect, conect]}}]\n",
        "routes[0].retry.on[1]",
        2,
        ["connect, reset", "a whole number", "Did you mean `connect`?"],
    ),
    Wrong(
        APP + "routes:\n  - name: a\n    rate_limits:\n      - {name: l, limit: 5, per_s: 6o}\n",
        "routes[0].rate_limits[0].per_s",
        5,
        ["must be a number", 'given: "6o"'],
    ),
    Wrong(APP + "listen: {local: {unix: /s, port: 1}}\n", "listen.local", 2, ["not on both"]),
    Wrong(APP + "listen: {local: {unix: s}}\n", "listen.local", 2, ["absolute path"]),
    Wrong(
        APP + "listen: {inbound: {tls: {cert_file: c, key_file: k, client_cert: required}}}\n",
        "listen.inbound.tls",
        2,
        ["needs client_ca_file"],
    ),
    Wrong(
        APP + "issuers: {main: {issuer: https://s, audiences: [a], algorithms: [RS265]}}\n",
        "issuers.main.algorithms[0]",
        2,
        ["RS256", "Did you mean `RS256`?"],
    ),
    Wrong(
        APP + "issuers: {main: {issuer: https://s, audiences: [a], algorithms: [HS256]}}\n",
        "issuers.main",
        2,
        ["HS256 needs `secret`"],
    ),
    Wrong(APP + 'upstreams: {"a b": {targets: ["http://h"]}}\n', 'upstreams."a b"', 2, ["of the form"]),
    Wrong(APP + "upstreams: {a: {targets: []}}\n", "upstreams.a.targets", 2, ["a list of at least 1, but has 0"]),
    Wrong(
        APP + ISSUER + "routes: [{name: a, auth: {roles: [reader, x]}}]\n",
        "routes[0].auth.roles",
        3,
        ["must be a mapping", "Write {any: [reader, x]}."],
    ),
    Wrong(APP + 'app2: "${X"\n', "app2", 2, ["without its `}`"]),
]

ACROSS = [
    Wrong("service: {name: a}\n", "app", 1, ["nothing to forward to", "app: {url:"]),
    Wrong(APP + "routes: [{name: a}, {name: a}]\n", "routes[1].name", 2, ["another route has this name"]),
    Wrong(
        APP + "routes: [{name: a, upstream: serch}]\n" + UPSTREAM, "routes[0].upstream", 2, ["no upstream", "`search`"]
    ),
    Wrong(APP + "routes: [{name: a, mirror: m}]\n", "routes[0].mirror", 2, ["no upstream has this name"]),
    Wrong(
        APP + "routes: [{name: a, split: [{upstream: search}, {upstream: x}]}]\n" + UPSTREAM,
        "routes[0].split[1].upstream",
        2,
        ["no upstream"],
    ),
    Wrong(
        APP + "routes: [{name: a, split: [{upstream: app}, {upstream: app}]}]\n",
        "routes[0].split[1].upstream",
        2,
        ["in the split already"],
    ),
    Wrong(
        APP + "routes: [{name: a, split: [{upstream: app, weight: 0}]}]\n", "routes[0].split", 2, ["all weights are 0"]
    ),
    Wrong(
        APP + "routes: [{name: a, upstream: search, split: [{upstream: app}]}]\n" + UPSTREAM,
        "routes[0].split",
        2,
        ["exclude each other"],
    ),
    Wrong(APP + "routes: [{name: a, sticky_by: ip}]\n", "routes[0].sticky_by", 2, ["without `split`"]),
    Wrong("routes: [{name: a}]\n" + UPSTREAM, "routes[0].upstream", 1, ["leads nowhere"]),
    Wrong("routes: [{name: a, upstream: app}]\n" + UPSTREAM, "routes[0].upstream", 1, ["no application"]),
    Wrong(APP + "routes: [{name: a, auth: {}}]\n", "routes[0].auth", 2, ["no issuers", "auth: none"]),
    Wrong(
        APP + "routes: [{name: a, auth: {roles: {any: [x]}}}]\n",
        "routes[0].auth",
        2,
        ["asks for a token, but no issuers"],
    ),
    Wrong(
        APP + ISSUER + "routes: [{name: a, auth: {issuers: [mian]}}]\n",
        "routes[0].auth.issuers[0]",
        3,
        ["no issuer has this name", "Did you mean `main`?"],
    ),
    Wrong(
        APP + ROLES + "routes: [{name: a, auth: {optional: true, roles: {any: [x]}}}]\n",
        "routes[0].auth.optional",
        3,
        ["optional does nothing"],
    ),
    Wrong(
        APP + "workers: 4\nroutes: [{name: a, rate_limits: [{name: l, limit: 3, per_s: 60}]}]\n",
        "routes[0].rate_limits[0].limit",
        3,
        ["can't be shared by 4 workers"],
    ),
    Wrong(
        APP + ISSUER + "routes: [{name: a, auth: {roles: {any: [x]}}}]\n",
        "routes[0].auth.roles",
        3,
        ["no issuer here has roles_from: nobody could pass", "realm_access.roles"],
    ),
    Wrong(
        APP + "routes: [{name: a, match: {methods: [GET, pots]}}]\n",
        "routes[0].match.methods[1]",
        2,
        ["never forwarded: it is none that is registered", "Did you mean `POST`?"],
    ),
    Wrong(
        APP + "routes: [{name: a, match: {methods: [CONNECT]}}]\n",
        "routes[0].match.methods[0]",
        2,
        ["never forwarded", "never gets such a request", 'given: "CONNECT"'],
    ),
    Wrong(
        APP + f"issuers:\n  m: {{issuer: https://s, audiences: [a], jwks: {{file: {__file__}}}}}\n",
        "issuers.m.jwks.file",
        3,
        ["is no strict JSON", "jwks_uri"],
    ),
    Wrong(
        APP + "issuers: {m: {issuer: https://s, audiences: [a], jwks: {keys: [{kty: EC}]}}}\n",
        "issuers.m.jwks.keys",
        2,
        ["no usable key"],
    ),
    Wrong(
        APP + f"listen: {{inbound: {{tls: {{cert_file: {__file__}, key_file: {__file__}}}}}}}\n",
        "listen.inbound.tls",
        2,
        [__file__],
    ),
    Wrong(
        APP + "issuers:\n  a: {issuer: https://s, audiences: [x]}\n  b: {issuer: https://s, audiences: [y]}\n"
        "routes: [{name: r, auth: {issuers: [a]}}]\n",
        "issuers.b.issuer",
        4,
        ["a and b are both https://s", "several audiences"],
    ),
    Wrong(
        APP + "routes: [{name: a, rate_limits: [{name: l, limit: 1, per_s: 1}, {name: l, limit: 2, per_s: 9}]}]\n",
        "routes[0].rate_limits[1].name",
        2,
        ["another limit has this name"],
    ),
    Wrong(
        APP + "routes: [{name: a, timeout_s: 2, timeouts: {timeout_s: 3}}]\n",
        "routes[0].timeouts.timeout_s",
        2,
        ["given twice"],
    ),
    Wrong(
        APP + "routes: [{name: a, timeout_s: 2, retry: {per_try_timeout_s: 3}}]\n",
        "routes[0].retry.per_try_timeout_s",
        2,
        ["longer than all tries", "less than 2"],
    ),
    Wrong(
        APP + 'routes: [{name: a, match: {path: "/x/{id}"}, rewrite: {path: "/{nr}"}}]\n',
        "routes[0].rewrite.path",
        2,
        ["nr"],
    ),
    Wrong(
        APP + "listen: {inbound: {port: 4501}}\n", "listen.admin.port", 2, ["listen.inbound is on 0.0.0.0:4501 already"]
    ),
    Wrong(APP + "listen: {local: {unix: /s}, admin: {unix: /s}}\n", "listen.admin.unix", 2, ["is on unix:/s already"]),
    Wrong(APP + UPSTREAM + "listen: {inbound: {port: 4502}}\n", "listen.outbound.port", 3, ["already"]),
    Wrong('app: {url: "http://localhost:8080"}\n', "app.url", 1, ["the sidecar would call itself"]),
    Wrong('app: {url: "unix:/s"}\nlisten: {inbound: {unix: /s}}\n', "app.url", 1, ["would call itself"]),
    Wrong(APP + 'upstreams: {a: {targets: ["http://127.0.0.1:4502"]}}\n', "upstreams.a.targets[0]", 2, ["call itself"]),
    Wrong(APP + 'upstreams: {app: {targets: ["http://h"]}}\n', "upstreams.app", 2, ["it means the application"]),
    Wrong(
        APP + 'upstreams: {a: {targets: ["http://h"]}, A: {targets: ["http://i"]}}\n',
        "upstreams.A",
        2,
        ["only in case"],
    ),
    Wrong(
        APP + 'upstreams: {a: {targets: ["http://h"]}, b: {targets: ["http://i"], hosts: [a]}}\n',
        "upstreams.b.hosts[0]",
        2,
        ["`a` is addressed by this name"],
    ),
    Wrong(
        APP + 'upstreams: {a: {targets: ["http://h"], timeout_s: 1, retry: {per_try_timeout_s: 3}}}\n',
        "upstreams.a.retry.per_try_timeout_s",
        2,
        ["longer than all tries"],
    ),
]


@pytest.mark.parametrize("wrong", MODELS + ACROSS, ids=lambda wrong: f"{wrong.path}: {wrong.words[0]}")
def test_one_mistake_is_one_finding_with_its_place_and_remedy(wrong: Wrong) -> None:
    found = bad(wrong.text)
    errors = [finding for finding in found if finding.severity == "error"]
    assert [(finding.path, finding.line) for finding in errors] == [(wrong.path, wrong.line)], found
    said = render("f.yaml", errors)
    assert [word for word in wrong.words if word not in said] == [], said


WARNINGS = [
    Wrong(APP + "routes: [{name: a}, {name: b, match: {path: /x}}]\n", "routes[1]", 2, ["never reached: route `a`"]),
    Wrong(
        APP + "routes: [{name: a, mirror: search, upstream: search}]\n" + UPSTREAM,
        "routes[0].mirror",
        2,
        ["own destination"],
    ),
    Wrong(
        APP + "routes: [{name: a, rate_limits: [{name: l, limit: 1, per_s: 1, key: [subject]}]}]\n",
        "routes[0].rate_limits[0].key",
        2,
        ["no issuers are configured", "key: [ip]"],
    ),
    Wrong(
        APP + "routes: [{name: a, rate_limits: [{name: l, limit: 9, per_s: 1}, {name: m, limit: 1, per_s: 9}]}]\n",
        "routes[0].rate_limits[0]",
        2,
        ["never reached: `m`"],
    ),
    Wrong(
        APP + "routes: [{name: a, timeouts: {timeout_s: 9, max_duration_s: 3}}]\n",
        "routes[0].timeouts.max_duration_s",
        2,
        ["before timeout_s (9)"],
    ),
    Wrong(
        APP + "routes: [{name: a, timeout_s: 60, circuit_breaker: {probe_timeout_s: 9}}]\n",
        "routes[0].circuit_breaker.probe_timeout_s",
        2,
        ["(60)"],
    ),
    Wrong(
        APP + "routes: [{name: a, timeout_s: 1, concurrency: {queue_timeout_s: 9}}]\n",
        "routes[0].concurrency.queue_timeout_s",
        2,
        ["timeout_s is 1"],
    ),
    Wrong(
        APP + "routes: [{name: a, timeout_s: 1, timeouts: {connect_timeout_s: 9}}]\n",
        "routes[0].timeouts.connect_timeout_s",
        2,
        ["timeout_s is 1"],
    ),
    Wrong(APP + 'trusted_proxies: ["0.0.0.0/0"]\n', "trusted_proxies[0]", 2, ["everyone is trusted"]),
    Wrong(APP + "listen: {admin: {host: 0.0.0.0}}\n", "listen.admin.host", 2, ["without a token", "admin.token"]),
    Wrong(APP + "listen: {local: {host: '::'}}\n", "listen.local.host", 2, ["from other machines"]),
    Wrong(
        APP + "workers: 4\nroutes: [{name: a, rate_limits: [{name: l, limit: 10, per_s: 60}]}]\n",
        "routes[0].rate_limits[0].limit",
        3,
        ["each of 4 workers gives out 2 per 60 s", "all together 8 of 10", "larger multiple of 4"],
    ),
    Wrong(
        APP + UPSTREAM + "listen: {outbound: {host: 0.0.0.0}}\n", "listen.outbound.host", 3, ["may use the upstreams"]
    ),
    Wrong(
        APP + ISSUER + "routes: [{name: a, auth: {roles: {none: [x]}}}]\n",
        "routes[0].auth.roles",
        3,
        ["no issuer here has roles_from: everybody could pass"],
    ),
    Wrong(
        APP + ISSUER + "routes: [{name: a, auth: {roles: {any: [x]}, mode: shadow}}]\n",
        "routes[0].auth.roles",
        3,
        ["nobody could pass"],
    ),
    Wrong(
        APP + ISSUER + "routes: [{name: a, rate_limits: [{name: l, limit: 1, per_s: 1, key: [tenant]}]}]\n",
        "routes[0].rate_limits[0].key",
        3,
        ["no issuer has tenant_from"],
    ),
    Wrong(
        APP
        + ISSUER
        + "routes: [{name: a, auth: deny, rate_limits: [{name: l, limit: 1, per_s: 1, key: [subject]}]}]\n",
        "routes[0].rate_limits[0].key",
        3,
        ["`auth` is deny"],
    ),
    Wrong(
        APP + "listen: {inbound: {tls: {cert_file: /no/c, key_file: /dev/null}}}\n",
        "listen.inbound.tls.cert_file",
        2,
        ["no such file"],
    ),
    Wrong(
        APP + "issuers: {m: {issuer: https://s, audiences: [a], jwks: {file: /no/j}}}\n",
        "issuers.m.jwks.file",
        2,
        ["no such file"],
    ),
    Wrong(
        APP + 'upstreams: {a: {targets: ["https://h"], tls: {ca_file: /no/ca}}}\n',
        "upstreams.a.tls.ca_file",
        2,
        ["no such file"],
    ),
]


@pytest.mark.parametrize("wrong", WARNINGS, ids=lambda wrong: f"{wrong.path}: {wrong.words[0]}")
def test_doubts_are_warnings_and_the_configuration_is_used(wrong: Wrong) -> None:
    warnings = good(wrong.text).warnings
    places = {(finding.path, finding.line) for finding in warnings if finding.severity == "warning"}
    assert (wrong.path, wrong.line) in places, warnings
    said = render("f.yaml", warnings)
    assert [word for word in wrong.words if word not in said] == [], said


FINE = [
    APP,
    APP + "listen: {admin: {host: 0.0.0.0}}\nadmin: {token: 0123456789abcdef}\n",
    APP + "listen: {inbound: {port: 0}, local: {port: 0}, admin: {port: 0}}\n",
    APP + "listen: {inbound: {host: 10.0.0.1, port: 4501}}\n",
    APP + "listen: {inbound: {port: 4502}}\n",
    APP + "routes: [{name: a, match: {path: /x}}, {name: b}]\n",
    APP + "routes: [{name: a, match: {path: /x, methods: [POST]}}, {name: b, match: {path: /x}}]\n",
    APP + 'routes: [{name: a, match: {path: "/x/{id}"}}, {name: b, match: {path: /x/**}}]\n',
    APP + "routes: [{name: a, match: {headers: {x-a: '1'}}}, {name: b}]\n",
    APP + ISSUER + "routes: [{name: a, auth: {optional: true}}]\n",
    APP + "routes: [{name: a, auth: deny}]\n",
    APP + "workers: 4\nroutes: [{name: a, rate_limits: [{name: l, limit: 20, per_s: 60}]}]\n",
    APP + ROLES + "routes: [{name: a, auth: {roles: {any: [x]}}}]\n",
    APP + UPSTREAM + "listen: {outbound: {unix: /run/out.sock}}\n",
    APP + "listen: {outbound: {host: 0.0.0.0}}\n",
    APP + "routes: [{name: a, match: {methods: [get, PROPFIND, M-SEARCH]}}]\n",
    APP
    + ISSUER.replace("[a]", "[a], tenant_from: t")
    + "routes: [{name: a, rate_limits: [{name: l, limit: 1, per_s: 1, key: [tenant]}]}]\n",
    APP + "routes: [{name: a, upstream: app}]\n",
    APP + "retired: &r {attempts: 2}\n".replace("retired", "x-retired") + "routes: [{name: a, retry: *r}]\n",
    UPSTREAM,
    "app: {url: 'unix:/run/app.sock'}\n",
    APP + f"issuers: {{m: {{issuer: x, audiences: [a], algorithms: [HS256], secret: {SECRET}}}}}\n",
]  # fmt: skip


@pytest.mark.parametrize("text", FINE)
def test_what_is_right_has_no_findings(text: str) -> None:
    assert good(text).warnings == ()


def test_everything_wrong_is_told_at_once_and_in_the_order_of_the_file() -> None:
    found = bad(
        "service: {nam: x}\n"
        "app: {url: 'http://a:1'}\n"
        "listen: {inbound: {port: '${PORT}'}, admin: {port: -1}}\n"
        "workers: 1\n"
        "workers: 2\n"
        "issuers: {main: {issuer: https://s, audiences: [a], algorithms: [none]}}\n"
        "routes:\n"
        "  - {name: a, timeout_s: -1, upstream: nowhere}\n"
        "  - {nam: b}\n"
        "  - {name: a, auth: {issuers: [main, mian]}}\n"
    )
    assert [(finding.line, finding.path) for finding in found] == [
        (1, "service.nam"),
        (3, "listen.inbound.port"),
        (3, "listen.admin.port"),
        (5, "workers"),
        (6, "issuers.main.algorithms[0]"),
        (8, "routes[0].timeout_s"),
        (8, "routes[0].upstream"),
        (9, "routes[1].name"),
        (9, "routes[1].nam"),
        (10, "routes[2].name"),
        (10, "routes[2].auth.issuers[1]"),
    ]


def test_a_wrong_issuer_is_not_also_a_missing_one() -> None:
    text = APP + "issuers: {main: {issuer: https://s}}\nroutes: [{name: a, auth: {issuers: [main]}}]\n"
    assert [finding.path for finding in bad(text)] == ["issuers.main.audiences"]


def test_a_missing_variable_is_not_also_a_missing_key() -> None:
    assert [finding.path for finding in bad('app: {url: "http://${HOST}:1"}\n')] == ["app.url"]


def test_the_errors_of_the_member_that_was_meant() -> None:
    """`auth` is `none` or a mapping: a mapping with a mistake isn't told that it should be `none`."""
    (finding,) = bad(APP + ISSUER + "routes: [{name: a, auth: {issuers: main, optional: 7}}]\n")[:1]
    assert "none" not in finding.message


def test_places_of_things_that_came_by_an_alias() -> None:
    (finding,) = bad(APP + "x-r: &r {attempts: 99}\nroutes: [{name: a, retry: *r}]\n")
    assert (finding.path, finding.line) == ("routes[0].retry.attempts", 2)


def test_secrets_are_never_shown(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("hunter2hunter2\n")
    text = (
        APP
        + "workers: ${file:s}\n"
        + "routes: [{name: a, match: {path: '${file:s}'}}]\n"
        + "issuers: {m: {issuer: https://s, audiences: [a], secret: short-secret}}\n"
        + "admin: {token: short-token}\n"
    )
    (tmp_path / "f.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "f.yaml", environ={})
    said = str(caught.value) + repr(caught.value.findings)
    assert len(caught.value.findings) == 4
    assert [word for word in ("hunter2", "short-secret", "short-token") if word in said] == []
    assert said.count("***") >= 3


def test_the_place_of_yaml_that_cannot_be_read() -> None:
    (finding,) = bad('app: {url: "http://a"}\nroutes:\n  - {match: {path: /orders/{id}}}\n')
    assert (finding.line, finding.path) == (3, "")
    assert "quotes" in finding.remedy


@pytest.mark.parametrize(("text", "word"), [("- a\n", "mapping"), ("just text\n", "mapping"), ("5\n", "mapping")])
def test_the_file_holds_a_mapping(text: str, word: str) -> None:
    assert word in bad(text)[0].message


def test_an_empty_file_says_what_is_needed() -> None:
    assert "nothing to forward to" in bad("")[0].message


def test_a_file_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_bytes(b"\xef\xbb\xbf" + APP.encode())
    assert load(tmp_path / "f.yaml", environ={}).app is not None


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "no such file"), (b"app: \xff\n", "not UTF-8"), (b"", "nothing to forward to")],
)
def test_files_that_cannot_be_used(tmp_path: Path, content: bytes | None, words: str) -> None:
    file = tmp_path / "f.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        load(file, environ={})
    with pytest.raises(ConfigError, match="can't be read"):
        load(tmp_path, environ={})


def test_where_it_came_from(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("0123456789abcdef\n")
    (tmp_path / "f.yaml").write_text(APP + "admin: {token: '${file:token}'}\n")
    config = load(tmp_path / "f.yaml", environ={})
    assert config.file == str(tmp_path / "f.yaml")
    assert config.sources == (tmp_path / "f.yaml", tmp_path / "token")


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTRIGGER_TEST_PORT", "8123")
    assert loads(APP + "listen: {inbound: {port: '${OUTRIGGER_TEST_PORT}'}}\n").listen.inbound.port == 8123


@pytest.mark.parametrize(
    ("given", "meant"),
    [("true", True), ("yes", True), ("on", True), ("1", True), ("'no'", False), ("off", False), ("0", False)],
)
def test_words_for_truth_values(given: str, meant: bool) -> None:
    assert good(APP + f"reload: {{watch: {given}}}\n").reload.watch is meant


def test_a_reference_becomes_whatever_its_key_needs() -> None:
    config = good(
        APP + "workers: ${N}\ntelemetry: {logs: {access: '${B}'}, traces: {sample_ratio: '${R}'}}\n"
        "service: {version: '${N}'}\n",
        N="2",
        B="false",
        R="0.5",
    )
    assert (config.workers, config.telemetry.logs.access, config.telemetry.traces.sample_ratio) == (2, False, 0.5)
    assert config.service.version == "2"


def test_dotted_paths() -> None:
    assert dotted(("routes", 2, "rate_limits", 0, "per_s")) == "routes[2].rate_limits[0].per_s"
    assert dotted(("upstreams", "a.b", "targets")) == 'upstreams."a.b".targets'
    assert dotted(()) == ""


def test_summary_counts_in_words() -> None:
    error = Finding("a", 1, 1, "", "m")
    assert summary([error, error, error._replace(severity="warning")]) == "2 errors, 1 warning"
    assert summary([error]) == "1 error"


def test_five_thousand_routes_load_in_reasonable_work() -> None:
    """The look for covered routes must not compare all with all."""
    routes = "".join(f"  - {{name: r{i}, match: {{path: /api/v1/things{i}/**}}}}\n" for i in range(5000))
    assert len(good(APP + "routes:\n" + routes).routes) == 5000
