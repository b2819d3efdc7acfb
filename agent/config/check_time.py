"""Checks of limits of time that make no sense together."""

from collections.abc import Iterator
from math import inf

from agent.config.errors import Fault, Path
from agent.config.names import Names
from agent.config.root import Config
from agent.config.route import RouteSettings
from agent.config.upstream import UpstreamSettings


def check_time(config: Config, names: Names) -> Iterator[Fault]:
    """The limits of time of each route and upstream."""
    del names
    for index, route in enumerate(config.routes):
        yield from _judge(route, ("routes", index))
    for name, upstream in config.upstreams.items():
        yield from _judge(upstream, ("upstreams", name))


def _judge(route: RouteSettings | UpstreamSettings, path: Path) -> Iterator[Fault]:
    timeouts = route.limits_of_time
    timeout_s = timeouts.timeout_s or inf
    if route.timeout_s is not None and "timeout_s" in route.timeouts.model_fields_set:
        yield Fault(
            (*path, "timeouts", "timeout_s"), "timeout_s is given twice, here and one level above", "Keep one of them."
        )
    retry = route.retry
    if retry is not None and retry.per_try_timeout_s is not None and retry.per_try_timeout_s > timeout_s:
        message = f"one try may take longer than all tries together: timeout_s is {timeout_s:g}"
        yield Fault(
            (*path, "retry", "per_try_timeout_s"), message, f"Choose less than {timeout_s:g}, or raise timeout_s."
        )
    if "connect_timeout_s" in route.timeouts.model_fields_set and timeouts.connect_timeout_s > timeout_s:
        message = f"connecting may take longer than the whole request: timeout_s is {timeout_s:g}"
        yield Fault((*path, "timeouts", "connect_timeout_s"), message, "", "warning")
    if timeouts.max_duration_s is not None and timeouts.max_duration_s < timeout_s < inf:
        message = f"max_duration_s ends every request before timeout_s ({timeout_s:g}) does"
        yield Fault((*path, "timeouts", "max_duration_s"), message, "Set timeout_s no longer than it.", "warning")
    breaker = route.circuit_breaker
    if breaker is not None and breaker.probe_timeout_s < timeout_s < inf:
        message = f"probes are given up as lost before the route's timeout_s ({timeout_s:g}) has passed"
        yield Fault((*path, "circuit_breaker", "probe_timeout_s"), message, "Make it longer than timeout_s.", "warning")
    gate = route.concurrency
    if gate is not None and gate.queue_timeout_s > timeout_s:
        message = f"waiting for a turn may take longer than the whole request: timeout_s is {timeout_s:g}"
        yield Fault((*path, "concurrency", "queue_timeout_s"), message, "", "warning")
