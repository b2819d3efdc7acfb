"""The operators' side of one real process: how it starts, fails to start, is asked, and what a reload leaves behind."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kit.apps import OK, Received, raw_app, split_answer
from tests.kit.client import fetch
from tests.kit.sidecar import LISTEN, RunningSidecar, sidecar
from tests.kit.until import becomes

APP = {"url": "http://127.0.0.1:9"}


async def outrigger(*arguments: str, folder: Path) -> tuple[int, str, str]:
    """One call of the command line: exit status, stdout, stderr."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "agent", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "NO_COLOR": "1"},
    )
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def written(folder: Path, config: dict[str, Any]) -> str:
    file = folder / "outrigger.yaml"
    file.write_text(yaml.safe_dump({"listen": LISTEN, "app": APP, **config}))
    return str(file)


async def document(running: RunningSidecar, path: str, body: Any = None) -> Any:
    _, answer = await running.admin(path, body)
    return json.loads(answer)


def taken(folder: Path) -> dict[str, Any]:
    return {"listen": {**LISTEN, "admin": {"port": _BUSY.getsockname()[1]}}}


def taken_by_workers(folder: Path) -> dict[str, Any]:
    port = _BUSY.getsockname()[1]
    return {"listen": {**LISTEN, "inbound": {"host": "127.0.0.1", "port": port}}, "workers": 2}


_BUSY = socket.create_server(("127.0.0.1", 0), reuse_port=True)


def bad_key(folder: Path) -> dict[str, Any]:
    key = {"kty": "RSA", "kid": "one", "n": "AQAB", "e": "AQAB"}
    return {"issuers": {"main": {"issuer": "https://sso.test", "audiences": ["a"], "jwks": {"keys": [key]}}}}


def unreadable_tls(folder: Path) -> dict[str, Any]:
    (folder / "cert.pem").write_text("this is no certificate")
    tls = {"cert_file": str(folder / "cert.pem"), "key_file": str(folder / "cert.pem")}
    return {"listen": {**LISTEN, "inbound": {"port": 0, "tls": tls}}}


def too_small_a_limit(folder: Path) -> dict[str, Any]:
    limit = {"name": "few", "limit": 1, "per_s": 1}
    return {"workers": 2, "routes": [{"name": "all", "match": {"path": "/**"}, "rate_limits": [limit]}]}


def no_folder(folder: Path) -> dict[str, Any]:
    return {"listen": {**LISTEN, "admin": {"unix": str(folder / "absent" / "admin.sock")}}}


def too_long_a_path(folder: Path) -> dict[str, Any]:
    return {"listen": {**LISTEN, "local": {"unix": f"/tmp/{'x' * 200}"}}}


Start = tuple[Callable[[Path], dict[str, Any]], str, bool]
"""The configuration, what stderr has to say, and whether `check` can find it out as well."""

STARTS: list[Start] = [
    (taken, "cannot listen on 127.0.0.1:{port}: Address already in use", False),
    (taken_by_workers, "cannot listen on 127.0.0.1:{port}: Address already in use", False),
    (no_folder, "admin.sock: No such file or directory", False),
    (too_long_a_path, "AF_UNIX path too long", False),
    (unreadable_tls, "{folder}/cert.pem with {folder}/cert.pem:", True),
    (bad_key, "no usable key; key 0 (kid 'one') is left out:", True),
    (too_small_a_limit, "it can't be shared by 2 workers", True),
]


@pytest.mark.parametrize(("make", "sentence", "is_found_by_check"), STARTS, ids=[row[0].__name__ for row in STARTS])
async def test_what_prevents_a_start_is_one_sentence(
    tmp_path: Path, make: Callable[[Path], dict[str, Any]], sentence: str, is_found_by_check: bool
) -> None:
    file = written(tmp_path, make(tmp_path))
    wanted = sentence.format(port=_BUSY.getsockname()[1], folder=tmp_path)
    code, out, err = await outrigger("run", "-c", file, folder=tmp_path)
    assert code == 1
    assert wanted in err
    assert "Traceback" not in err + out
    assert len(err.splitlines()) <= 3  # the finding, its remedy, the sum
    code, out, err = await outrigger("check", "-c", file, "--format", "json", folder=tmp_path)
    report = json.loads(out)
    assert (code, report["ok"]) == ((1, False) if is_found_by_check else (0, True))
    assert any(wanted in finding["message"] for finding in report["findings"]) == is_found_by_check
    assert all(finding["path"] and finding["line"] for finding in report["findings"])


