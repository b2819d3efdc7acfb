"""Rate limits of a route: who is counted together, what a request costs, and what the client is told.

A refused request costs nothing, whatever the algorithm. With several limits on a route all are asked before any is
charged, so a request that one refuses is not charged to the others; the strictest one's numbers are shown. That holds
for limits that are judged at the same place: before the caller is known, or after (`knows_nobody`).
"""

from collections.abc import Callable, Hashable, Sequence
from math import ceil
from typing import ClassVar, Literal, Protocol

from pydantic import Field, field_validator, model_validator

from agent.core.limits.decision import Decision, Taken
from agent.core.limits.local_limit import AlgorithmName, LocalLimit, algorithm_of, share_of
from agent.core.settings import Settings as SettingsModel
from agent.ports.policy import Deny, Need, Policy, Verdict
from agent.telemetry.metrics import Registry
from agent.wire.head import RequestHead
from agent.wire.problem import Refusal
from agent.wire.rate_limit_fields import RateLimitFields, policy_item, without
from agent.wire.request_key import OF_CALLERS, KeyOf, check_part, key_of

_BUCKETS = ("token_bucket", "gcra")


class Settings(SettingsModel):
    """One rate limit. A route may have several; each needs a name of its own."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    """Shown to clients and in metrics."""
    limit: int = Field(gt=0, le=1_000_000_000)
    """Units (requests, unless `cost` says otherwise) per `per_s` seconds and key. It holds for all workers together:
    each gives out its equal share, so a client that reaches only one of them gets only that share. Shares are whole
    numbers: what can't be divided (1 of 100 with 3 workers) is given to nobody, and `check` warns of it."""
    per_s: float = Field(gt=0, le=31_622_400)
    """The period in seconds."""
    algorithm: AlgorithmName = "sliding_window"
    """`sliding_window`: at most `limit` in nine tenths of any period. It counts in ten slots, of which the last fades:
    a request counts for up to a tenth longer than the period, so `t` may be that much above `w`. `fixed_window`: starts
    again every period, up to twice the limit around a boundary. `token_bucket` and `gcra`: a steady rate with bursts of
    up to `burst`."""
    burst: int | None = Field(default=None, gt=0, le=1_000_000_000)
    """The most units that may be taken at once, for `token_bucket` and `gcra`. Default: `limit`."""
    key: tuple[str, ...] = Field(default=("subject",), min_length=1)
    """Requests with the same values are counted together: `subject` (with its issuer and tenant), `ip`, `route`,
    `tenant`, `issuer`, `host`, `method`, `global`, `header:NAME`, `claim:PATH`. Where a request has no such value (no
    token, no such header or claim), its IP address stands in for it. `header:NAME` and `host` are what the client says:
    whoever can change them at will can evade a limit that is keyed by them alone. A limit whose key says nothing of the
    caller (no `subject`, `tenant`, `issuer` or `claim:PATH`) is judged before the token, so it also bounds how many bad
    tokens can be tried. The others are judged after it, and count only requests that were let in."""
    cost: int | str = 1
    """Units per request, or `header:NAME` for the number in that request header: at least 1, and 1 where it is missing
    or no number. Take the header only from callers that you trust to tell the truth."""
    max_keys: int = Field(default=10_000, ge=1, le=10_000_000)
    """Keys that are counted at the same time, in each worker (about 400 bytes each). Beyond it the keys that have used
    least are forgotten."""
    ipv6_prefix: int = Field(default=64, ge=1, le=128)
    """IPv6 addresses that share this many leading bits are one client: a household usually has a /64 or more."""
    headers: Literal["draft", "legacy", "both", "none"] = "both"
    """What every response tells: `RateLimit-Policy` and `RateLimit` (IETF draft), `X-RateLimit-*`, both or nothing.
    `Retry-After` is always sent with a 429."""
    mode: Literal["enforce", "shadow"] = "enforce"
    """`shadow` counts and records what it would have refused, but never refuses and tells clients nothing."""

    @field_validator("key")
    @classmethod
    def _check_key(cls, key: tuple[str, ...]) -> tuple[str, ...]:
        for part in key:
            check_part(part)
        return key

    @field_validator("cost")
    @classmethod
    def _check_cost(cls, cost: int | str) -> int | str:
        if isinstance(cost, int) and cost < 1:
            raise ValueError(f"a request can't cost {cost}: use 1 or more")
        if isinstance(cost, str):
            if not cost.startswith("header:"):
                raise ValueError(f"{cost!r} is no cost: use a whole number, or header:NAME")
            check_part(cost)
        return cost

    @model_validator(mode="after")
    def _check_capacity(self) -> "Settings":
        if self.burst is not None and self.algorithm not in _BUCKETS:
            raise ValueError(f"burst is for token_bucket and gcra; {self.algorithm} admits up to its limit at once")
        if isinstance(self.cost, int) and self.cost > self.capacity:
            raise ValueError(f"a request costs {self.cost} but at most {self.capacity} can be taken: none would pass")
        return self

    @property
    def capacity(self) -> int:
        """The most units that can be taken at once."""
        return self.burst or self.limit

    @property
    def knows_nobody(self) -> bool:
        """Whether no part of the key is about the caller's identity, so that it can be judged before that is known."""
        return not any(part.partition(":")[0] in OF_CALLERS for part in self.key)

    @property
    def definition(self) -> tuple[object, ...]:
        """What has to be equal for counts to mean the same after a reload."""
        return self.name, self.limit, self.per_s, self.algorithm, self.capacity, self.key, self.ipv6_prefix


