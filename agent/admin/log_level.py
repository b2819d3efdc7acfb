"""`/log-level`: read it, and change it without a restart."""

from agent.drivers.control_messages import Handler, ProblemError, Request, Response, json_response
from agent.ports.operator import SidecarView


def endpoints(view: SidecarView) -> dict[tuple[str, str], Handler]:
    """The change lasts until the next restart and reaches every worker."""

    async def show(request: Request) -> Response:
        return json_response({"level": view.log_level()})

    async def change(request: Request) -> Response:
        body = request.json_object()
        level = body.get("level")
        if not isinstance(level, str) or len(body) != 1:
            raise ProblemError("bad_body", 'Exactly one key is needed, as in {"level": "debug"}.')
        try:
            await view.set_log_level(level)
        except ValueError as error:
            raise ProblemError("bad_body", str(error)) from None
        return json_response({"level": view.log_level()})

    return {("GET", "/log-level"): show, ("PUT", "/log-level"): change}
