"""The root model: what it says of itself, and what its parts make of each other."""

import json
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from agent.config.coverage import Coverage
from agent.config.docstrings import meaning
from agent.config.errors import ConfigError
from agent.config.load import load, loads
from agent.config.models import every_model
from agent.config.root import Config
from agent.config.route import AuthSettings
from agent.config.schema import json_schema
from agent.config.suggest import did_you_mean, is_secret_name, listed
from agent.config.view import fingerprint
from agent.traffic.match import MatchSettings

APP = 'app: {url: "http://127.0.0.1:8000"}\n'
EXAMPLES = sorted((Path(__file__).parents[2] / "config").glob("*.yaml"))


def read(text: str) -> Config:
    return loads(text, environ={})


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_loads_without_a_doubt(path: Path) -> None:
    assert load(path, environ={}).warnings == ()


def test_the_examples_are_there() -> None:
    assert {path.name for path in EXAMPLES} >= {"minimal.yaml", "full.yaml", "gateway.yaml"}


def test_the_full_example_uses_every_section() -> None:
    config = load(next(path for path in EXAMPLES if path.name == "full.yaml"), environ={})
    assert set(Config.model_fields) - config.model_fields_set == set()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_fits_the_schema(path: Path) -> None:
    jsonschema.Draft202012Validator(json_schema()).validate(
        yaml.safe_load(path.read_text().replace(" on: ", " 'on': "))
    )


@pytest.mark.parametrize(
    "data",
    [
        {"app": {"url": "http://h"}, "brokers": {}},
        {"app": {"url": "http://h"}, "workers": 0},
        {"app": {"url": "http://h"}, "workers": "two"},
        {"app": {}},
        {"routes": [{"name": "a", "mode": "shado"}]},
        {"routes": [{"name": "a", "auth": "nobody"}]},
    ],
)
def test_the_schema_refuses_what_is_wrong(data: dict[str, Any]) -> None:
    assert not jsonschema.Draft202012Validator(json_schema()).is_valid(data)


