"""Keys and RS256 tokens for the load: made once, kept in the cache folder, made anew before they expire."""

import base64
import json
import os
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

ISSUER = "https://sso.bench.example/realms/shop"
AUDIENCE = "orders"
ROLE = "reader"
FRESH_TOKENS = 20_000
_LIFETIME_S = 14 * 86_400
_KEEP_S = 7 * 86_400
_KEY_ID = "bench-1"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What proxies verify with, and what the load is signed with."""

    jwks: Path
    public_key: Path
    token: str
    fresh: Path
    """One token a line, each with a subject of its own."""


def encode(raw: bytes) -> str:
    """base64url without padding (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def claims(number: int, now_s: int) -> dict[str, object]:
    """The claims of user `number`, in the shape and size that identity providers issue."""
    subject = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{ISSUER}/users/{number}"))
    return {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": subject,
        "iat": now_s,
        "nbf": now_s,
        "exp": now_s + _LIFETIME_S,
        "jti": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{subject}/{now_s}")),
        "typ": "Bearer",
        "azp": "shop-web",
        "scope": "openid profile orders:read",
        "preferred_username": f"user-{number}",
        "realm_access": {"roles": ["default-roles-shop", "offline_access", ROLE]},
    }


def sign(key: rsa.RSAPrivateKey, payload: dict[str, object]) -> str:
    """Make an RS256 token (RFC 7518, section 3.3)."""
    header = {"alg": "RS256", "typ": "JWT", "kid": _KEY_ID}
    signing = ".".join(encode(json.dumps(part, separators=(",", ":")).encode()) for part in (header, payload))
    return f"{signing}.{encode(key.sign(signing.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def jwks(key: rsa.RSAPublicKey) -> dict[str, object]:
    """The key as a JSON Web Key Set."""
    numbers = key.public_numbers()
    size = (key.key_size + 7) // 8
    entry = {
        "kty": "RSA",
        "use": "sig",
        "alg": "RS256",
        "kid": _KEY_ID,
        "n": encode(numbers.n.to_bytes(size, "big")),
        "e": encode(numbers.e.to_bytes(3, "big")),
    }
    return {"keys": [entry]}


def _sign_many(pem: bytes, numbers: Sequence[int], now_s: int) -> list[str]:
    key = serialization.load_pem_private_key(pem, None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return [sign(key, claims(number, now_s)) for number in numbers]


def _is_fresh(folder: Path, names: Sequence[str], now_s: float) -> bool:
    files = [folder / name for name in names]
    return all(file.exists() and now_s - file.stat().st_mtime < _KEEP_S for file in files)


def prepare(folder: Path, *, count: int = FRESH_TOKENS) -> Credentials:
    """Return the credentials in `folder`, making them (some seconds on all cores) where they are missing or old."""
    made = Credentials(folder / "jwks.json", folder / "public.pem", "", folder / "tokens.txt")
    now_s = int(time.time())
    if not _is_fresh(folder, ("jwks.json", "public.pem", "token.txt", "tokens.txt"), now_s):
        print(f"signing {count} tokens …", flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        _write_tokens(key, made.fresh, count, now_s)
        encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        made.public_key.write_bytes(key.public_key().public_bytes(encoding, form))
        made.jwks.write_text(json.dumps(jwks(key.public_key())))
        # The last file that is written: a run that was cut short leaves a set that isn't taken for whole.
        (folder / "token.txt").write_text(sign(key, claims(0, now_s)))
    return Credentials(made.jwks, made.public_key, (folder / "token.txt").read_text(), made.fresh)


def _write_tokens(key: rsa.RSAPrivateKey, target: Path, count: int, now_s: int) -> None:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    chunks = [range(start, min(start + 500, count + 1)) for start in range(1, count + 1, 500)]
    with ProcessPoolExecutor(os.cpu_count()) as pool, target.open("w") as file:
        for signed in pool.map(_sign_many, [pem] * len(chunks), chunks, [now_s] * len(chunks)):
            file.writelines(f"{token}\n" for token in signed)
