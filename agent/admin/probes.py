"""`/livez` and `/readyz`: alive while the event loop turns, ready while traffic should come here."""

from agent.drivers.control_messages import Handler, Request, Response, json_response
from agent.ports.operator import Component, SidecarView


def endpoints(view: SidecarView) -> dict[tuple[str, str], Handler]:
    """Liveness never looks at anything else: restarting a sidecar because the application is down helps nobody."""

    async def livez(request: Request) -> Response:
        return Response(b"alive\n")

    async def readyz(request: Request) -> Response:
        lifecycle = view.lifecycle()
        components = await view.components()
        missing = [
            component.name
            for component in components
            if component.required and not component.ready and component.name != "lifecycle"  # said by its phase
        ]
        ready = lifecycle.phase == "running" and not missing
        reasons = [] if lifecycle.phase == "running" else [f"the sidecar is {lifecycle.phase}"]
        reasons += [_reason(component) for component in components if component.name in missing]
        answer = {
            "ready": ready,
            "phase": lifecycle.phase,
            "reasons": reasons,
            "components": {component.name: component.described() for component in components},
        }
        return json_response(answer, status=200 if ready else 503)

    return {("GET", "/livez"): livez, ("GET", "/readyz"): readyz}


def _reason(component: Component) -> str:
    error = f": {component.error}" if component.error else ""
    return f"{component.name} is {component.state or 'not ready'}{error}"
