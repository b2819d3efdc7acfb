"""Steps about what fails: retries, breaker, deadline, a restart, a dead target."""

import asyncio

from examples.demo.patience import until
from examples.demo.talk import Answer, Talk


async def retried(talk: Talk) -> None:
    """The application fails twice; the client never sees it."""
    screen, world = talk.screen, talk.world
    screen.step(
        "Retries", "The application fails twice, then works. The route allows three tries of what may be repeated."
    )
    await talk.operate("orders", "/flaky/retried?failures=2", method="PUT")
    answer = await talk.ask("/flaky/retried", await world.token("alice", "reader"), as_whom="token of alice")
    screen.check(answer.status == 200, "the client sees one good answer", answer)
    count = (await world.access_line(answer.trace_id)).get("http.request.resend_count")
    screen.check(count == 2, "the access log says: http.request.resend_count = 2", count)


async def broken(talk: Talk) -> None:
    """The circuit opens, and closes again."""
    screen, world = talk.screen, talk.world
    screen.step("Circuit breaker", "Three failures in a row open it: the application gets a second of rest.")
    token = await world.token("alice", "reader")
    await talk.operate("orders", "/flaky/broken?failures=3", method="PUT")
    for _ in range(3):
        answer = await talk.ask("/flaky/broken", token, show=False)
        screen.sent("GET /flaky/broken")
        screen.got(f"{answer.status}, made by the {answer.origin}")
    answer = await talk.ask("/flaky/broken", token)
    screen.check((answer.status, answer.reason) == (503, "circuit_open"), "open: 503 from the sidecar itself", answer)

    async def closed() -> Answer | None:
        answer = await talk.ask("/flaky/broken", token, show=False)
        return answer if answer.status == 200 else None

    answer = await until(closed, pause_s=0.1)
    screen.sent("GET /flaky/broken, a second later")
    talk.show(answer)
    states = await talk.metric('outrigger_circuit_breaker_state{route="broken"}')
    screen.check(bool(states) and states[0].endswith(" 0"), "one good probe has closed it again", states)


async def timed_out(talk: Talk) -> None:
    """An application that is too slow."""
    screen = talk.screen
    screen.step("Deadline", "The application takes five seconds, the route allows half a second.")
    answer = await talk.ask("/slow", await talk.world.token("alice", "reader"), as_whom="token of alice")
    screen.check((answer.status, answer.reason) == (504, "timeout"), "504, timeout, made by the sidecar", answer)


async def called_out(talk: Talk) -> None:
    """The application calls another service, of which one instance dies."""
    screen, world = talk.screen, talk.world
    screen.step("Outbound", "The application asks the inventory through its sidecar: two instances, taken in turn.")
    token = await world.token("otto", "reader")
    ports = set()
    for _ in range(2):
        answer = await talk.ask("/orders/1/stock", token, as_whom="the application calls /v1/invoke/inventory/…")
        ports.add((answer.data or {}).get("answered_by_port"))
    screen.check(len(ports) == 2, "both instances have answered", ports)
    await world.children["inventory_1"].stop()
    screen.sent("one instance is stopped; GET /orders/1/stock, twice")
    answers = [await talk.ask("/orders/1/stock", token, show=False) for _ in range(2)]
    screen.got(", ".join(str(answer.status) for answer in answers))
    screen.check([answer.status for answer in answers] == [200, 200], "the other one answers for both")


async def led_elsewhere(talk: Talk) -> None:
    """Gateway mode: a route to another service."""
    screen = talk.screen
    screen.step("Gateway", "This route leads to the inventory itself; the prefix /shop is taken off.")
    answer = await talk.ask("/shop/stock/rope", await talk.world.token("alice", "reader"), as_whom="token of alice")
    screen.check(answer.status == 200 and answer.origin == "upstream", "200, answered by the upstream", answer)


async def restarted(talk: Talk) -> None:
    """The application restarts; requests wait for it."""
    screen, orders = talk.screen, talk.world.children["orders"]
    screen.step("The application restarts", "Requests that arrive meanwhile are held for up to ten seconds.")
    token = await talk.world.token("rita", "reader")
    await orders.stop()
    waiting = asyncio.ensure_future(talk.ask("/orders/1", token, show=False))
    screen.sent("the application is stopped; GET /orders/1; the application is started")
    await asyncio.sleep(0.1)
    held = not waiting.done()
    await orders.start()
    answer = await waiting
    talk.show(answer)
    screen.check(held and answer.status == 200, "the request waited, and was answered", answer)
