"""The step about what operators see."""

import json
import textwrap

from examples.demo.talk import Talk

_METRICS = (
    'http_server_request_duration_seconds_count{http_request_method="GET",http_route="/orders/**"',
    "outrigger_refusals_total{",
    "outrigger_retries_total{",
    "outrigger_circuit_breaker_transitions_total{",
    "outrigger_config_reloads_total{",
)


async def observed(talk: Talk) -> None:
    """Metrics, and one line of the access log."""
    screen, world = talk.screen, talk.world
    screen.step("What operators see", "Metrics by route and code, never by raw path; one line per request.")
    screen.sent(f"GET {world.url('admin')}/metrics")
    for start in _METRICS:
        lines = [text for text in await talk.metric(start) if not text.endswith(" 0")]
        for text in lines[:4]:
            screen.got(text if len(text) < 100 else f"{text[:56]}…{text[-40:]}")
        screen.check(bool(lines), f"there is {start.partition('{')[0]}")
    answer = await talk.ask("/orders/2", await world.token("dora", "reader"), as_whom="token of dora")
    line = await world.access_line(answer.trace_id)
    screen.got("its access-log line:")
    screen.more(textwrap.wrap(json.dumps(line), 100, break_on_hyphens=False))
    screen.check(line.get("enduser.id") == "dora", "the line has the caller, the route, the trace and the times")
