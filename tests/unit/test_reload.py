"""Reloading: files that change in every way operators change them, and swaps that happen whole or not at all."""

import asyncio
import os
import threading
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.runtime.reload import Reloader, needs_restart
from agent.runtime.settings import ReloadSettings
from agent.runtime.watch import Watch
from agent.telemetry.metrics import Registry

FAST = ReloadSettings(poll_s=0.1, debounce_s=0.02)


class Config:
    def __init__(self, fingerprint: str, *files: Path) -> None:
        self.fingerprint = fingerprint
        self.files = [str(file) for file in files]


class BrokenError(Exception):
    def __init__(self, text: str, *files: Path) -> None:
        super().__init__(text)
        self.files = [str(file) for file in files]


class Desk:
    """A configuration file, and whoever reads and applies it."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "outrigger.yaml"
        self.file.write_text("first")
        self.registry = Registry()
        self.applied: list[str] = []
        self.warnings: list[str] = []
        self.fail_apply = False
        self.load_threads: list[int] = []
        self.log: list[tuple[str, str]] = []
        self.during_load: Any = None

    def load(self) -> Config:
        self.load_threads.append(threading.get_ident())
        text = self.file.read_text()
        if self.during_load is not None:
            self.during_load()
        if text.startswith("bad"):
            raise BrokenError(text, *(Path(name) for name in text.split()[1:]))
        name, *others = text.split()
        return Config(name, self.file, *(Path(other) for other in others))

    def apply(self, new: Config) -> Sequence[str]:
        assert threading.get_ident() == threading.main_thread().ident
        if self.fail_apply:
            raise RuntimeError("no memory for a table")
        self.applied.append(new.fingerprint)
        return self.warnings

    def make(self, settings: ReloadSettings = FAST, apply: Any = None) -> Reloader[Config]:
        return Reloader(
            self.load(),
            load=self.load,
            apply=apply or self.apply,
            settings=settings,
            registry=self.registry,
            log=lambda level, sentence, **fields: self.log.append((level, sentence)),
        )

    def metric(self, name: str, *labels: str) -> Any:
        (family,) = [family for family in self.registry.snapshot()["families"] if family["name"] == name]
        return {tuple(key): value for key, value in family["series"]}[labels]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


async def test_applied_in_one_go_and_loaded_off_the_loop(desk: Desk) -> None:
    reloader = desk.make()
    desk.load_threads.clear()
    desk.warnings = ["workers needs a restart"]
    desk.file.write_text("second")
    report = await reloader.reload()
    assert (report.result, report.error, report.warnings) == ("applied", "", ("workers needs a restart",))
    assert reloader.last is report
    assert reloader.current.fingerprint == "second"
    assert desk.applied == ["second"]
    assert threading.get_ident() not in desk.load_threads
    assert ("warning", "workers needs a restart") in desk.log
    assert desk.metric("outrigger_config_reloads_total", "applied") == 1
    assert desk.metric("outrigger_config_last_reload_successful") == 1


async def test_bad_file_is_refused_and_the_old_one_coming_back_clears_it(desk: Desk) -> None:
    reloader = desk.make()
    desk.file.write_text("bad")
    report = await reloader.reload()
    assert (report.result, report.error) == ("refused", "bad")
    assert reloader.current.fingerprint == "first"
    assert desk.applied == []
    assert desk.metric("outrigger_config_last_reload_successful") == 0
    assert desk.metric("outrigger_config_reloads_total", "refused") == 1
    desk.file.write_text("first")
    assert (await reloader.reload()).result == "unchanged"
    assert desk.metric("outrigger_config_last_reload_successful") == 1
    assert desk.applied == []


async def test_failing_to_apply_keeps_the_old_one(desk: Desk) -> None:
    reloader = desk.make()
    desk.fail_apply = True
    desk.file.write_text("second")
    report = await reloader.reload()
    assert (report.result, report.error) == ("refused", "no memory for a table")
    assert reloader.current.fingerprint == "first"
    desk.fail_apply = False
    assert (await reloader.reload()).result == "applied"


async def test_apply_may_await(desk: Desk) -> None:
    async def apply(new: Config) -> Sequence[str]:
        await asyncio.sleep(0)
        return ["slow"]

    def start(new: Config) -> Awaitable[Sequence[str]]:
        return apply(new)

    reloader = desk.make(apply=start)
    desk.file.write_text("second")
    assert (await reloader.reload()).warnings == ("slow",)


async def until(reloader: Reloader[Config], fingerprint: str) -> None:
    async with asyncio.timeout(10):
        while reloader.current.fingerprint != fingerprint:  # noqa: ASYNC110  the file system has no events here
            await asyncio.sleep(0.01)


async def test_running_sees_changes_and_signals(desk: Desk, tmp_path: Path) -> None:
    reloader = desk.make()
    running = asyncio.ensure_future(reloader.run())
    desk.file.write_text("second")
    await until(reloader, "second")
    other = tmp_path / "other"
    other.write_text("third")
    other.rename(desk.file)
    await until(reloader, "third")
    running.cancel()

    desk.file.write_text("fourth")
    blind = desk.make(ReloadSettings(watch=False, poll_s=0.1))
    desk.file.write_text("fifth")
    running = asyncio.ensure_future(blind.run())
    await asyncio.sleep(0)
    blind.request()
    await until(blind, "fifth")
    running.cancel()


async def test_a_change_while_loading_is_not_lost(desk: Desk) -> None:
    reloader = desk.make()

    def change() -> None:
        desk.during_load = None
        desk.file.write_text("third!")

    desk.during_load = change
    desk.file.write_text("second")
    running = asyncio.ensure_future(reloader.run())
    await until(reloader, "third!")
    assert desk.applied == ["second", "third!"]
    running.cancel()


async def test_a_change_is_read_once(desk: Desk) -> None:
    reloader = desk.make()
    running = asyncio.ensure_future(reloader.run())
    desk.file.write_text("second")
    await until(reloader, "second")
    loads = len(desk.load_threads)
    await asyncio.sleep(0.3)  # three looks at the files
    assert len(desk.load_threads) == loads
    running.cancel()


async def test_referenced_files_are_watched_also_those_of_a_bad_file(desk: Desk, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    reloader = desk.make()
    running = asyncio.ensure_future(reloader.run())
    desk.file.write_text(f"second {secret}")
    await until(reloader, "second")
    loads = len(desk.load_threads)
    secret.write_text("s1")
    async with asyncio.timeout(10):
        while len(desk.load_threads) == loads:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    missing = tmp_path / "missing"
    desk.file.write_text(f"bad {missing}")
    async with asyncio.timeout(10):
        while reloader.last is None or reloader.last.result != "refused":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    loads = len(desk.load_threads)
    missing.write_text("here")
    async with asyncio.timeout(10):
        while len(desk.load_threads) == loads:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    running.cancel()


def test_watch_sees_a_config_map_swap(tmp_path: Path) -> None:
    for name in ("v1", "v2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "c.yaml").write_text("same size")
        os.utime(tmp_path / name / "c.yaml", ns=(1, 1))
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "c.yaml").symlink_to("..data/c.yaml")
    watch = Watch([str(tmp_path / "c.yaml")], debounce_s=0)
    assert not watch.is_due(0)
    (tmp_path / "..new").symlink_to("v2")
    (tmp_path / "..new").rename(tmp_path / "..data")
    assert watch.is_due(1)
    watch.reading()
    assert not watch.is_due(2)


def test_watch_waits_until_files_are_at_rest(tmp_path: Path) -> None:
    file = tmp_path / "c"
    watch = Watch([str(file)], debounce_s=2)
    file.write_text("a")
    assert [watch.is_due(10), watch.is_due(11.9)] == [False, False]
    settling = watch.is_settling
    file.write_text("ab")
    assert [watch.is_due(12), watch.is_due(13.9), watch.is_due(14)] == [False, False, True]
    watch.reading()
    assert not watch.is_due(15)
    assert (settling, watch.is_settling) == (True, False)
    file.unlink()
    assert [watch.is_due(20), watch.is_due(22)] == [False, True]


def test_a_change_that_is_taken_back_is_none(tmp_path: Path) -> None:
    file = tmp_path / "c"
    watch = Watch([str(file)], debounce_s=1)
    file.write_text("a")
    watch.is_due(1)
    file.unlink()
    assert [watch.is_due(2), watch.is_due(9)] == [False, False]


def test_needs_restart() -> None:
    assert needs_restart([("workers", 1, 2), ("listen.inbound.port", 80, 80)]) == [
        "workers needs a restart: 1 stays in force instead of 2"
    ]
