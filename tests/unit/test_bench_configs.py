"""Configurations of the backend and all peers: every placeholder filled, and the same policies in each."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.config.root import Config
from bench import outrigger_config, peers, render, tokens
from bench.backend import SMALL_BYTES, body
from bench.outrigger_config import VARIANTS, Places

PLACES = Places(inbound=1, admin=2, local=3, backend=4, jwks=Path("/keys.json"))


@pytest.fixture
def setting(tmp_path: Path) -> peers.Setting:
    credentials = tokens.Credentials(Path("/k.json"), Path("/k.pem"), "TOKEN", Path("/fresh"))
    return peers.Setting(tmp_path, tmp_path, 4711, credentials, 0)


def rendered(setting: peers.Setting, name: str, variant: str) -> str:
    peer = peers.PEERS[name](setting, variant)
    peer.port = 8080
    command = peer.command(setting.folder)
    path = command[command.index("-c" if "-c" in command else "-f") + 1]
    return Path(path).read_text()


def test_placeholders_are_filled_and_at_signs_kept() -> None:
    assert render.render("a @{x} @@b $c ${d} %[e]", {"x": 5}) == "a 5 @b $c ${d} %[e]"


def test_missing_placeholder_is_named() -> None:
    with pytest.raises(ValueError, match=r"wants @\{port\}, known are: dir, x"):
        render.render("listen @{port};", {"x": 1, "dir": 2})


@pytest.mark.parametrize("variant", ["bare", "full"])
@pytest.mark.parametrize("name", ["nginx", "haproxy", "envoy"])
def test_every_template_renders(setting: peers.Setting, name: str, variant: str) -> None:
    text = rendered(setting, name, variant)
    assert "4711" in text
    assert "8080" in text
    assert "@{" not in text


@pytest.mark.parametrize("name", ["nginx", "haproxy", "envoy"])
def test_bare_has_no_policies(setting: peers.Setting, name: str) -> None:
    text = rendered(setting, name, "bare").lower()
    words = ("jwt", "limit_req", "ratelimit", "stick-table", "access_log /", "log-format", "rbac")
    assert [word for word in words if word in text] == []


def test_envoy_verifies_and_limits_before_it_forwards(setting: peers.Setting) -> None:
    config: Any = yaml.safe_load(rendered(setting, "envoy", "full"))
    manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    names = [part["name"].rsplit(".", 1)[1] for part in manager["http_filters"]]
    assert names == ["jwt_authn", "rbac", "local_ratelimit", "router"]
    provider = manager["http_filters"][0]["typed_config"]["providers"]["main"]
    assert (provider["issuer"], provider["audiences"]) == (tokens.ISSUER, [tokens.AUDIENCE])
    assert provider["jwt_cache_config"]["jwt_cache_size"] >= 100
    assert manager["access_log"]


def test_unknown_variant_is_refused_with_the_known_ones(setting: peers.Setting) -> None:
    with pytest.raises(ValueError, match="only bare, full"):
        peers.Nginx(setting, "jwt")


def test_backend_body_has_its_size() -> None:
    assert len(body(SMALL_BYTES)) == SMALL_BYTES
    assert yaml.safe_load(body(SMALL_BYTES))["id"] == 42


@pytest.mark.parametrize(
    ("variant", "policies"),
    [
        ("bare", set[str]()),
        ("jwt", {"issuers"}),
        ("role", {"issuers", "roles"}),
        ("rate_limit", {"rate_limits"}),
        ("breaker", {"circuit_breaker"}),
        ("trace", {"sampling"}),
        ("log", {"access_log"}),
        ("full", {"issuers", "roles", "rate_limits", "circuit_breaker", "sampling", "access_log"}),
    ],
)
def test_outrigger_has_exactly_the_variants_policies(variant: str, policies: set[str]) -> None:
    made = outrigger_config.build(VARIANTS[variant], PLACES)
    (route,) = made["routes"]
    found = {name for name in ("rate_limits", "circuit_breaker") if name in route}
    found |= {"issuers"} if "issuers" in made and route["auth"] != "none" else set()
    found |= {"roles"} if "roles" in route["auth"] else set()
    found |= {"sampling"} if made["telemetry"]["traces"]["sample_ratio"] else set()
    found |= {"access_log"} if made["telemetry"]["logs"]["access"] else set()
    assert found == policies


@pytest.mark.parametrize("variant", VARIANTS)
def test_outrigger_takes_every_variant(variant: str) -> None:
    Config.model_validate(outrigger_config.build(VARIANTS[variant], PLACES))


def test_limit_is_per_subject_only_where_there_is_one() -> None:
    keys = {
        name: outrigger_config.build(VARIANTS[name], PLACES)["routes"][0]["rate_limits"][0]["key"]
        for name in ("full", "rate_limit")
    }
    assert keys == {"full": ["subject"], "rate_limit": ["ip"]}


def test_own_configuration_moves_to_the_benchs_ports_and_stays_itself() -> None:
    given = {"app": {"url": "http://x", "health": "/h"}, "routes": [1], "listen": {"outbound": {"port": 9}}}
    made = outrigger_config.moved(given, PLACES)
    assert made["app"] == {"url": "http://127.0.0.1:4", "health": "/h"}
    assert made["routes"] == [1]
    assert made["listen"]["inbound"] == {"host": "127.0.0.1", "port": 1}
    assert made["listen"]["outbound"] == {"port": 9}
    assert given["app"] == {"url": "http://x", "health": "/h"}


def test_variants_that_verify_are_the_ones_that_are_checked() -> None:
    assert peers.Outrigger.demands_token == {"jwt", "role", "full"}
    assert peers.Envoy.demands_token == peers.Haproxy.demands_token == {"full"}
    assert peers.Nginx.demands_token == peers.Direct.demands_token == frozenset()