@pytest.mark.parametrize(
    "data",
    [
        {"app": {"url": "${URL}"}, "workers": "${N:-2}", "x-anything": [1]},
        {"telemetry": {"logs": {"access": "${LOG}", "level": "${file:/level}"}}},
        {"limits": {"header_timeout_s": "${T}"}},
    ],
)
def test_the_schema_takes_references_anywhere(data: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(json_schema()).validate(data)


def test_the_schema_is_valid_and_describes_every_key() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    parts = {"": schema, **schema["$defs"]}
    bare = [
        f"{name}.{key}"
        for name, part in parts.items()
        for key, value in part.get("properties", {}).items()
        if "description" not in value and "$ref" not in value
    ]
    assert bare == []
    assert [name for name in schema["$defs"] if "__" in name] == []


def test_every_model_and_key_is_documented() -> None:
    models = every_model(Config)
    assert len(models) > 30
    bare = [f"{model.__name__}.{name}" for model in models for name in model.model_fields if not meaning(model, name)]
    assert bare + [model.__name__ for model in models if not model.__doc__] == []


def test_the_view_has_every_default_and_no_secret(tmp_path: Path) -> None:
    (tmp_path / "name").write_text("s3cret-name\n")
    (tmp_path / "f.yaml").write_text(
        'app: {url: "http://127.0.0.1:8000"}\n'
        "service: {name: '${file:name}', version: 'v s3cret-name', environment: '${DB_PASSWORD}'}\n"
        "workers: ${file:two}\n"
        "admin: {token: 0123456789abcdef}\n"
        "issuers: {m: {issuer: x, audiences: [a], algorithms: [HS256], secret: 0123456789abcdef0123456789abcdef}}\n"
        "routes: [{name: a, rewrite: {set_headers: {x-api-token: abcdef, x-from: gateway}}}]\n"
    )
    (tmp_path / "two").write_text("2")
    config = load(tmp_path / "f.yaml", environ={"DB_PASSWORD": "hunter2"})
    view = config.view()
    text = json.dumps(view)
    assert [secret for secret in ("s3cret", "hunter2", "0123456789abcdef", "abcdef") if secret in text] == []
    assert view["service"] == {"name": "***", "version": "***", "environment": "***"}
    assert (view["workers"], config.workers) == ("***", 2)
    assert view["routes"][0]["rewrite"]["set_headers"] == {"x-api-token": "***", "x-from": "gateway"}
    assert view["limits"]["head_bytes"] == 32768
    assert view["admin"]["token"] == view["issuers"]["m"]["secret"] == "***"
    assert view["tokens"]["max_token_bytes"] == 8192


def test_a_view_without_secrets_shows_that_there_are_none() -> None:
    view = read(APP).view()
    assert view["admin"]["token"] is None
    assert "***" not in json.dumps(view)


SAME = [
    (APP, APP + "workers: 1\n"),
    (APP, "# a comment\n" + APP),
    (APP + "workers: 2\nservice: {name: a}\n", "service: {name: a}\nworkers: 2\n" + APP),
    (APP, "app: {url: '${URL:-http://127.0.0.1:8000}'}\n"),
    (APP + "x-a: 1\n", APP),
]
OTHER = [
    (APP, APP + "workers: 2\n"),
    (APP + "admin: {token: 0123456789abcdef}\n", APP + "admin: {token: 0123456789abcdeg}\n"),
    (APP + "routes: [{name: a, match: {path: /a}}, {name: b}]\n", APP + "routes: [{name: b}, {name: a}]\n"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_the_fingerprint_is_of_the_values(one: str, other: str) -> None:
    assert fingerprint(read(one)) == read(other).fingerprint
    assert len(read(one).fingerprint) == 12


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_the_fingerprint_changes_with_any_value(one: str, other: str) -> None:
    assert read(one).fingerprint != read(other).fingerprint


COVERS = [
    ({}, {"path": "/a"}, True),
    ({"path": "/a"}, {"path": "/a"}, True),
    ({"path": "/a"}, {"path": "/b"}, False),
    ({"path": "/a/**"}, {"path": "/a"}, True),
    ({"path": "/a/**"}, {"path": "/a/"}, True),
    ({"path": "/a/**"}, {"path": "/a/b/{c}/**"}, True),
    ({"path": "/a/**"}, {"path": "/ab"}, False),
    ({"path": "/a"}, {"path": "/a/**"}, False),
    ({"path": "/{x}"}, {"path": "/a"}, True),
    ({"path": "/{x}"}, {"path": "/"}, False),
    ({"path": "/{x}"}, {"path": "/*"}, True),
    ({"path": "/a"}, {"path": "/{x}"}, False),
    ({"path": "/{x}"}, {"path": "/a/b"}, False),
    ({"path": "/{x}"}, {"path": "/a/**"}, False),
    ({"path": "/{x}/b"}, {"path": "/a/b"}, True),
    ({"path": "/{x}/**"}, {"path": "/a/{y}"}, True),
    ({"methods": ["GET"]}, {"methods": ["GET"]}, True),
    ({"methods": ["GET"]}, {"methods": ["HEAD"]}, True),
    ({"methods": ["GET"]}, {"methods": ["GET", "POST"]}, False),
    ({"methods": ["GET"]}, {}, False),
    ({}, {"methods": ["GET"]}, True),
    ({"host": "a.example"}, {"host": "a.example"}, True),
    ({"host": "a.example"}, {}, False),
    ({"host": "*.example"}, {"host": "a.example"}, True),
    ({"host": "*.example"}, {"host": "*.a.example"}, True),
    ({"host": "*.example"}, {"host": "example"}, False),
    ({"host": "*.example"}, {"host": "*.example"}, True),
    ({}, {"host": "a.example"}, True),
    ({"headers": {"x-a": "1"}}, {}, False),
    ({"headers": {"x-a": "1"}}, {"headers": {"x-a": "1"}}, True),
    ({"headers": {"x-a": "1"}}, {"headers": {"x-a": "2"}}, False),
    ({"headers": {"x-a": "*"}}, {"headers": {"x-a": "2"}}, True),
    ({"headers": {"x-a": "1"}}, {"headers": {"x-a": "*"}}, False),
    ({}, {"headers": {"x-a": "1"}}, True),
    ({"query": {"v": "1"}}, {"query": {"v": "1", "w": "2"}}, True),
    ({"query": {"v": "1", "w": "2"}}, {"query": {"v": "1"}}, False),
]


@pytest.mark.parametrize(("one", "other", "covers"), COVERS)
def test_which_routes_an_earlier_one_covers(one: dict[str, Any], other: dict[str, Any], covers: bool) -> None:
    coverage = Coverage()
    assert coverage.add("one", MatchSettings.model_validate(one)) == ""
    assert coverage.add("other", MatchSettings.model_validate(other)) == ("one" if covers else "")


def test_what_a_route_makes_of_its_short_forms() -> None:
    config = read(
        APP + "routes: [{name: a, timeout_s: 3, timeouts: {idle_timeout_s: 9}}, {name: b, match: {path: /b}}]\n"
    )
    first, second = config.routes
    assert (first.limits_of_time.timeout_s, first.limits_of_time.idle_timeout_s) == (3, 9)
    assert second.limits_of_time == second.timeouts


def test_what_a_token_policy_gets() -> None:
    auth = AuthSettings.model_validate({"optional": True, "realm": "shop", "mode": "shadow"})
    made = auth.token_settings(("main", "jobs"))
    assert (made.issuers, made.optional, made.realm, made.mode) == (("main", "jobs"), True, "shop", "shadow")
    assert AuthSettings.model_validate({"issuers": ["jobs"]}).token_settings(("main", "jobs")).issuers == ("jobs",)
    assert not auth.asks
    assert AuthSettings.model_validate({"scopes": {"any": ["a"]}}).asks


@pytest.mark.parametrize(
    "rewrite", ["set_headers: {X-Email: a}", "add_headers: {x_email: a}", "remove_headers: [x-email]"]
)
def test_a_header_of_claims_has_one_source(rewrite: str) -> None:
    issuer = "issuers: {m: {issuer: 'https://i', audiences: [a], claim_headers: {x-email: email}}}\n"
    with pytest.raises(ConfigError, match=r"(?i)x.email.*written from the tokens of issuer `m`"):
        read(APP + issuer + f"routes: [{{name: r, rewrite: {{{rewrite}}}}}]")
    read(APP + issuer + "routes: [{name: r, rewrite: {set_headers: {x-mail: a}}}]")


def test_the_bound_of_the_application() -> None:
    app = read(APP).app
    assert app is not None
    assert app.concurrency is not None
    assert (app.concurrency.max_in_flight, app.concurrency.max_queue) == (256, 128)
    unbounded = read('app: {url: "http://h", max_concurrency: 0}\n').app
    assert unbounded is not None
    assert unbounded.concurrency is None


@pytest.mark.parametrize(
    ("name", "is_secret"),
    [
        ("client_secret", True), ("secret", True), ("password", True), ("token", True), ("x-api-key", True),
        ("X-Auth-Token", True), ("secret_file", False), ("token_url", False), ("max_token_bytes", False),
        ("tokens", False), ("key", False), ("authorization", True), ("cookie", True),
    ],
)  # fmt: skip
def test_which_names_hide_their_values(name: str, is_secret: bool) -> None:
    assert is_secret_name(name) is is_secret


def test_suggestions() -> None:
    assert did_you_mean("rate-limit", ["rate_limits", "retry"]) == "Did you mean `rate_limits`?"
    assert did_you_mean("zzz", ["rate_limits", "retry"]) == ""
    assert listed(["a", "b", "c"], limit=2) == "a, b and 1 more"
