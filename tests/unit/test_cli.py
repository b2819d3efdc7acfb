"""The command line: what it prints where, and how it exits."""

import io
import json
import socket
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

import agent.app
from agent import __version__
from agent.cli import version
from agent.cli.main import main
from agent.cli.outline import outline
from agent.cli.terminal import is_colourful, paint_for
from agent.config.load import load
from agent.config.root import Config
from agent.core.errors import OutriggerError
from tests.kit.tokens import claims, jwk, jwks, token

GOOD = 'app: {url: "http://127.0.0.1:8000"}\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "outrigger.yaml"
    path.write_text(GOOD)
    return path


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out.startswith(f"outrigger {__version__} (CPython 3.")
    assert main(["--version"]) == 0
    assert __version__ in capsys.readouterr().out


def test_check_of_a_good_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "-c", str(file)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"good: {file}: no routes, no upstreams, no issuers, no warnings, fingerprint ")
    assert (out.count("\n"), err) == (1, "")


def test_check_tells_doubts_but_succeeds(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(GOOD + "routes: [{name: a}, {name: b}]\n")
    assert main(["check", "-c", str(file)]) == 0
    out, err = capsys.readouterr()
    assert "2 routes, no upstreams, no issuers, 1 warning" in out
    assert f"{file}:2:21: warning: routes[1]: never reached" in err


def test_check_tells_all_errors_on_stderr(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text("app: {urll: x}\nworkers: 0\n")
    assert main(["check", "-c", str(file)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{file}:1:7: error: app.urll: unknown key" in err
    assert f"{file}:2:10: error: workers: must be at least 1 (given: 0)" in err
    assert err.endswith(f"{file}: 3 errors\n")


@pytest.mark.parametrize(("text", "status"), [(GOOD, 0), ("workers: 0\n", 1), ("a: b: c\n", 1)])
def test_check_as_json(file: Path, capsys: pytest.CaptureFixture[str], text: str, status: int) -> None:
    file.write_text(text)
    assert main(["check", "-c", str(file), "--format", "json"]) == status
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert (report["ok"], report["file"], err) == (status == 0, str(file), "")
    if status:
        keys = {"path", "line", "column", "value", "message", "remedy", "severity"}
        assert all(set(finding) == keys for finding in report["findings"])
    else:
        assert len(report["fingerprint"]) == 12


def test_the_file_comes_from_the_environment_or_the_folder(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OUTRIGGER_CONFIG", str(file))
    assert main(["check"]) == 0
    monkeypatch.delenv("OUTRIGGER_CONFIG")
    monkeypatch.chdir(file.parent)
    assert main(["check"]) == 0
    monkeypatch.chdir(file.parent.parent)
    assert main(["check"]) == 1
    assert "outrigger.yaml: error: there is no such file" in capsys.readouterr().err


def test_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Outrigger configuration"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["chekc"], ["no command `chekc`", "Did you mean `check`?", "run, check, explain"]),
        (["xyzzy"], ["no command `xyzzy`.", "Commands: "]),
        ([], ["usage: outrigger"]),
        (["check", "--nope"], ["--nope", "--help"]),
        (["check", "--format", "xml"], ["xml", "text", "json"]),
        (["explain", "GET"], ["URL"]),
        (["explain", "GET", "/", "-H", "nonsense"], ["no header", "name: value"]),
        (["explain", "GET", "/", "--token-file", "/no/file"], ["/no/file", "No such file"]),
    ],
)
def test_called_wrongly(arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert [word for word in words if word not in err] == []
    assert out == ""


@pytest.mark.parametrize("arguments", [["--help"], ["check", "--help"], ["explain", "-h"], ["run", "-h"]])
def test_help_is_no_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    assert "usage: outrigger" in capsys.readouterr().out


def test_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    def call(arguments: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(version, "call", call)
    assert main(["version"]) == 130


def test_run_reports_a_wrong_file(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(agent.app, "run", lambda path: 0 if load(path) else 1)
    assert main(["run", "-c", str(file)]) == 0
    file.write_text("workers: 0\n")
    assert main(["run", "-c", str(file)]) == 1
    assert "workers: must be at least 1" in capsys.readouterr().err


def test_run_reports_an_address_that_is_taken(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(path: str) -> int:
        raise OutriggerError(f"cannot listen for {path}")

    monkeypatch.setattr(agent.app, "run", run)
    assert main(["run", "-c", str(file)]) == 1
    assert capsys.readouterr().err == f"error: cannot listen for {file}\n"


def test_light_commands_import_nothing_heavy() -> None:
    code = (
        "import sys; from agent.cli.main import main; main(['version']); "
        "print([name for name in ('pydantic', 'asyncio', 'yaml', 'ssl') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = [sys.executable, "-m", "agent", "schema"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


class Sidecar(BaseHTTPRequestHandler):
    """Answers /explain with what it was asked."""

    status = 200
    reply: bytes | None = None
    seen: dict[str, Any] = {}

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        type(self).seen = {"path": self.path, "authorization": self.headers["authorization"], **json.loads(body)}
        answer = self.reply if self.reply is not None else json.dumps({"route": "orders", "asked": self.seen}).encode()
        self.send_response(self.status)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def admin(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setattr(Sidecar, "status", 200)
    monkeypatch.setattr(Sidecar, "reply", None)
    with HTTPServer(("127.0.0.1", 0), Sidecar) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_explain_asks_a_running_sidecar(
    admin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "token").write_text("Bearer abc\n")
    monkeypatch.setenv("OUTRIGGER_ADMIN_TOKEN", "let-me-in")
    arguments = [
        "explain",
        "post",
        "/orders?x=1",
        "-H",
        "X-A: 1",
        "-H",
        "x-a: 2",
        "-H",
        "Cookie: a=1",
        "-H",
        "cookie:b=2",
    ]
    arguments += ["--token-file", str(tmp_path / "token"), "--client-ip", "10.0.0.9", "--admin", admin + "/", "--json"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["route"] == "orders"
    assert Sidecar.seen == {
        "path": "/explain",
        "authorization": "Bearer let-me-in",
        "method": "POST",
        "url": "/orders?x=1",
        "headers": {"x-a": "1, 2", "cookie": "a=1; b=2"},
        "client_ip": "10.0.0.9",
        "token": "abc",
    }


class UnixServer(HTTPServer):
    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)

    def get_request(self) -> tuple[socket.socket, Any]:
        return self.socket.accept()[0], ("unix", 0)


def test_explain_asks_on_a_unix_socket(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "admin.sock"
    assert main(["explain", "GET", "/", "--admin", f"unix:{path}"]) == 1
    assert f"no sidecar answers on unix:{path}" in capsys.readouterr().err
    with UnixServer(str(path), Sidecar) as server:  # type: ignore[arg-type]
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        assert main(["explain", "GET", "/x", "--admin", f"unix:{path}", "--json"]) == 0
        thread.join()
    assert json.loads(capsys.readouterr().out)["asked"]["url"] == "/x"


def test_explain_reads_a_token_from_standard_input(admin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("abc\n"))
    assert main(["explain", "GET", "/", "--admin", admin, "--token-file", "-"]) == 0
    assert Sidecar.seen["token"] == "abc"


@pytest.mark.parametrize(
    ("status", "reply", "words"),
    [
        (401, b"", "wants the admin token"),
        (400, b'{"title": "Bad", "detail": "method must be a string."}', "answered 400: method must be a string."),
        (404, b"<html>", "answered 404"),
        (500, b"[]", "answered 500"),
        (200, b"<html>", "no explanation"),
        (200, b"[1]", "no explanation"),
    ],
)
def test_explain_tells_why_a_sidecar_does_not_answer(
    admin: str,
    status: int,
    reply: bytes,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(Sidecar, "status", status)
    monkeypatch.setattr(Sidecar, "reply", reply)
    assert main(["explain", "GET", "/", "--admin", admin]) == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("admin_url", "words"),
    [
        ("http://127.0.0.1:1", "no sidecar answers"),
        ("127.0.0.1:4501", "no address"),
        ("file:///etc/passwd", "no address"),
    ],
)
def test_explain_without_a_sidecar(admin_url: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "GET", "/", "--admin", admin_url]) == 1
    assert words in capsys.readouterr().err


def test_explanations_as_an_outline() -> None:
    text = outline(
        {
            "route": "orders",
            "allowed": False,
            "policies": [
                {"policy": "jwt", "verdict": "allow", "why": "subject 'a'"},
                {"policy": "rate_limit", "verdict": "deny", "why": ""},
            ],
            "limits": {"timeout_s": 2, "tags": ["a", "b"]},
            "steps": [{"name": "x", "inner": {"y": 1}}, "plain"],
            "empty": [],
            "nothing": None,
        }
    )
    assert text == (
        "route    orders\n"
        "allowed  no\n"
        "policies\n"
        "  jwt         allow  subject 'a'\n"
        "  rate_limit  deny\n"
        "limits\n"
        "  timeout_s  2\n"
        "  tags       a, b\n"
        "steps\n"
        "  name  x\n"
        "  inner\n"
        "    y  1\n"
        "  plain"
    )


def test_explain_offline_reads_keys_that_stand_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "keys.json").write_bytes(jwks(jwk("RS256")))
    (tmp_path / "token").write_bytes(token(claims(iat=int(time.time()) - 5, exp=int(time.time()) + 600)))
    issuer = {"issuer": claims()["iss"], "audiences": ["orders"], "jwks": {"file": str(tmp_path / "keys.json")}}
    config = {"app": {"url": "http://127.0.0.1:8000"}, "issuers": {"main": issuer}, "routes": [{"name": "r"}]}
    (tmp_path / "f.yaml").write_text(json.dumps(config))
    arguments = [
        "explain",
        "-c",
        str(tmp_path / "f.yaml"),
        "GET",
        "/",
        "--token-file",
        str(tmp_path / "token"),
        "--json",
    ]
    assert main(arguments) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["verdict"], answer["policies"][0]["why"][:14]) == ("allow", "subject 'jane'")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert paint_for(Terminal())("error", "error") == "\x1b[31;1merror\x1b[0m"
    assert paint_for(Terminal())("x", "unknown role") == "x"
    assert paint_for(io.StringIO())("error", "error") == "error"
    monkeypatch.setenv("TERM", "dumb")
    assert not is_colourful(Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert not is_colourful(Terminal())


def test_explain_offline_asks_the_assembly(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []

    def explain(config: Config, question: dict[str, Any]) -> dict[str, Any]:
        if question["method"] == "SENSELESS":
            raise ValueError("SENSELESS is no method")
        asked.append((config.app and config.app.url, question["url"]))
        return {"route": "orders"}

    fake = types.ModuleType("agent.assembly.explain")
    fake.__dict__["explain"] = explain
    monkeypatch.setitem(sys.modules, "agent.assembly.explain", fake)
    assert main(["explain", "-c", str(file), "GET", "/orders"]) == 0
    assert capsys.readouterr().out == "route  orders\n"
    assert asked == [("http://127.0.0.1:8000", "/orders")]
    assert main(["explain", "-c", str(file), "senseless", "/"]) == 1
    assert "SENSELESS is no method" in capsys.readouterr().err
    file.write_text("workers: 0\n")
    assert main(["explain", "-c", str(file), "GET", "/"]) == 1
    assert "workers: must be at least 1" in capsys.readouterr().err