class Limiter(Protocol):
    """Where one limit is counted. In this process it answers at once; elsewhere it may need a fact first.

    After a `peek` that allowed, a `take` with the same arguments in the same moment answers the same.
    """

    def take(self, key: Hashable, cost: int, now: float) -> Decision | Need:
        """Take `cost` units from `key` if they are there."""

    def peek(self, key: Hashable, cost: int, now: float) -> Decision | Need:
        """What `take` would answer; changes nothing."""


class _Rule:
    """One limit, made ready for requests."""

    __slots__ = ("_cost_field", "allowed", "cost", "key_of", "limited", "limiter", "lines", "refusal", "settings")

    def __init__(
        self, settings: Settings, limiter: Limiter, lines: RateLimitFields, cells: tuple[list[int], list[int]]
    ) -> None:
        self.settings = settings
        self.limiter = limiter
        self.lines = lines
        self.allowed, self.limited = cells
        self.key_of: KeyOf = key_of(settings.key, ipv6_prefix=settings.ipv6_prefix)
        self.cost = settings.cost if isinstance(settings.cost, int) else 0
        """Units of every request; 0 where each says its own."""
        field = settings.cost.removeprefix("header:") if isinstance(settings.cost, str) else ""
        self._cost_field = field.lower().encode()
        detail = f"The limit {settings.name} allows {settings.limit} per {settings.per_s:g} s."
        self.refusal = Refusal("rate_limited", detail=detail)

    def cost_of(self, head: RequestHead) -> int:
        """Units that this request asks for: never less than 1, so that nobody can ask for a refund."""
        if self.cost:
            return self.cost
        value = head.fields.get(self._cost_field, b"")
        return max(1, int(value[:20])) if value.isdigit() else 1

    def refuse(self, decision: Decision) -> Deny:
        """The answer for a request that would exceed this limit."""
        _, remaining, reset_after_s, retry_after_s = decision
        settings = self.settings
        why = f"limit {settings.name}: {remaining} left of {settings.limit} per {settings.per_s:g} s"
        if retry_after_s < 0.0:  # its cost exceeds the capacity: no time would be true
            return Deny(self.refusal, extra=self.lines.render(remaining, reset_after_s), why=f"{why}, costs too much")
        wait_s = max(1, ceil(retry_after_s))  # who comes back then must get through
        # The draft wants `t` and Retry-After to name the same moment.
        extra = b"%sretry-after: %d\r\n" % (self.lines.render(remaining, wait_s), wait_s)
        return Deny(self.refusal, extra=extra, why=f"{why}, next in {wait_s} s")


Charge = tuple[_Rule, Hashable, int]


