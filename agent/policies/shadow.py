"""Try a policy on real traffic without letting it refuse anyone: it decides and is recorded, and the request passes.

What shadow mode promises: the client can't tell. No request is refused or made to wait, and no response is changed,
whether by what the policy would add or by what it would take away. What a policy that allows adds to the *request*
(an identity, its headers) stays, so that policies after it, and the application, can be tried too.
"""

from collections.abc import Callable
from typing import ClassVar

from agent.ports.policy import Deny, Fact, Need, Outcome, Policy, Verdict
from agent.telemetry.metrics import Registry
from agent.wire.head import RequestHead


class Shadow(Policy):
    """Wraps one policy whose mode is `shadow`.

    `prefetch` is told the facts that the inner policy would wait for, so that shared ones (an issuer's keys) arrive
    for the requests to come; it runs them in the background and ignores those already under way. A place in a queue is
    a fact of one request alone, so the facts of policies that observe are not fetched.
    """

    __slots__ = ("_denied", "_prefetch", "_route", "_silenced", "_undecided", "inner", "name", "observes")

    response_drop: ClassVar[frozenset[bytes]] = frozenset()
    """Whatever the inner policy would strip from responses is left in place."""

    def __init__(
        self, inner: Policy, *, route: str, registry: Registry, prefetch: Callable[[Fact], None] = lambda _: None
    ) -> None:
        self.inner = inner
        self.name = inner.name  # type: ignore[misc] # one class for policies of many names
        self.observes = inner.observes  # type: ignore[misc]
        self._prefetch = prefetch
        self._route = route
        self._denied = registry.counter(
            "outrigger_policy_shadow_denied_total",
            "Requests that a policy in shadow mode would have refused, as the first to do so.",
            ("policy", "route", "code"),
        )
        self._undecided = registry.counter(
            "outrigger_policy_shadow_undecided_total",
            "Requests that passed a policy in shadow mode which would have waited for something.",
            ("policy", "route"),
        ).at(inner.name, route)
        self._silenced: set[RequestHead] = set()
        """Requests that the inner policy hasn't allowed, so it must not hear of their end."""

    def adopt(self, old: Policy) -> bool:
        """Let the inner policy go on with the state of its predecessor, shadow or not."""
        return self.inner.adopt(old.inner if isinstance(old, Shadow) else old)

    def on_request(self, head: RequestHead, now: float) -> Verdict:
        """Always allow."""
        response_extra, request_extra, identity = head.response_extra, head.request_extra, head.identity
        verdict = self.inner.on_request(head, now)
        head.response_extra = response_extra
        if verdict is not None:
            head.request_extra, head.identity = request_extra, identity
            self._record(head, verdict)
        return None

    def _record(self, head: RequestHead, verdict: Deny | Need) -> None:
        if self.observes:
            self._silenced.add(head)
        if isinstance(verdict, Need):
            self._undecided[0] += 1
            if not self.observes:
                self._prefetch(verdict.fact)
        elif verdict.refusal.status >= 400 and not head.shadow:  # enforced, nobody after the first would be asked
            head.shadow, head.shadow_why = verdict.refusal.code, verdict.why
            self._denied.at(self.name, self._route, head.shadow)[0] += 1

    def on_response(self, head: RequestHead, outcome: Outcome, now: float) -> None:
        """Pass on how requests ended that the inner policy allowed."""
        if head in self._silenced:
            self._silenced.discard(head)
        else:
            self.inner.on_response(head, outcome, now)

    def explain(self, head: RequestHead, now: float) -> tuple[str, str]:
        """What the inner policy would say; the answer is always ``allow``."""
        verdict, why = self.inner.explain(head, now)
        return "allow", f"in shadow mode: would {'wait' if verdict == 'need' else verdict}: {why}"
