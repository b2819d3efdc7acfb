"""`outrigger explain`: what would happen to a described request, and why; from the file, or from a running sidecar."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from agent.cli.arguments import Commands, add_config
from agent.cli.outline import outline
from agent.cli.terminal import paint_for

ADMIN_TOKEN_NAME = "OUTRIGGER_ADMIN_TOKEN"  # noqa: S105  the name of a variable

_DESCRIPTION = """Say which route a request would take, what each policy would decide, and why. Nothing is sent to the
application and nothing is counted. Without --admin the answer comes from the configuration file alone, so that limits
and breakers are as after a start; with --admin the running sidecar answers from its present state."""


class _QuestionError(Exception):
    """The question can't be asked or answered; the message says why."""


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("explain", help="what would happen to a request, and why", description=_DESCRIPTION)
    add_config(parser)
    parser.add_argument("method", metavar="METHOD", help="for example GET")
    parser.add_argument("url", metavar="URL", help="a path with its query, or a whole URL whose host is matched")
    parser.add_argument(
        "-H", "--header", action="append", default=[], metavar="'NAME: VALUE'", help="a request header; repeatable"
    )
    parser.add_argument("--token-file", metavar="FILE", help="file with the bearer token; `-` reads standard input")
    parser.add_argument("--client-ip", metavar="IP", default="127.0.0.1", help="the client's address")
    parser.add_argument(
        "--admin", metavar="URL", help="ask a running sidecar, for example http://127.0.0.1:4501 or unix:/PATH"
    )
    parser.add_argument("--json", action="store_true", help="print the explanation as JSON")


def call(arguments: argparse.Namespace) -> int:
    """Explain; 1 where there is no explanation, 2 where the question makes no sense."""
    from agent.config.errors import ConfigError, render  # noqa: PLC0415

    paint = paint_for(sys.stderr)
    try:
        question = _question(arguments)
    except _QuestionError as error:
        print(f"{paint('error', 'error')}: {error}", file=sys.stderr)
        return 2
    try:
        answer = _ask(arguments.admin, question) if arguments.admin else _read(arguments.config, question)
    except ConfigError as error:
        print(render(error.file, error.findings, paint), file=sys.stderr)
        return 1
    except (_QuestionError, ValueError) as error:
        print(f"{paint('error', 'error')}: {error}", file=sys.stderr)
        return 1
    text = json.dumps(answer, indent=2, ensure_ascii=False) if arguments.json else outline(answer)
    print(text)
    return 0


def _question(arguments: argparse.Namespace) -> dict[str, Any]:
    """The request as `agent.assembly.explain` and `POST /explain` take it."""
    headers: dict[str, str] = {}
    for line in arguments.header:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise _QuestionError(f"{line!r} is no header: write -H 'name: value'")
        key, value = name.strip().lower(), value.strip()
        joiner = "; " if key == "cookie" else ", "
        headers[key] = f"{headers[key]}{joiner}{value}" if key in headers else value
    question: dict[str, Any] = {
        "method": arguments.method.upper(),
        "url": arguments.url,
        "headers": headers,
        "client_ip": arguments.client_ip,
    }
    if arguments.token_file:
        question["token"] = _token(arguments.token_file)
    return question


def _token(name: str) -> str:
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _QuestionError(f"the token in {name} can't be read: {error}") from None
    token = text.strip().removeprefix("Bearer ").strip()
    if not token:
        raise _QuestionError(f"{name} holds no token")
    return token


def _read(file: str, question: dict[str, Any]) -> dict[str, Any]:
    from agent.assembly.explain import explain  # noqa: PLC0415  everything that decides is below it
    from agent.config.load import load  # noqa: PLC0415

    return explain(load(file), question)


def _ask(admin: str, question: dict[str, Any]) -> dict[str, Any]:
    import urllib.error  # noqa: PLC0415  only here: it brings http.client and ssl
    import urllib.request  # noqa: PLC0415

    path = admin.removeprefix("unix:") if admin.startswith("unix:/") else ""
    if not path and not admin.startswith(("http://", "https://")):
        example = "write --admin http://127.0.0.1:4501, or unix:/PATH"
        raise _QuestionError(f"{admin!r} is no address of a sidecar: {example}")
    request = urllib.request.Request(  # noqa: S310  checked above
        "http://localhost/explain" if path else admin.rstrip("/") + "/explain",
        data=json.dumps(question).encode(),
        headers={"content-type": "application/json", "accept": "application/json"},
        method="POST",
    )
    token = os.environ.get(ADMIN_TOKEN_NAME)
    if token:
        request.add_header("authorization", f"Bearer {token}")
    # A proxy from the environment would carry the token away from this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), *([_through(path)] if path else []))
    try:
        with opener.open(request, timeout=10) as response:
            return _decoded(response.read(), admin)
    except urllib.error.HTTPError as error:
        with error:
            raise _QuestionError(_refused(error.code, error.read(65536), admin)) from None
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise _QuestionError(f"no sidecar answers on {admin}: {reason}") from None


def _through(path: str) -> Any:
    """What makes urllib speak to the Unix socket at `path`."""
    import http.client  # noqa: PLC0415  as above
    import socket  # noqa: PLC0415
    import urllib.request  # noqa: PLC0415

    class Connection(http.client.HTTPConnection):
        def connect(self) -> None:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(self.timeout)
            self.sock.connect(path)

    class Handler(urllib.request.HTTPHandler):
        def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(Connection, req)

    return Handler()


def _decoded(body: bytes, admin: str) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise _QuestionError(f"{admin} answered something that is no explanation: is it the admin address?")
    return answer


def _refused(status: int, body: bytes, admin: str) -> str:
    if status in (401, 403):
        return f"{admin} wants the admin token: set {ADMIN_TOKEN_NAME} (answer {status})"
    try:
        problem = json.loads(body)
        detail = problem.get("detail") or problem.get("title") or ""
    except (ValueError, AttributeError):
        detail = ""
    return f"{admin} answered {status}{f': {detail}' if detail else ''}"
