"""`workers: N` as operators run it: one view over all, and no worker's death is anybody's trouble."""

import asyncio
import itertools
import json
import os
import signal
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kit.apps import OK, Received, raw_app
from tests.kit.client import Client, client, fetch
from tests.kit.sidecar import LISTEN, LISTENING, RunningSidecar, sidecar
from tests.kit.until import becomes, until

QUICK = {"grace_s": 0, "drain_s": 15}
SUPERVISION = {"restart_first_s": 0.3, "restart_max_s": 0.3}


def configured(url: str, workers: int = 2, **more: Any) -> dict[str, Any]:
    return {"app": {"url": url}, "workers": workers, "lifecycle": QUICK, "supervision": SUPERVISION, **more}


def pids(running: RunningSidecar) -> dict[int, int]:
    """Worker → process, as last logged."""
    return {line["worker"]: line["pid"] for line in running.log() if "is ready" in line.get("message", "")}


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def seen(running: RunningSidecar, count: int = 24) -> Counter[str]:
    """What `x-route` the application answers with, over as many connections: about every worker is asked."""
    answers = [await fetch(running.inbound, "/") for _ in range(count)]
    assert {answer.status for answer in answers} == {200}
    return Counter(answer.fields.get("x-saw", "") for answer in answers)


def echo(request: Received) -> bytes:
    saw = b",".join(request.values(b"x-from"))
    return b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-saw: %b\r\n\r\n" % saw


async def document(running: RunningSidecar, path: str, body: Any = None) -> Any:
    status, answer = await running.admin(path, body)
    assert status < 300, answer
    return json.loads(answer)


async def test_one_view_over_all_workers() -> None:
    async with raw_app() as app, sidecar(configured(app.url, 3, app={"url": app.url, "health": "/healthz"})) as running:
        for _ in range(60):
            assert (await fetch(running.inbound, "/")).status == 200
        served = await running.metric("http_server_request_duration_seconds_count", http_response_status_code="200")
        assert served == 60
        _, text = await running.admin("/metrics")
        lines = dict(line.rsplit(" ", 1) for line in text.decode().splitlines() if not line.startswith("#"))
        own = [float(lines[f'outrigger_worker_resident_memory_bytes{{worker="{index}"}}']) for index in range(3)]
        assert min(own) > 5e6
        assert float(lines["process_resident_memory_bytes"]) > sum(own)
        assert float(lines["process_cpu_seconds_total"]) > 0.1
        assert abs(float(lines["process_start_time_seconds"]) - time.time()) < 60
        assert 5 < float(lines["process_open_fds"]) < float(lines["process_max_fds"])
        assert lines["outrigger_workers_ready"] == "3"

        ready = await document(running, "/readyz")
        assert ready["components"]["workers"]["state"] == "3 of 3 running"
        assert ready["components"]["app"]["state"] == "healthy"
        assert (await document(running, "/config"))["listening"] == running.listening
        explained = await document(running, "/explain", {"url": "/x"})
        assert (explained["verdict"], explained["route"]) == ("allow", "default")
        status, body = await running.admin("/explain", {"url": "no path"})
        assert (status, json.loads(body)["code"]) == (400, "bad_body")
        # One process asks how the application is, and not each of them.
        assert sum(b"/healthz" in request.line for request in app.received) == 1
        assert {line["worker"] for line in running.log() if "worker" in line} == {0, 1, 2}
        assert await running.stop() == 0
        assert not any(is_running(pid) for pid in pids(running).values())


async def status_of_get(address: tuple[str, int]) -> int:
    """As clients do: a connection that is reset while the set of listeners changes is made once more.

    The kernel picks a listener at the SYN and again at the ACK; where another worker came or went between the two, it
    answers with a reset. Nothing was sent by then.
    """
    try:
        return (await fetch(address, "/")).status
    except ConnectionResetError:
        return (await fetch(address, "/")).status


async def test_a_killed_worker_is_replaced_while_others_serve() -> None:
    async with raw_app() as app, AsyncExitStack() as stack:
        # By name: resolving it uses threads of the event loop's, which a fork doesn't copy.
        by_name = {"url": f"http://localhost:{app.port}", "health": "/healthz"}
        running = await stack.enter_async_context(sidecar(configured(app.url, app=by_name)))
        for _ in range(20):
            await fetch(running.inbound, "/")
        count = "http_server_request_duration_seconds_count"
        before, old = await running.metric(count), pids(running)
        assert before == 20
        os.kill(old[1], signal.SIGKILL)
        # Reaped, so that its listener is gone: a zombie's threads may still be ending and hold it.
        await until(lambda: any("died" in str(line.get("message")) for line in running.log()))
        for _ in range(20):  # within the pause before its restart
            assert await status_of_get(running.inbound) == 200
        assert (await running.admin("/readyz"))[0] == 200
        assert await running.metric(count) >= before

        await until(lambda: pids(running)[1] != old[1])
        assert await running.metric("outrigger_worker_restarts_total") == 1
        assert await running.metric("outrigger_workers_ready") == 2
        assert pids(running)[0] == old[0]
        for _ in range(20):
            assert (await fetch(running.inbound, "/")).status == 200
        assert await running.stop() == 0


