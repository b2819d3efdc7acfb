"""What would happen to a described request, and why: the same tables and policies, asked without consequences."""

import asyncio
from collections.abc import Mapping
from typing import Any

from agent.assembly.tables import DEFAULT
from agent.config.root import Config
from agent.core.clock import monotonic
from agent.policies.jwt import Jwt
from agent.policies.shadow import Shadow
from agent.ports.operator import Question
from agent.ports.policy import Deny, Policy
from agent.proxy.plan import Plan
from agent.proxy.surface import InboundSurface
from agent.traffic.routes import RouteTable
from agent.wire.codes import BY_CODE
from agent.wire.errors import MalformedError
from agent.wire.head import RequestHead
from agent.wire.path import BadTargetError, split_target


class Explainer:
    """Asks the tables in force. `table` is the surface's own."""

    def __init__(self, surface: InboundSurface, table: RouteTable[Plan]) -> None:
        self._surface = surface
        self._table = table

    def explain(self, question: Question, now: float) -> dict[str, Any]:
        """Route, policies, verdicts and why, as JSON. Raises ValueError for a question that describes no request."""
        try:
            head = self._head(question)
        except MalformedError as error:
            return {"verdict": "deny", "answer": _answer(error.code), "why": str(error)}
        self._surface.complete(head)
        plan = self._surface.route(head)
        head.route = plan.name
        policies, verdict, refused = _judge(plan, head, now)
        if verdict == "allow" and plan.cluster is None:
            verdict, refused = "deny", _answer("no_route")
        answer: dict[str, Any] = {
            "verdict": verdict,
            "request": {
                "method": head.method.decode(),
                "path": head.path.decode("latin-1"),
                "host": head.host.decode("latin-1"),
                "client_ip": head.client_ip,
            },
            "route": plan.name,
            "routes": self._rows(head, plan),
            "policies": policies,
        }
        if verdict == "allow":
            answer["leads_to"] = _leads_to(plan, head)
        elif refused:
            answer["answer"] = refused
        return answer

    def _head(self, question: Question) -> RequestHead:
        headers = {name.lower(): value for name, value in question.headers.items()}
        if question.token:
            headers["authorization"] = f"Bearer {question.token}"
        try:
            _, authority, path, query = split_target(question.url.encode(), question.method.encode())
        except BadTargetError as error:
            raise ValueError(str(error)) from None
        headers.setdefault("host", authority.decode("latin-1") or "localhost")
        target = path + b"?" + query if query else path
        lines = [f"{name}: {value}".encode() for name, value in headers.items()]
        data = b"\r\n".join((question.method.encode() + b" " + target + b" HTTP/1.1", *lines, b"", b""))
        parsed = self._surface.parser().parse(data)
        if parsed is None or parsed[1] != len(data):
            raise ValueError("method, URL or headers contain line ends: they describe more than one request")
        head = parsed[0]
        head.peer = question.client_ip
        return head

    def _rows(self, head: RequestHead, plan: Plan) -> list[dict[str, Any]]:
        rows = [
            {"route": name, "matched": matched, "why": why or "matches"}
            for name, matched, why in self._table.explain(head)
        ]
        if plan.name == DEFAULT:
            rows.append({"route": DEFAULT, "matched": True, "why": "no other route matches"})
        return rows


_CODES = {"rate_limit": "rate_limited", "circuit_breaker": "circuit_open", "concurrency": "overloaded"}
"""Policies that count what they are asked, and their one code: it is known without asking."""


def _judge(plan: Plan, head: RequestHead, now: float) -> tuple[list[dict[str, str]], str, dict[str, Any]]:
    """Each policy's verdict, the last one's, and the answer where that is a refusal."""
    rows = []
    for policy in plan.chain:
        verdict, why = policy.explain(head, now)
        rows.append({"policy": policy.name, "verdict": verdict, "why": why})
        if verdict != "allow":
            return rows, verdict, _refused(policy, head, now) if verdict == "deny" else {}
        _identify(policy, head, now)
    return rows, "allow", {}


def _refused(policy: Policy, head: RequestHead, now: float) -> dict[str, Any]:
    code = _CODES.get(policy.name)
    if code is not None:
        return _answer(code)
    verdict = policy.on_request(head, now)
    assert isinstance(verdict, Deny)
    refusal = verdict.refusal
    known = _answer(refusal.code) if refusal.code in BY_CODE else {"code": refusal.code, "meaning": verdict.why}
    return known | {"status": refusal.status}


def _identify(policy: Policy, head: RequestHead, now: float) -> None:
    """Let the policies after authentication know the caller; a good token being remembered is no consequence."""
    inner = policy.inner if isinstance(policy, Shadow) else policy
    if isinstance(inner, Jwt):
        inner.on_request(head, now)


def _leads_to(plan: Plan, head: RequestHead) -> dict[str, Any]:
    cluster = plan.cluster
    assert cluster is not None
    leads: dict[str, Any] = {"upstream": cluster.name if plan.choose is None else "one of several, by weight"}
    leads["targets"] = [target.name for target in cluster.targets] if plan.choose is None else []
    leads["path"] = head.path.decode("latin-1")
    if plan.rewrite is not None:
        leads["path"] = plan.rewrite.apply_path(head.path).decode("latin-1")
    leads["timeout_s"] = plan.timeouts.timeout_s
    if plan.retry is not None:
        leads["tries"] = plan.retry.settings.attempts
    return leads


def _answer(code: str) -> dict[str, Any]:
    return {"status": BY_CODE[code].status, "code": code, "meaning": BY_CODE[code].meaning}


def explain(config: Config, request: Mapping[str, Any]) -> dict[str, Any]:
    """As `outrigger explain` without a running sidecar: limits and breakers are as after a start.

    Keys in files are read, those behind URLs aren't.

    Raises ConfigError, or ValueError for a question that describes no request.
    """
    from agent.assembly.offline import offline_path, read_key_files  # noqa: PLC0415  builds a whole data path

    path = offline_path(config)
    asyncio.run(read_key_files(path))
    assert path.generation is not None
    return Explainer(path.inbound, path.generation.tables.routes).explain(Question(**request), monotonic())
