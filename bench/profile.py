"""Outrigger under steady load until Ctrl-C, for looking into it with a profiler."""

from bench import backend, wrk
from bench.runner import Runner

HOW = """\
Outrigger ({variant}) is under load, process {pid}. In another terminal:
  where the CPU time goes, native frames:   perf record -F 999 -g -p {pid} -- sleep 5 && perf report --no-children
  the same with Python's own functions:     python 3.12 or newer with PYTHONPERFSUPPORT=1, then perf as above
  Python frames of any version:             py-spy record --native -d 5 -o flame.svg -p {pid}
  system calls per request:                 strace -c -f -p {pid}
Ctrl-C ends it."""


def hold(runner: Runner, variant: str) -> int:
    """Keep the load up and print a figure every few seconds; ends by KeyboardInterrupt."""
    with runner.running("outrigger", variant) as (peer, _):
        print(HOW.format(variant=variant, pid=peer.pids()[-1]), flush=True)
        while True:
            url = f"http://127.0.0.1:{peer.port}{backend.SMALL}"
            seen = wrk.run(wrk.Load(url, runner.plan.measured_s, headers=runner.setting.headers), runner.pin)
            print(f"{seen.rps:,.0f} requests/s {seen.errors or ''}", flush=True)
