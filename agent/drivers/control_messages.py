"""Requests and answers of the control server as plain values, so that endpoints are functions from one to the other."""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from agent.core.errors import OutriggerError
from agent.wire.codes import BY_CODE
from agent.wire.problem import PHRASES, problem_body

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"


class Request:
    """One whole request. `fields` has lower-case names; `path` is exactly as it was sent."""

    __slots__ = ("body", "fields", "method", "path", "query")

    def __init__(
        self,
        method: str,
        path: str,
        *,
        query: str = "",
        fields: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.fields = fields or {}
        self.body = body

    def arguments(self) -> dict[str, str]:
        """The query's parameters, the last of each name. Raises ProblemError where there are too many."""
        try:
            return dict(parse_qsl(self.query, keep_blank_values=True, max_num_fields=100))
        except ValueError as error:
            raise ProblemError("malformed_request", f"The query can't be read: {error}.") from None

    def json_object(self) -> dict[str, Any]:
        """The body as a JSON object; an empty body is an empty one. Raises ProblemError for anything else."""
        if not self.body:
            return {}
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise ProblemError("bad_body", f"The body is no JSON: {error}.") from None
        if not isinstance(value, dict):
            raise ProblemError("bad_body", 'The body must be a JSON object, as in {"level": "debug"}.')
        return value


class Response:
    """One whole answer. `fields` are further header lines."""

    __slots__ = ("body", "content_type", "fields", "status")

    def __init__(
        self,
        body: bytes = b"",
        *,
        status: int = 200,
        content_type: str = TEXT,
        fields: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.body = body
        self.status = status
        self.content_type = content_type
        self.fields = fields

    def render(self, *, close: bool, with_body: bool) -> bytes:
        """The bytes to send. `with_body` is false for HEAD: the length is told all the same."""
        lines = [
            f"HTTP/1.1 {self.status} {PHRASES.get(self.status, b'Refused').decode()}",
            f"content-type: {self.content_type}",
            f"content-length: {len(self.body)}",
            "cache-control: no-store",
            "x-content-type-options: nosniff",
            "x-outrigger-origin: agent",
            *(f"{name}: {value}" for name, value in self.fields),
        ]
        if close:
            lines.append("connection: close")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
        return head + self.body if with_body else head


Handler = Callable[[Request], Awaitable[Response]]
"""Answers one request. It may raise ProblemError; any other error is logged and answered with 500."""

Table = Mapping[tuple[str, str], Handler]
"""Method and exact path → handler. HEAD is answered by the handler of GET."""


class ProblemError(OutriggerError):
    """An endpoint's refusal: a code of `agent.wire.codes`, and a sentence for whoever asked."""

    def __init__(self, problem_code: str, detail: str = "", *, fields: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(detail or BY_CODE[problem_code].title)
        self.problem_code = problem_code
        self.detail = detail
        self.fields = fields

    def response(self) -> Response:
        """The answer that tells it (RFC 9457)."""
        return problem(self.problem_code, self.detail, fields=self.fields)


def nothing_at(path: str) -> ProblemError:
    """The refusal of a path that leads nowhere."""
    return ProblemError("not_found", f"There is no {path}.")


def json_response(value: Any, *, status: int = 200) -> Response:
    """An answer in JSON, indented: people read these with curl. Strange values are shown as their text."""
    body = json.dumps(value, indent=2, ensure_ascii=False, default=str).encode("utf-8", "backslashreplace") + b"\n"
    return Response(body, status=status, content_type=JSON)


def problem(code: str, detail: str = "", *, fields: tuple[tuple[str, str], ...] = ()) -> Response:
    """A problem of `agent.wire.codes` as an answer (RFC 9457)."""
    return Response(
        problem_body(code, detail=detail),
        status=BY_CODE[code].status,
        content_type="application/problem+json",
        fields=(("x-outrigger-reason", code), *fields),
    )
