"""`GET /v1/health`: every component's true state, for the application and its SDK."""

from datetime import UTC, datetime
from typing import Any

from agent.drivers.control_messages import Handler, Request, Response, json_response
from agent.ports.operator import Component, LocalView

APP = "app"
"""The application's own component. It doesn't count: waiting for its sidecar it would wait for itself."""


def endpoints(view: LocalView) -> dict[tuple[str, str], Handler]:
    """200 when what the application needs works, else 503 with the same body."""

    async def health(request: Request) -> Response:
        components = await view.components()
        needed = [component for component in components if component.name != APP]
        if any(component.required and not component.ready for component in needed):
            status = "down"
        else:
            status = "ok" if all(component.ready for component in needed) else "degraded"
        body = {"status": status, "components": [_describe(component) for component in components]}
        return json_response(body, status=503 if status == "down" else 200)

    return {("GET", "/v1/health"): health}


def _describe(component: Component) -> dict[str, Any]:
    since = datetime.fromtimestamp(component.since, UTC).isoformat(timespec="milliseconds") if component.since else None
    return {
        "name": component.name,
        "ready": component.ready,
        "required": component.required,
        "state": component.state,
        "since": since,
        "last_error": component.error or None,
    }