async def test_a_worker_that_hangs_delays_no_probe_and_is_ended_in_the_end() -> None:
    lifecycle = {"grace_s": 0, "drain_s": 1}
    async with raw_app() as app, sidecar({**configured(app.url), "lifecycle": lifecycle}) as running:
        for _ in range(10):
            await fetch(running.inbound, "/")
        count = "http_server_request_duration_seconds_count"
        assert await running.metric(count) == 10
        hung = pids(running)[0]
        os.kill(hung, signal.SIGSTOP)
        asked_at = time.monotonic()
        assert (await running.admin("/readyz"))[0] == 200
        assert (await running.admin("/livez"))[0] == 200
        assert time.monotonic() - asked_at < 0.9  # supervision.answer_s is 1
        assert await running.metric(count) == 10
        assert await running.metric("outrigger_worker_unanswered_total", worker="0") >= 1
        assert await running.stop() == 128 + signal.SIGKILL
        assert not is_running(hung)


async def test_sigterm_finishes_what_every_worker_has_begun() -> None:
    async def slow(_: Received) -> bytes:
        await asyncio.sleep(0.4)
        return OK

    async def until_closed(running: RunningSidecar) -> int:
        async with client(running.inbound) as one:
            count = 0
            while not one.closed:
                assert (await one.request("GET", "/again")).status == 200
                count += 1
            return count

    async with raw_app(slow) as app, sidecar(configured(app.url)) as running:
        busy = [asyncio.create_task(until_closed(running)) for _ in range(16)]
        begun = [asyncio.create_task(fetch(running.inbound, f"/{number}")) for number in range(24)]
        idle = [client(running.inbound) for _ in range(6)]
        for one in idle:
            await one.__aenter__()
        await until(lambda: len(app.received) >= 24 + 3 * 16)
        code = asyncio.create_task(running.stop())
        assert {answer.status for answer in await asyncio.gather(*begun)} == {200}
        assert min(await asyncio.gather(*busy)) >= 2
        assert await code == 0
        for one in idle:
            await one.__aexit__(None, None, None)
        assert not any(is_running(pid) for pid in pids(running).values())
        with pytest.raises(ConnectionRefusedError):
            await fetch(running.inbound, "/")


@pytest.mark.parametrize("workers", [1, 3])
async def test_connections_that_arrive_while_it_drains_are_served_or_refused_but_never_cut(workers: int) -> None:
    async def arrivals(running: RunningSidecar) -> int:
        for served in itertools.count():
            try:
                reader, writer = await asyncio.open_connection(*running.inbound)
            except ConnectionError:
                return served  # nothing had been sent yet
            one = Client(reader, writer)
            assert (await one.request("GET", "/", {"Connection": "close"})).status == 200
            one.close()
        raise AssertionError

    lifecycle = {"grace_s": 0.2, "drain_s": 10}
    async with raw_app() as app, sidecar({**configured(app.url, workers), "lifecycle": lifecycle}) as running:
        clients = [asyncio.create_task(arrivals(running)) for _ in range(40)]
        await until(lambda: len(app.received) >= 200)
        assert await running.stop() == 0
        assert sum(await asyncio.gather(*clients)) >= 200


async def test_drain_takes_all_workers_out_and_back() -> None:
    async with raw_app() as app, sidecar(configured(app.url)) as running:
        assert (await document(running, "/drain", {}))["phase"] == "deregistering"
        assert (await running.admin("/readyz"))[0] == 503
        assert sum((await seen(running, 8)).values()) == 8  # still served
        assert (await running.admin("/drain", method="DELETE"))[0] == 200
        assert (await running.admin("/readyz"))[0] == 200
        assert (await running.admin("/drain", {"stop": True}))[0] == 202
        assert running.process is not None
        assert await asyncio.wait_for(running.process.wait(), 20) == 0


async def test_no_worker_outlives_its_supervisor() -> None:
    async with raw_app() as app, sidecar(configured(app.url)) as running:
        workers = pids(running)
        assert len(workers) == 2
        async with client(running.inbound) as idle:
            assert (await idle.request()).status == 200
            await running.stop(signal.SIGKILL)
            await until(lambda: not any(is_running(pid) for pid in workers.values()))


