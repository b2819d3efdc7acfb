"""`/metrics`: all metrics of all workers, rendered when somebody looks."""

import asyncio

from agent.drivers.control_messages import Handler, Request, Response
from agent.ports.operator import SidecarView
from agent.telemetry.exposition import choose, parts


def endpoints(view: SidecarView) -> dict[tuple[str, str], Handler]:
    """The scrape; requests go on being served between its parts."""

    async def scrape(request: Request) -> Response:
        content_type, openmetrics = choose(request.fields.get("accept", ""))
        pieces = []
        for piece in parts(await view.snapshot(), openmetrics):
            pieces.append(piece)
            await asyncio.sleep(0)
        return Response(b"".join(pieces), content_type=content_type, fields=(("vary", "accept"),))

    return {("GET", "/metrics"): scrape}
