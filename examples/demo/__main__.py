"""`make demo`: start everything, show it, stay until Ctrl-C; with `--once` end by itself, with a status that tells."""

import argparse
import asyncio
import io
import signal
import sys

from examples.demo import callers, failures, seen, streams
from examples.demo.screen import Screen
from examples.demo.talk import Talk
from examples.demo.world import StartError, World

STEPS = (
    callers.allowed,
    callers.unauthorized,
    callers.forbidden,
    callers.limited,
    callers.explained,
    callers.shadowed,
    failures.retried,
    failures.broken,
    failures.timed_out,
    streams.streamed,
    streams.upgraded,
    failures.called_out,
    failures.led_elsewhere,
    failures.restarted,
    streams.reloaded,
    seen.observed,
)


async def run(once: bool) -> int:
    """The whole demo; the exit status."""
    screen = Screen()
    screen.line("Starting the sidecar, the orders application, two inventories and an issuer of tokens …")
    async with World() as world:
        for name, what in (("inbound", "clients"), ("outbound", "the application's calls"), ("admin", "operators")):
            screen.line(f"   {world.url(name)}  the sidecar, for {what}")
        talk = Talk(world, screen)
        for step in STEPS:
            try:
                await step(talk)
            except Exception as error:  # noqa: BLE001  one broken step must not hide the others
                screen.broken(error)
        good = screen.summary()
        if not once:
            _invite(world, screen)
            await asyncio.Event().wait()
    return 0 if good else 1


def _invite(world: World, screen: Screen) -> None:
    """Addresses and commands that work while the demo stays up."""
    screen.line()
    screen.line(screen.paint("Everything stays up until Ctrl-C. In another terminal:", "title"))
    screen.line(f"   source {world.folder}/env")
    screen.line('   curl -i "$INBOUND/orders/1" -H "Authorization: Bearer $TOKEN"')
    screen.line('   curl -i "$INBOUND/orders/1"')
    screen.line('   curl -s "$ADMIN/metrics" | grep refusals')
    screen.line(f"The configuration is {world.config}: edit it, and it is loaded again.")


async def _until_signal(once: bool) -> int:
    """Run the demo; SIGINT and SIGTERM end it in order, whatever it is doing."""
    demo = asyncio.ensure_future(run(once))
    loop = asyncio.get_running_loop()
    interrupted: list[int] = []

    def end() -> None:
        if not interrupted:
            interrupted.append(1)
            demo.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    try:
        return await demo
    except asyncio.CancelledError:
        print("\nEnded; nothing is left behind.", flush=True)
        return 130 if once else 0
    except StartError as error:
        print(f"FAILED: {error}", file=sys.stderr, flush=True)
        return 1


def main() -> int:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="end by itself; exit status 0 only if everything was ok")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # arrows are no reason to fail on an old terminal
    return asyncio.run(_until_signal(parser.parse_args().once))


if __name__ == "__main__":
    sys.exit(main())
