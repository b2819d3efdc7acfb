"""A thin application: orders, and nothing else. Who may call, how often and how long is the sidecar's business."""

import asyncio
import os

from aiohttp import ClientSession, WSMsgType, web

ORDERS = {1: {"id": 1, "item": "anchor", "quantity": 1}, 2: {"id": 2, "item": "rope", "quantity": 40}}
FAILURES: dict[str, int] = {}
OUTBOUND = os.environ.get("OUTBOUND_URL", "http://127.0.0.1:4502")
PORT = int(os.environ.get("PORT", "8000"))
routes = web.RouteTableDef()


@routes.get("/healthz")
async def healthz(request: web.Request) -> web.Response:
    """For the sidecar: ready or not."""
    return web.Response(text="well\n")


@routes.get("/orders")
async def find_orders(request: web.Request) -> web.Response:
    """All orders, and who asked."""
    return web.json_response({"items": list(ORDERS.values()), "asked_by": request.headers.get("X-Outrigger-Subject")})


@routes.post("/orders")
async def create_order(request: web.Request) -> web.Response:
    """Take an order."""
    order = {**await request.json(), "id": max(ORDERS) + 1}
    ORDERS[order["id"]] = order
    return web.json_response(order, status=201)


@routes.get(r"/orders/{id:\d+}")
async def get_order(request: web.Request) -> web.Response:
    """One order."""
    order = ORDERS.get(int(request.match_info["id"]))
    return web.json_response(order or {"error": "no such order"}, status=200 if order else 404)


@routes.get(r"/orders/{id:\d+}/stock")
async def get_stock(request: web.Request) -> web.Response:
    """What is left of the item: the inventory knows."""
    item = ORDERS[int(request.match_info["id"])]["item"]
    async with ClientSession() as session, session.get(f"{OUTBOUND}/v1/invoke/inventory/stock/{item}") as answer:
        return web.json_response(await answer.json(), status=answer.status)


@routes.get("/events")
async def stream_events(request: web.Request) -> web.StreamResponse:
    """Server-sent events, as they happen."""
    stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await stream.prepare(request)
    for number in range(int(request.query.get("count", "5"))):
        await stream.write(f"id: {number}\ndata: order {number} shipped\n\n".encode())
        await asyncio.sleep(0.2)
    return stream


@routes.get("/ws")
async def echo(request: web.Request) -> web.WebSocketResponse:
    """A WebSocket that answers."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(f"orders heard: {message.data}")
    return socket


@routes.put("/flaky/{name}")
async def set_failures(request: web.Request) -> web.Response:
    """Fail the next so many calls, for whoever wants to see what happens then."""
    FAILURES[request.match_info["name"]] = int(request.query["failures"])
    return web.Response()


@routes.get("/flaky/{name}")
async def flaky(request: web.Request) -> web.Response:
    """Fail as often as told, then work."""
    name = request.match_info["name"]
    FAILURES[name] = FAILURES.get(name, 0) - 1
    return web.Response(text="fine\n") if FAILURES[name] < 0 else web.Response(status=503, text="not now\n")


@routes.get("/slow")
async def slow(request: web.Request) -> web.Response:
    """Take long."""
    await asyncio.sleep(float(request.query.get("seconds", "5")))
    return web.Response(text="at last\n")


if __name__ == "__main__":
    application = web.Application()
    application.add_routes(routes)
    web.run_app(application, host="127.0.0.1", port=PORT, reuse_port=True, access_log=None, shutdown_timeout=0.1)
