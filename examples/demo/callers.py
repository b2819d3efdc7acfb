"""Steps about who may call: identity, refusals, limits."""

import asyncio
import sys

from examples.demo.talk import Talk


async def allowed(talk: Talk) -> None:
    """A good token, and the identity that the application saw."""
    screen = talk.screen
    screen.step("Allowed", "The application checks no token: the sidecar does, and says who is calling in a header.")
    answer = await talk.ask("/orders", await talk.world.token("alice", "reader"), as_whom="token of alice, a reader")
    screen.check(answer.status == 200 and answer.origin == "app", "200, answered by the application", answer)
    screen.check((answer.data or {}).get("asked_by") == "alice", "the application saw who was calling: alice")


async def unauthorized(talk: Talk) -> None:
    """No token, and three that are not good."""
    screen, world = talk.screen, talk.world
    screen.step("401: no token, or a bad one", "Refused before the application hears of it, and the log says why.")
    answer = await talk.ask("/orders", as_whom="no token")
    challenge = answer.fields.get("WWW-Authenticate", "")
    screen.check((answer.status, answer.reason) == (401, "token_missing"), "401, token_missing", answer)
    screen.check(challenge.startswith("Bearer realm="), "WWW-Authenticate asks for a bearer token (RFC 6750)")
    good = await world.token("alice", "reader")
    head, payload, signature = good.split(".")
    forged = ".".join((head, payload, ("B" if signature[0] == "A" else "A") + signature[1:]))
    for token, whom, reason in (
        (forged, "a token with a forged signature", "token_invalid"),
        (await world.token("alice", "reader", expires_in="-3600"), "a token that expired an hour ago", "token_expired"),
        (await world.token("alice", "reader", audience="billing"), "a token for another service", "token_invalid"),
    ):
        answer = await talk.ask("/orders", token, as_whom=whom)
        screen.check((answer.status, answer.reason) == (401, reason), f"401, {reason}", answer)
        line = await world.access_line(answer.trace_id)
        screen.more([screen.paint(f"the log says: {line.get('outrigger.why')}", "faint")])


async def forbidden(talk: Talk) -> None:
    """A good token that isn't enough."""
    screen = talk.screen
    screen.step("403: a good token that isn't enough", "The route for writing asks for the role `writer`.")
    order = {"item": "sail", "quantity": 2}
    reader = await talk.world.token("alice", "reader")
    answer = await talk.ask("/orders", reader, method="POST", body=order, as_whom="token of alice, a reader")
    screen.check((answer.status, answer.reason) == (403, "role_missing"), "403, role_missing", answer)
    writer = await talk.world.token("walter", "writer")
    answer = await talk.ask("/orders", writer, method="POST", body=order, as_whom="token of walter, a writer")
    screen.check(answer.status == 201 and answer.origin == "app", "201 for a writer", answer)


async def limited(talk: Talk) -> None:
    """One caller uses the limit up; another one isn't touched by that."""
    screen = talk.screen
    screen.step(
        "429: a limit for each caller", "Five requests a minute and subject. Clients are told before and after."
    )
    token = await talk.world.token("bob", "reader")
    answers = [await talk.ask("/orders/1", token, show=False) for _ in range(5)]
    screen.sent("GET /orders/1, five times   " + screen.paint("token of bob", "faint"))
    screen.got(", ".join(f"{answer.status} ({answer.fields.get('RateLimit')})" for answer in answers))
    screen.check([answer.status for answer in answers] == [200] * 5, "five are allowed")
    answer = await talk.ask("/orders/1", token, as_whom="token of bob, once more")
    screen.check((answer.status, answer.reason) == (429, "rate_limited"), "429, rate_limited", answer)
    told = "Retry-After" in answer.fields and "RateLimit-Policy" in answer.fields
    screen.check(told, "Retry-After and RateLimit-Policy say what to do")
    other = await talk.ask("/orders/1", await talk.world.token("carol", "reader"), as_whom="token of carol")
    screen.check(other.status == 200, "another caller isn't touched", other)


async def shadowed(talk: Talk) -> None:
    """A rule in shadow mode refuses nothing, and says what it would have refused."""
    screen = talk.screen
    screen.step("Shadow mode", "A new rule on real traffic: it decides and records, and refuses nothing yet.")
    token = await talk.world.token("alice", "reader")
    answer = await talk.ask("/events?count=1", token, as_whom="token of alice; the rule asks for an auditor")
    screen.check(answer.status == 200, "200: the rule isn't enforced yet", answer)
    line = await talk.world.access_line(answer.trace_id)
    screen.check(line.get("outrigger.shadow") == "role_missing", "the log says: outrigger.shadow = role_missing", line)


async def explained(talk: Talk) -> None:
    """The command that says what would happen to a request."""
    screen, world = talk.screen, talk.world
    screen.step("Why? The explanation of a refusal", "Asks the running sidecar. Nothing is sent, nothing is counted.")
    token = world.folder / "bob.token"
    token.write_text(await world.token("bob", "reader"))
    arguments = ["explain", "POST", "/orders", "--token-file", str(token), "--admin", world.url("admin")]
    screen.sent(f"outrigger explain POST /orders --token-file bob.token --admin {world.url('admin')}")
    code, text = await run_cli(*arguments)
    screen.got(text)
    screen.check(code == 0 and "write-orders" in text, "it names the route")
    screen.check("deny" in text and "writer" in text, "and says which policy refuses, and what is missing")


async def run_cli(*arguments: str) -> tuple[int, str]:
    """Run `outrigger` as a user would."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agent", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()