class RateLimit(Policy):
    """Rate limits of one route that share a mode and a place in its chain."""

    __slots__ = (
        "_allowed", "_cost", "_earlier", "_heads", "_key_of", "_only", "_rules", "_share", "_states", "_tails", "_take",
    )  # fmt: skip

    name: ClassVar[str] = "rate_limit"

    def __init__(
        self,
        limits: Sequence[Settings],
        *,
        route: str,
        registry: Registry,
        share: float = 1.0,
        earlier: Sequence[Settings] = (),
        limiter_of: Callable[[Settings], Limiter] | None = None,
    ) -> None:
        """Prepare `limits`.

        `share` is the part that this process may give out: 1/workers, so that all workers together never exceed a
        limit. `earlier` are limits that another policy of the chain has judged before these: the client gets one set of
        header fields, this policy's. `limiter_of` says where limits are counted; by default in this process.

        Raises ValueError for no limits, mixed modes, a name used twice, and a limit too small to be shared.
        """
        if not limits or len({limit.mode for limit in limits}) > 1:
            raise ValueError(
                f"route {route}: rate limits that are judged together need one mode, and at least one limit"
            )
        if len({limit.name for limit in limits}) < len(limits):
            raise ValueError(f"route {route}: two rate limits have the same name")
        self._share = share
        self._earlier = tuple(earlier)
        self._rules = self._prepare(limits, route, registry, limiter_of)
        self._hold()

    def _prepare(
        self,
        limits: Sequence[Settings],
        route: str,
        registry: Registry,
        limiter_of: Callable[[Settings], Limiter] | None,
    ) -> list[_Rule]:
        labels = ("limit", "route")
        decisions = registry.counter("outrigger_rate_limit_decisions_total", "Requests judged.", (*labels, "decision"))
        evictions = registry.counter(
            "outrigger_rate_limit_evictions_total",
            "Keys forgotten while they still counted: max_keys is too small.",
            labels,
        )
        keys = registry.gauge("outrigger_rate_limit_keys", "Keys that are being counted.", labels)
        shown = [limit for limit in (*self._earlier, *limits) if limit.headers in ("draft", "both")]
        policies = b", ".join(policy_item(one.name, one.limit, one.per_s, one.capacity) for one in shown)
        rules = []
        for settings in limits:
            limiter = (limiter_of or self._local)(settings)
            cells = decisions.at(settings.name, route, "allowed"), decisions.at(settings.name, route, "limited")
            if isinstance(limiter, LocalLimit):
                limiter.table.evictions = evictions.at(settings.name, route)
                keys.watch(limiter.count, settings.name, route)
            fields = RateLimitFields(settings.name, settings.capacity, settings.headers, policies)
            rules.append(_Rule(settings, limiter, fields, cells))
        return rules

    def _local(self, settings: Settings) -> LocalLimit:
        limit = share_of(settings.limit, self._share)
        burst = share_of(settings.capacity, self._share)
        if isinstance(settings.cost, int) and settings.cost > burst:
            raise ValueError(f"limit {settings.name}: a request costs {settings.cost}, a worker's share is {burst}")
        algorithm = algorithm_of(settings.algorithm, limit, settings.per_s, burst)
        return LocalLimit(algorithm, max_keys=settings.max_keys)

    def _hold(self) -> None:
        """Keep what the straight path needs where it costs one look-up."""
        rule = self._rules[0]
        limiter = rule.limiter
        self._only = None
        if len(self._rules) > 1 or self._earlier or not isinstance(limiter, LocalLimit):
            return
        self._only = rule
        self._key_of = rule.key_of
        self._cost = rule.cost
        self._allowed = rule.allowed
        self._heads = rule.lines.heads
        self._tails = rule.lines.tails
        self._states = limiter.table.states
        self._take = limiter.algorithm.take

    def adopt(self, old: Policy) -> bool:
        """Go on with the counts of `old` where name, limit, period, algorithm, burst and key are the same.

        Returns whether nothing is left to look for: limits may have been judged elsewhere in the chain before.
        """
        if not isinstance(old, RateLimit) or self._share != old._share:
            return False
        known = {rule.settings.definition: rule.limiter for rule in old._rules}
        adopted = 0
        for rule in self._rules:
            limiter = known.get(rule.settings.definition)
            if isinstance(limiter, LocalLimit) and isinstance(rule.limiter, LocalLimit):
                rule.limiter.adopt(limiter)
                adopted += 1
        self._hold()
        return adopted == len(self._rules)

    def on_request(self, head: RequestHead, now: float) -> Verdict:
        """Charge the request to every limit, or refuse it and charge none."""
        # One local limit, allowed, all headers: 1.1 µs (key 0.13, algorithm 0.45, lines 0.15), nothing kept but counts.
        rule = self._only
        if rule is None:
            return self._judge_all(head, now)
        key = self._key_of(head)
        state = self._states.get(key)
        if state is None:
            assert isinstance(rule.limiter, LocalLimit)
            state = rule.limiter.state_of(key, now)
        allowed, remaining, reset_after_s, retry_after_s = self._take(state, self._cost or rule.cost_of(head), now)
        if allowed:
            self._allowed[0] += 1
            try:  # `RateLimitFields.render` without the call
                head.response_extra += self._heads[remaining] + self._tails[int(reset_after_s + 0.999999)]
            except KeyError:
                head.response_extra += rule.lines.render(remaining, reset_after_s)
            return None
        rule.limited[0] += 1
        return rule.refuse((allowed, remaining, reset_after_s, retry_after_s))

    def take(self, key: str, cost: int, now: float) -> Taken | Need:
        """Take `cost` units from `key` for someone who names both: the application's own limits.

        0 only asks. Raises ValueError for less.
        """
        if cost < 0:
            raise ValueError(f"can't take {cost}: use 0 or more")
        answer = self._charge([(rule, key, cost) for rule in self._rules], now)
        return answer if isinstance(answer, Need) else Taken(*answer[1])

    def explain(self, head: RequestHead, now: float) -> tuple[str, str]:
        """Ask every limit without charging any."""
        answer = self._ask(self._charges(head), now)
        if isinstance(answer, Need):
            return "need", "the count is kept elsewhere and has to be asked for first"
        rule, (allowed, remaining, reset_after_s, retry_after_s) = _strictest(answer)
        settings = rule.settings
        counts = f"limit {settings.name} ({settings.limit} per {settings.per_s:g} s by {' + '.join(settings.key)})"
        if allowed:
            return "allow", f"{counts}: {remaining} left after this request, as new in {reset_after_s:.1f} s"
        when = f"next in {retry_after_s:.1f} s" if retry_after_s >= 0.0 else "costs more than can ever be taken"
        return "deny", f"{counts}: {remaining} left, {when}"

    def _judge_all(self, head: RequestHead, now: float) -> Verdict:
        answer = self._charge(self._charges(head), now)
        if isinstance(answer, Need):
            return answer
        rule, decision = answer
        lines = rule.lines.render(decision[1], decision[2])
        if self._earlier:
            head.response_extra = without(head.response_extra, lines)
        if not decision[0]:
            return rule.refuse(decision)
        head.response_extra += lines
        return None

    def _charges(self, head: RequestHead) -> list[Charge]:
        return [(rule, rule.key_of(head), rule.cost_of(head)) for rule in self._rules]

    def _ask(self, charges: list[Charge], now: float) -> list[tuple[_Rule, Decision]] | Need:
        answers = []
        for rule, key, cost in charges:
            decision = rule.limiter.peek(key, cost, now)
            if isinstance(decision, Need):
                return decision
            answers.append((rule, decision))
        return answers

    def _charge(self, charges: list[Charge], now: float) -> tuple[_Rule, Decision] | Need:
        """Ask all, then charge all or none. Answers for the strictest."""
        answers = self._ask(charges, now)
        if isinstance(answers, Need):
            return answers
        if all(decision[0] for _, decision in answers):
            for rule, key, cost in charges:
                rule.limiter.take(key, cost, now)
                rule.allowed[0] += 1
        else:
            for rule, decision in answers:
                rule.limited[0] += not decision[0]
        return _strictest(answers)


def _strictest(answers: list[tuple[_Rule, Decision]]) -> tuple[_Rule, Decision]:
    """The refusal with the longest wait; where all allow, what has least left (and takes longest to come back)."""

    def strictness(answer: tuple[_Rule, Decision]) -> tuple[bool, float, float]:
        allowed, remaining, reset_after_s, retry_after_s = answer[1]
        if allowed:
            return True, remaining, -reset_after_s
        return False, -retry_after_s if retry_after_s >= 0.0 else float("-inf"), 0.0

    return min(answers, key=strictness)
