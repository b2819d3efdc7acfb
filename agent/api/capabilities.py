"""`GET /v1/capabilities`: what each building block guarantees natively, emulates or refuses."""

from agent.drivers.control_messages import Handler, Request, Response, json_response
from agent.ports.operator import LocalView

BLOCKS = (
    "publish",
    "enqueue",
    "cache",
    "channels",
    "repository",
    "transactions",
    "sql",
    "invoke",
    "tokens",
    "rate_limits",
)
"""The building blocks of the local API, as its paths name them."""


def endpoints(view: LocalView) -> dict[tuple[str, str], Handler]:
    """A block that isn't configured is ``unsupported``, so that a client needn't know all versions of this list."""

    async def capabilities(request: Request) -> Response:
        configured = dict(await view.capabilities())
        return json_response({block: configured.pop(block, "unsupported") for block in BLOCKS} | configured)

    return {("GET", "/v1/capabilities"): capabilities}
