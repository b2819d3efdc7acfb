"""Another thin application: what is in stock. The demo runs two of it, and orders asks them through the sidecar."""

import os

from aiohttp import web

STOCK = {"anchor": 7, "rope": 1200}
PORT = int(os.environ.get("PORT", "9101"))
routes = web.RouteTableDef()


@routes.get("/stock/{item}")
async def get_stock(request: web.Request) -> web.Response:
    """How many there are of an item."""
    item = request.match_info["item"]
    return web.json_response({"item": item, "in_stock": STOCK.get(item, 0), "answered_by_port": PORT})


if __name__ == "__main__":
    application = web.Application()
    application.add_routes(routes)
    web.run_app(application, host="127.0.0.1", port=PORT, reuse_port=True, access_log=None, shutdown_timeout=0.1)