async def test_a_reload_reaches_every_worker_and_its_successor() -> None:
    def routed(url: str, value: str, **more: Any) -> dict[str, Any]:
        rule = {"name": "all", "match": {"path": "/**"}, "rewrite": {"set_headers": {"x-from": value}}}
        return configured(url, routes=[rule], reload={"watch": False}, **more)

    async def reloaded(running: RunningSidecar, config: dict[str, Any]) -> Any:
        before = (await document(running, "/config"))["last_reload"]
        running.write(config)
        os.kill(running.pid, signal.SIGHUP)
        report = before
        while report == before:
            report = (await document(running, "/config"))["last_reload"]
        return report

    async with raw_app(echo) as app, sidecar(routed(app.url, "one")) as running:
        assert set(await seen(running)) == {"one"}
        report = await reloaded(running, {**routed(app.url, "two"), "workers": 3})
        assert (report["result"], report["warnings"]) == (
            "applied",
            ["workers needs a restart: 2 stays in force instead of 3"],
        )
        assert set(await seen(running)) == {"two"}
        config = (await document(running, "/config"))["config"]
        assert (config["workers"], config["routes"][0]["rewrite"]["set_headers"]) == (2, {"x-from": "two"})

        report = await reloaded(running, routed(app.url, "three", app={"url": app.url, "max_concurrency": 1}))
        assert report["result"] == "refused"
        assert "app.max_concurrency: 1 can't be shared by 2 workers" in report["error"]
        assert set(await seen(running)) == {"two"}

        assert (await running.admin("/log-level", {"level": "error"}, "PUT"))[0] == 200
        old = pids(running)
        for pid in old.values():
            os.kill(pid, signal.SIGKILL)
        await until(lambda: not any(is_running(pid) for pid in old.values()))
        await becomes(lambda: running.metric("outrigger_workers_ready"), lambda ready: ready == 2)
        assert set(await seen(running)) == {"two"}
        assert (await document(running, "/log-level")) == {"level": "error"}
        assert await running.stop() == 0


async def test_a_limit_holds_over_all_workers_together() -> None:
    limit = {"name": "few", "limit": 10, "per_s": 600, "key": ["route"]}
    routes = [{"name": "all", "match": {"path": "/**"}, "rate_limits": [limit]}]
    async with raw_app() as app, sidecar(configured(app.url, routes=routes)) as running:
        statuses = Counter([(await fetch(running.inbound, "/")).status for _ in range(60)])
        assert statuses[200] == 10
        assert statuses[429] == 50


async def test_issuers_without_keys_are_told_by_the_workers(tmp_path: Path) -> None:
    issuers = {
        "main": {"issuer": "https://sso.test", "audiences": ["a"], "jwks": {"file": str(tmp_path / "absent.json")}}
    }
    async with raw_app() as app, sidecar(configured(app.url, issuers=issuers)) as running:
        readiness = await becomes(
            lambda: document(running, "/readyz"), lambda told: "issuer:main" in told["components"]
        )
        issuer = readiness["components"]["issuer:main"]
        assert (readiness["ready"], issuer["state"], issuer["required"]) == (True, "no keys", False)
        assert issuer["since"].startswith("20")
        assert any(line.get("worker") == 1 and "main" in line["message"] for line in running.log())


async def test_workers_share_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "in.sock"
    listen = {**LISTEN, "inbound": {"unix": str(path)}}
    async with raw_app() as app, sidecar(configured(app.url, listen=listen)) as running:
        for _ in range(10):
            reader, writer = await asyncio.open_unix_connection(str(path))
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
            writer.close()
        os.kill(pids(running)[0], signal.SIGKILL)
        await until(lambda: len([line for line in running.log() if "is ready" in line.get("message", "")]) == 3)
        assert await running.stop() == 0
        assert not path.exists()


async def test_lines_of_several_workers_never_mix_in_one_pipe(tmp_path: Path) -> None:
    async with raw_app() as app:
        file = tmp_path / "outrigger.yaml"
        file.write_text(yaml.safe_dump({"listen": LISTEN, **configured(app.url, 3)}))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "agent", "run", "-c", str(file), stdout=asyncio.subprocess.PIPE, limit=1 << 20
        )
        assert process.stdout is not None
        lines: list[dict[str, Any]] = []
        while not lines or lines[-1].get("message") != LISTENING:
            lines.append(json.loads(await process.stdout.readline()))
        host, _, port = lines[-1]["inbound"].rpartition(":")

        async def one() -> None:
            async with client((host, int(port))) as connected:
                for number in range(60):
                    assert (await connected.request("GET", f"/{number}/{'x' * 7000}")).status == 200

        await asyncio.gather(*(one() for _ in range(9)))  # nobody reads meanwhile: the pipe is full
        process.terminate()
        written = [json.loads(line) async for line in process.stdout]
        assert await process.wait() == 0
        assert sum("outrigger.direction" in line for line in written) == 540
