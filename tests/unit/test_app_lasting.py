"""What a reload may change in a running process, and what it says about the rest."""

from typing import Any

import pytest

from agent.assembly.lasting import in_force
from agent.config.root import Config

APP = {"url": "http://127.0.0.1:9"}
UPSTREAMS = {"u": {"targets": ["http://127.0.0.1:9"]}}

CASES: list[tuple[dict[str, Any], dict[str, Any], list[str]]] = [
    ({}, {}, []),
    ({}, {"trusted_proxies": ["10.0.0.0/8"], "admin": {"token": "x" * 16}}, []),
    ({}, {"telemetry": {"logs": {"level": "error", "access": False}, "traces": {"sample_ratio": 1}}}, []),
    ({"workers": 2}, {"workers": 4}, ["workers needs a restart: 2 stays in force instead of 4"]),
    (
        {"listen": {"inbound": {"port": 1}}},
        {"listen": {"inbound": {"unix": "/run/in.sock"}}},
        [
            "listen.inbound.port needs a restart: 1 stays in force instead of 8080",
            "listen.inbound.unix needs a restart: nothing stays in force instead of /run/in.sock",
        ],
    ),
    (
        {},
        {"listen": {"inbound": {"tls": {"cert_file": "c", "key_file": "k"}}}},
        ["listen.inbound.tls needs a restart: nothing stays in force instead of a section"],
    ),
    (
        {},
        {"telemetry": {"logs": {"buffer": 16}, "metrics": {"max_series": 100}}, "reload": {"watch": False}},
        [
            "reload.watch needs a restart: true stays in force instead of false",
            "telemetry.metrics.max_series needs a restart: 5000 stays in force instead of 100",
            "telemetry.logs.buffer needs a restart: 8192 stays in force instead of 16",
        ],
    ),
    (
        {},
        {"upstreams": UPSTREAMS},
        ["upstreams needs a restart: there were none, so nothing listens on listen.outbound"],
    ),
    ({"upstreams": UPSTREAMS}, {"upstreams": {**UPSTREAMS, "v": UPSTREAMS["u"]}}, []),
]


@pytest.mark.parametrize(("started", "read", "warnings"), CASES)
def test_in_force(started: dict[str, Any], read: dict[str, Any], warnings: list[str]) -> None:
    before, after = (Config.model_validate({"app": APP, **values}) for values in (started, read))
    effective, said = in_force(before, after)
    assert sorted(said) == sorted(warnings)
    assert (effective.workers, effective.listen, effective.limits) == (before.workers, before.listen, before.limits)
    assert effective.telemetry.logs.buffer == before.telemetry.logs.buffer
    assert effective.telemetry.logs.level == after.telemetry.logs.level
    assert effective.trusted_proxies == after.trusted_proxies
    assert effective.admin == after.admin
    assert effective.upstreams == after.upstreams
