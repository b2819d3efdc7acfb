"""Keys, JWKs and tokens for tests: signed here by hand, so that every rule of the standards can be broken at will."""

import base64
import hmac
import json
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from agent.identity.settings import IssuerSettings

ISSUER = "https://sso.example/realms/shop"
WALL = 1_800_000_000.0
SECRET = "correct horse battery staple, 32 bytes and more"
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
CURVES: dict[str, ec.EllipticCurve] = {"256": ec.SECP256R1(), "384": ec.SECP384R1(), "512": ec.SECP521R1()}
HASHES: dict[str, hashes.HashAlgorithm] = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}


def b64(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def number(value: int, length: int = 0) -> str:
    return b64(value.to_bytes(length or (value.bit_length() + 7) // 8)).decode()


def private_key(alg: str, name: str = "k1") -> PrivateKey:
    """The test key of this name; the same for all RSA algorithms."""
    return _private_key("RSA" if alg[:2] in ("RS", "PS") else alg, name)


@cache
def _private_key(kind: str, name: str) -> PrivateKey:
    if kind == "RSA":
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(CURVES[kind[2:]]) if kind[:2] == "ES" else ed25519.Ed25519PrivateKey.generate()


def jwk(alg: str, name: str = "k1", /, **members: Any) -> dict[str, Any]:
    """The public JWK of the key of this name. A member given as None is left out."""
    public = private_key(alg, name).public_key()
    made: dict[str, Any] = {"use": "sig", "alg": alg}
    if isinstance(public, rsa.RSAPublicKey):
        numbers = public.public_numbers()
        made |= {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e)}
    elif isinstance(public, ec.EllipticCurvePublicKey):
        point, length = public.public_numbers(), (public.curve.key_size + 7) // 8
        curve = {"256": "P-256", "384": "P-384", "512": "P-521"}[alg[2:]]
        made |= {"kty": "EC", "crv": curve, "x": number(point.x, length), "y": number(point.y, length)}
    else:
        made |= {"kty": "OKP", "crv": "Ed25519", "x": b64(public.public_bytes_raw()).decode()}
    made |= {"kid": name} | members
    return {member: value for member, value in made.items() if value is not None}


def jwks(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


def claims(**changed: Any) -> dict[str, Any]:
    """Good claims. A claim given as `...` is left out."""
    good: dict[str, Any] = {"iss": ISSUER, "aud": "orders", "sub": "jane", "exp": WALL + 600, "iat": WALL - 1}
    return {name: value for name, value in (good | changed).items() if value is not ...}


def sign(signed: bytes, alg: str, key: PrivateKey | bytes) -> bytes:
    """A raw JWS signature."""
    if isinstance(key, bytes):
        return hmac.digest(key, signed, "sha256")
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(signed)
    chosen = HASHES[alg[2:]]
    if isinstance(key, ec.EllipticCurvePrivateKey):
        r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(chosen)))
        length = (key.curve.key_size + 7) // 8
        return r.to_bytes(length) + s.to_bytes(length)
    if alg.startswith("PS"):
        return key.sign(signed, padding.PSS(padding.MGF1(chosen), chosen.digest_size), chosen)
    return key.sign(signed, padding.PKCS1v15(), chosen)


def token(
    payload: dict[str, Any] | bytes | None = None,
    *,
    alg: str = "RS256",
    kid: str | None = "k1",
    key: PrivateKey | bytes | None = None,
    header: dict[str, Any] | bytes | None = None,
) -> bytes:
    """A compact JWS. `header` adds to the usual one, or is taken as it is where it is bytes; so is `payload`."""
    usual = {"alg": alg, "typ": "JWT"} | ({"kid": kid} if kid is not None else {})
    head = header if isinstance(header, bytes) else json.dumps(usual | (header or {})).encode()
    body = payload if isinstance(payload, bytes) else json.dumps(claims() if payload is None else payload).encode()
    signed = b64(head) + b"." + b64(body)
    return signed + b"." + b64(sign(signed, alg, key if key is not None else private_key(alg, kid or "k1")))


def issuer_settings(alg: str = "RS256", **changed: Any) -> IssuerSettings:
    """Settings of an issuer with its one key inline."""
    usual: dict[str, Any] = {"issuer": ISSUER, "audiences": ["orders"], "algorithms": [alg]}
    usual |= {"secret": SECRET} if alg == "HS256" else {"jwks": {"keys": [jwk(alg)]}}
    return IssuerSettings.model_validate(usual | changed)
