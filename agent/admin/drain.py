"""`/drain` and `/lifecycle`: take this replica out of rotation, bring it back, or end it; and see how far it is.

`POST /drain` switches readiness off and goes on serving: for maintenance, or a `preStop` hook. `DELETE /drain` takes
that back. `POST /drain` with `{"stop": true}` begins what SIGTERM begins, and that can't be taken back.
"""

from agent.drivers.control_messages import Handler, ProblemError, Request, Response, json_response
from agent.ports.operator import SidecarView, moment


def endpoints(view: SidecarView) -> dict[tuple[str, str], Handler]:
    """All three answer with the lifecycle as it is then."""

    def lifecycle(status: int = 200) -> Response:
        report = view.lifecycle()
        answer = {
            "phase": report.phase,
            "since": moment(report.since),
            "deadline": moment(report.deadline),
            "in_flight": report.in_flight,
            "connections": report.connections,
        }
        return json_response(answer, status=status)

    async def show(request: Request) -> Response:
        return lifecycle()

    async def begin(request: Request) -> Response:
        body = request.json_object()
        stop = body.get("stop", False)
        if not isinstance(stop, bool) or body.keys() - {"stop"}:
            raise ProblemError("bad_body", 'Send {} to switch readiness off, or {"stop": true} to end the process.')
        await view.drain(stop=stop)
        return lifecycle(202)

    async def undo(request: Request) -> Response:
        try:
            await view.undrain()
        except ValueError as error:
            raise ProblemError("cannot_undo", str(error)) from None
        return lifecycle()

    return {("GET", "/lifecycle"): show, ("POST", "/drain"): begin, ("DELETE", "/drain"): undo}
