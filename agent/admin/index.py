"""`GET /`: what there is, for whoever has only curl."""

from agent.drivers.control_messages import Handler, Request, Response

_MEANINGS = {
    ("GET", "/livez"): "200 as long as the process runs",
    ("GET", "/readyz"): "200 when it should get traffic, else 503 with the reasons",
    ("GET", "/metrics"): "all metrics, as Prometheus text or OpenMetrics",
    ("GET", "/config"): "the configuration in force, secrets masked; addresses; the last reload",
    ("GET", "/log-level"): "the log level",
    ("PUT", "/log-level"): 'change it until the next restart: {"level": "debug"}',
    ("GET", "/lifecycle"): "phase, since when, deadline, requests in flight",
    ("POST", "/drain"): 'readiness off, still serving; {"stop": true} ends the process as SIGTERM does',
    ("DELETE", "/drain"): "readiness on again",
    ("POST", "/explain"): 'what would happen to {"method", "url", "headers", "client_ip", "token"}, and why',
}


def index(table: dict[tuple[str, str], Handler]) -> dict[tuple[str, str], Handler]:
    """The endpoint that lists all others."""
    lines = ["Outrigger admin API. POST and PUT need Content-Type: application/json.", ""]
    lines += [f"{method:<7}{path:<12} {_MEANINGS[method, path]}" for method, path in table]
    body = ("\n".join(lines) + "\n").encode()

    async def answer(request: Request) -> Response:
        return Response(body)

    return {("GET", "/"): answer}
