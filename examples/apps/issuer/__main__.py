"""A toy issuer of tokens: discovery, keys, and a token for whoever asks. For the demo only, as it trusts everybody."""

import base64
import json
import os
import secrets
import time

from aiohttp import web
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

PORT = int(os.environ.get("PORT", "9100"))
ISSUER = f"http://127.0.0.1:{PORT}"
KEY = ec.generate_private_key(ec.SECP256R1())
KEY_ID = secrets.token_hex(4)
routes = web.RouteTableDef()


def encoded(data: bytes | object) -> str:
    """Base64url of bytes, or of a value as JSON (RFC 7515, section 2)."""
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(claims: dict[str, object]) -> str:
    """A JWT with these claims, signed with ES256."""
    text = f"{encoded({'alg': 'ES256', 'kid': KEY_ID, 'typ': 'JWT'})}.{encoded(claims)}"
    r, s = decode_dss_signature(KEY.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{text}.{encoded(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


@routes.get("/.well-known/openid-configuration")
async def discovery(request: web.Request) -> web.Response:
    """OpenID Connect Discovery 1.0, as much as is needed to find the keys."""
    return web.json_response({"issuer": ISSUER, "jwks_uri": f"{ISSUER}/jwks.json"})


@routes.get("/jwks.json")
async def key_set(request: web.Request) -> web.Response:
    """The public key (RFC 7517)."""
    numbers = KEY.public_key().public_numbers()
    x, y = (encoded(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
    return web.json_response({"keys": [{"kty": "EC", "crv": "P-256", "kid": KEY_ID, "alg": "ES256", "x": x, "y": y}]})


@routes.get("/token/{subject}")
async def token(request: web.Request) -> web.Response:
    """A token for anybody."""
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "aud": request.query.get("audience", "orders"),
        "sub": request.match_info["subject"],
        "roles": request.query.getall("role", []),
        "scope": request.query.get("scope", "orders:read"),
        "iat": now,
        "exp": now + int(request.query.get("expires_in", "28800")),
    }
    return web.Response(text=signed(claims))


if __name__ == "__main__":
    application = web.Application()
    application.add_routes(routes)
    web.run_app(application, host="127.0.0.1", port=PORT, reuse_port=True, access_log=None, shutdown_timeout=0.1)