@pytest.mark.parametrize("workers", [1, 2])
async def test_signals_during_the_start_end_it_cleanly(tmp_path: Path, workers: int) -> None:
    file = written(tmp_path, {"workers": workers, "lifecycle": {"grace_s": 0}})
    codes = []
    for number in (signal.SIGTERM, signal.SIGINT):
        for after_s in (0.15, 0.3, 0.45, 0.6, 0.8):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "agent", "run", "-c", file),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            await asyncio.sleep(after_s)
            process.send_signal(number)
            out, _ = await asyncio.wait_for(process.communicate(), 20)
            codes.append(process.returncode)
            assert b"Traceback" not in out or b"<frozen" in out, out.decode()  # the interpreter's own start is its own
            assert process.returncode in (0, 130, -number), out.decode()
    assert 0 in codes


async def over_unix(path: Path, target: str) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    status, _, body = split_answer(await reader.read())
    writer.close()
    return status, body


async def test_admin_and_local_listen_on_unix_sockets(tmp_path: Path) -> None:
    admin, local = tmp_path / "admin.sock", tmp_path / "local.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(admin))  # left by a process that was killed
    listen = {**LISTEN, "admin": {"unix": str(admin)}, "local": {"unix": str(local)}}
    async with raw_app() as app, sidecar({"app": {"url": app.url}, "listen": listen}) as running:
        assert running.listening["admin"] == f"unix:{admin}"
        status, body = await over_unix(admin, "/readyz")
        assert (status, json.loads(body)["ready"]) == (200, True)
        assert (await over_unix(local, "/v1/health"))[0] == 200
        listening = json.loads((await over_unix(admin, "/config"))[1])["listening"]
        assert listening["local"] == f"unix:{local}"
        code, _, err = await outrigger("run", "-c", str(running.file), folder=tmp_path)
        assert (code, f"cannot listen on unix:{admin}: Address already in use" in err) == (1, True)
        assert (await over_unix(admin, "/livez"))[0] == 200
        assert await running.stop(signal.SIGINT) == 0
        assert not admin.exists()
        assert not local.exists()


async def test_readiness_follows_the_application_and_its_address() -> None:
    good = {"now": False}

    def health(_: Received) -> bytes:
        return OK if good["now"] else b"HTTP/1.1 500 Down\r\ncontent-length: 0\r\n\r\n"

    quick = {"interval_s": 0.1, "unhealthy_after": 1}
    async with raw_app(health) as app, raw_app() as other:
        config = {"app": {"url": app.url, "health": "/healthz", "health_check": quick}}
        async with sidecar(config) as running:
            assert (await running.admin("/livez"))[0] == 200
            not_ready = await becomes(lambda: document(running, "/readyz"), lambda one: "500" in str(one["reasons"]))
            assert not not_ready["ready"]
            assert not [line for line in running.log() if line.get("message") == "ready"], "it listens, no more"
            good["now"] = True
            ready = await becomes(lambda: document(running, "/readyz"), lambda one: one["ready"])
            assert {"lifecycle", "app"} == set(ready["components"])
            assert all(component["since"] for component in ready["components"].values())
            assert len([line for line in running.log() if line.get("message") == "ready"]) == 1
            good["now"] = False
            await becomes(lambda: document(running, "/readyz"), lambda one: not one["ready"])
            # A reload that leads to another application asks that one from then on.
            running.write({"app": {**config["app"], "url": other.url}})
            os.kill(running.pid, signal.SIGHUP)
            await becomes(lambda: document(running, "/readyz"), lambda one: one["ready"])
            assert await running.metric("outrigger_app_healthy") == 1


async def test_config_tells_doubts_what_is_ignored_and_what_is_in_force() -> None:
    route = {"name": "all", "match": {"path": "/**"}, "timeout_s": 5}
    shadowed = {"name": "never", "match": {"path": "/never"}}
    async with raw_app() as app, sidecar({"app": {"url": app.url}, "routes": [route, shadowed]}) as running:
        told = await document(running, "/config")
        assert told["source"] == str(running.file)
        assert told["warnings"]
        assert told["warnings"][0]["path"].startswith("routes[1]")
        assert told["warnings"][0]["severity"] == "warning"
        line = next(line for line in running.log() if line.get("message") == "configuration: doubtful")
        assert line["path"].startswith("routes[1]")
        assert isinstance(line["line"], int)
        assert line["finding"] == told["warnings"][0]["message"]
        assert line["remedy"] == told["warnings"][0]["remedy"]

        new = {"app": {"url": app.url}, "limits": {"head_bytes": 2048}, "admin": {"token": "x" * 20}}
        running.write({**new, "telemetry": {"logs": {"level": "warning"}}})
        os.kill(running.pid, signal.SIGHUP)
        refused = await becomes(lambda: running.admin("/config"), lambda answer: answer[0] == 401)
        assert refused[0] == 401  # the token holds at once
        assert (await running.admin("/readyz"))[0] == 200
        running.write({"app": {"url": app.url}, "limits": {"head_bytes": 2048}, "telemetry": {}})
        os.kill(running.pid, signal.SIGHUP)
        await becomes(lambda: running.admin("/config"), lambda answer: answer[0] == 200)
        told = await document(running, "/config")
        assert told["last_reload"]["warnings"] == [
            "limits.head_bytes needs a restart: 32768 stays in force instead of 2048"
        ]
        assert told["config"]["limits"]["head_bytes"] == 32768
        assert told["warnings"] == []


