"""`GET /v1/health`: every component's true state, for the application and its SDK."""

from agent.drivers.control_messages import Handler, Request, Response, json_response
from agent.ports.operator import LocalView

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
        body = {"status": status, "components": [{"name": one.name} | one.described() for one in components]}
        return json_response(body, status=503 if status == "down" else 200)

    return {("GET", "/v1/health"): health}
