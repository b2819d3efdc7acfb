"""Giving memory back: only pages that the kernel can bring back, and the process still works."""

import subprocess
import sys

import pytest

from agent.runtime.limits import complain_about, raise_open_files
from agent.runtime.memory import clean_file_mappings, resident_bytes


def mapping(head: str, *, anonymous: int = 0, swap: int = 0, dirty: int = 0) -> list[str]:
    return [
        head,
        "Size:               1000 kB",
        f"Private_Dirty:      {dirty:5} kB",
        f"Anonymous:          {anonymous:5} kB",
        f"Swap:               {swap:5} kB",
        "THPeligible:           0",
        "VmFlags: rd mr mw me",
    ]


TEXT = "1000-2000 r-xp 00000000 08:01 42 /usr/lib/libc.so.6"


@pytest.mark.parametrize(
    ("lines", "clean"),
    [
        (mapping(TEXT), True),
        (mapping(TEXT.replace("r-xp", "r--p")), True),
        (mapping(TEXT.replace("r-xp", "r--s")), True),
        (mapping(TEXT + " (deleted)"), True),
        (mapping(TEXT.replace("r-xp", "rw-p")), False),
        (mapping(TEXT, anonymous=4), False),
        (mapping(TEXT, swap=4), False),
        (mapping(TEXT, dirty=4), False),
        (mapping("1000-2000 r--p 00000000 00:00 0"), False),
        (mapping("1000-2000 r-xp 00000000 00:00 0 [vdso]"), False),
        ([TEXT, "Size: 1 kB", "VmFlags: rd"], False),
        ([TEXT], False),
    ],
)
def test_which_mappings_are_clean(lines: list[str], clean: bool) -> None:
    assert list(clean_file_mappings(lines)) == ([(0x1000, 0x2000)] if clean else [])


def test_each_mapping_is_judged_by_its_own_numbers() -> None:
    lines = [
        *mapping(TEXT, anonymous=4),
        *mapping(TEXT.replace("1000-2000", "3000-4000")),
        *mapping("5000-6000 rw-p 0 0:0 0"),
    ]
    assert list(clean_file_mappings(lines)) == [(0x3000, 0x4000)]


SCRIPT = """
import pydantic, httptools, orjson, yaml, asyncio, ssl, json, gc
from agent.runtime.memory import give_back
class Before(pydantic.BaseModel): x: int
given = give_back()
class After(pydantic.BaseModel): x: int
assert Before(x=1).x == After(x=1).x == 1
assert orjson.loads(orjson.dumps({"a": 1})) == json.loads('{"a": 1}')
assert yaml.safe_load("a: [1, 2]") == {"a": [1, 2]}
async def ticks(): await asyncio.sleep(0)
asyncio.run(ticks())
ssl.create_default_context()
try: raise KeyError("unwinding still works")
except KeyError: pass
assert gc.get_freeze_count() > 1000
print(*given)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a matter of Linux")
def test_memory_falls_and_the_process_still_works() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    before, after, mappings, failures = map(int, done.stdout.split())
    assert mappings > 10
    assert failures == 0
    assert after < before * 0.8
    assert before > 10_000_000


def test_resident_bytes() -> None:
    assert resident_bytes() > 5_000_000


def test_open_files_are_raised_to_the_hard_limit() -> None:
    script = """
import resource
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 300 if hard == -1 else min(300, hard)))
from agent.runtime.limits import raise_open_files
print(raise_open_files(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["300", "300", "300"]
    assert raise_open_files() == raise_open_files()


@pytest.mark.parametrize(
    ("open_files", "connections", "complains"),
    [(20_128, 10_000, False), (20_127, 10_000, True), (1024, 10_000, True), (-1, 10_000, False), (10, 1, True)],
)
def test_complaint_about_too_few_files(open_files: int, connections: int, complains: bool) -> None:
    sentence = complain_about(open_files, connections)
    assert (sentence is not None) is complains
    assert sentence is None or "limits.connections" in sentence