async def test_an_operators_log_level_outlives_reloads_of_other_things() -> None:
    async with raw_app() as app, sidecar({"app": {"url": app.url}, "reload": {"watch": False}}) as running:
        assert (await running.admin("/log-level", {"level": "error"}, "PUT"))[0] == 200
        running.write({"app": {"url": app.url}, "reload": {"watch": False}, "trusted_proxies": ["10.0.0.0/8"]})
        os.kill(running.pid, signal.SIGHUP)
        await becomes(lambda: document(running, "/config"), lambda one: one["last_reload"])
        assert await document(running, "/log-level") == {"level": "error"}


@asynccontextmanager
async def reloading(url: str) -> AsyncIterator[tuple[RunningSidecar, Callable[[dict[str, Any]], Any]]]:
    """A sidecar, and a function that lets it take another configuration."""
    async with sidecar({"app": {"url": url}, "reload": {"watch": False}}) as running:

        async def reload(config: dict[str, Any]) -> None:
            before = (await document(running, "/config"))["fingerprint"]
            running.write({"app": {"url": url}, "reload": {"watch": False}, **config})
            os.kill(running.pid, signal.SIGHUP)
            await becomes(lambda: document(running, "/config"), lambda told: told["fingerprint"] != before)

        yield running, reload


def churned(number: int, url: str) -> dict[str, Any]:
    """Ten routes and an upstream that no other number has, with all that keeps counts."""
    rules = {
        "rate_limits": [{"name": f"limit-{number}", "limit": 100, "per_s": 60}],
        "concurrency": {"max_in_flight": 10},
        "circuit_breaker": {},
        "retry": {"attempts": 2},
    }
    routes = [
        {"name": f"r{number}-{index}", "match": {"path": f"/{number}/{index}/**"}, "upstream": f"u{number}", **rules}
        for index in range(10)
    ]
    return {"routes": routes, "upstreams": {f"u{number}": {"targets": [url]}}}


def resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))


@pytest.mark.slow
async def test_two_hundred_reloads_leave_nothing_behind() -> None:
    async with raw_app() as app, reloading(app.url) as (running, reload):
        sizes: dict[int, tuple[int, float]] = {}
        for number in range(200):
            await reload(churned(number, app.url))
            if number % 20 == 0:
                assert (await fetch(running.inbound, f"/{number}/1/x")).status == 200
            if number in {20, 50, 199}:
                sizes[number] = resident_kib(running.pid), await running.metric("outrigger_metrics_series")
        _, text = await running.admin("/metrics")
        assert 'route="r199-0"' in text.decode()
        assert 'route="r198-0"' not in text.decode()
        assert 'upstream="u198"' not in text.decode()
        assert "limit-198" not in text.decode()
        assert sizes[199][1] <= sizes[20][1]
        assert sizes[199][0] - sizes[50][0] < 2048
        assert await running.metric("outrigger_metrics_series_overflow_total") == 0


async def test_a_policy_that_is_removed_takes_its_gauges_along_and_counts_stay() -> None:
    async with raw_app() as app, reloading(app.url) as (running, reload):
        route = {"name": "all", "match": {"path": "/**"}}
        await reload({"routes": [{**route, "concurrency": {"max_in_flight": 7}, "circuit_breaker": {}}]})
        assert (await fetch(running.inbound, "/")).status == 200
        assert await running.metric("outrigger_concurrency_limit", route="all") == 7
        await reload({"routes": [{**route, "concurrency": {"max_in_flight": 8}}]})
        _, text = await running.admin("/metrics")
        assert await running.metric("outrigger_concurrency_limit", route="all") == 8
        assert 'outrigger_circuit_breaker_state{route="all"}' not in text.decode()
        count = "http_server_request_duration_seconds_count"
        assert await running.metric(count, http_route="/**") == 1
        await reload({"routes": [route]})
        _, text = await running.admin("/metrics")
        assert 'outrigger_concurrency_limit{route="all"}' not in text.decode()
        assert await running.metric(count, http_route="/**") == 1
        # What the application's cluster is doing is still shown after reloads that left it alone.
        assert await running.metric("outrigger_upstream_connections", upstream="app") == 1
