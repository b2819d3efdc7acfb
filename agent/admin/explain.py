"""`POST /explain`: what would happen to a described request, and why; nothing is changed by asking."""

from typing import Any

from agent.drivers.control_messages import Handler, ProblemError, Request, Response, json_response
from agent.ports.operator import Question, SidecarView

_TEXTS = ("method", "url", "client_ip", "token")


def endpoints(view: SidecarView) -> dict[tuple[str, str], Handler]:
    """The answer's form is the view's."""

    async def explain(request: Request) -> Response:
        question = _question(request.json_object())
        try:
            return json_response(dict(await view.explain(question)))
        except ValueError as error:
            raise ProblemError("bad_body", str(error)) from None

    return {("POST", "/explain"): explain}


def _question(body: dict[str, Any]) -> Question:
    unknown = body.keys() - {*_TEXTS, "headers"}
    if unknown:
        known = ", ".join((*_TEXTS, "headers"))
        raise ProblemError("bad_body", f"Unknown: {', '.join(sorted(unknown))}. There are {known}.")
    for name in _TEXTS:
        if not isinstance(body.get(name, ""), str):
            raise ProblemError("bad_body", f"{name} must be a string.")
    headers = body.get("headers", {})
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise ProblemError("bad_body", 'headers must be an object of strings, as in {"accept": "text/html"}.')
    return Question(**{**body, "headers": {name.lower(): value for name, value in headers.items()}})
