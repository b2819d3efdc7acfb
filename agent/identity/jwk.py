"""A JWK Set (RFC 7517) read strictly into keys that each verify exactly one algorithm."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    SECP521R1,
    EllipticCurve,
    EllipticCurvePublicNumbers,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

from agent.core.errors import OutriggerError
from agent.identity.signatures import EcKey, EdKey, RsaKey
from agent.ports.keys import Key
from agent.wire.jws import MAX_NAME_CHARS, JwsError, decode_segment, read_object

MAX_KEYS = 256
MIN_RSA_BITS = 2048
MAX_RSA_BITS = 16_384
"""Above it a single check would take milliseconds."""

_RSA_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES: dict[str, tuple[str, EllipticCurve]] = {
    "P-256": ("ES256", SECP256R1()),
    "P-384": ("ES384", SECP384R1()),
    "P-521": ("ES512", SECP521R1()),
}
_PRIVATE_MEMBERS = ("d", "p", "q", "dp", "dq", "qi", "oth", "k")


class KeySetError(OutriggerError):
    """The document is no key set, or none of its keys can be used."""


class KeySet(NamedTuple):
    """Usable keys by identifier and algorithm, and what identifies each key's material."""

    keys: dict[tuple[str | None, str], Key]
    """A key whose `kid` is None here is the only one for its algorithm, whether or not it has an identifier."""
    material: dict[tuple[str | None, str], tuple[Any, ...]]
    """Equal where the key is the same: how a changed key is told from one that was only read again."""
    warnings: tuple[str, ...]
    """One sentence for each key that was left out."""
    usable: int
    """How many JWKs are usable."""


class _Parsed(NamedTuple):
    kid: str | None
    algorithms: tuple[str, ...]
    material: tuple[Any, ...]
    make: Callable[[str], Key]


def read_key_set(raw: bytes, algorithms: Iterable[str]) -> KeySet:
    """Read the bytes of a JWK Set. Raises `KeySetError` where no key of `algorithms` comes out of it."""
    try:
        document = read_object(raw, "key set")
    except JwsError as error:
        raise KeySetError(str(error)) from None
    keys = document.get("keys")
    if not isinstance(keys, list):
        raise KeySetError("the key set has no list 'keys' (RFC 7517, section 5)")
    return key_set(keys, algorithms)


def key_set(jwks: Iterable[Any], algorithms: Iterable[str]) -> KeySet:
    """Make a key set of JWKs. Those that can't be used are skipped with a warning; raises `KeySetError` if all are."""
    parsed: list[_Parsed] = []
    warnings: list[str] = []
    for index, jwk in enumerate(jwks):
        if index == MAX_KEYS:
            raise KeySetError(f"more than {MAX_KEYS} keys")
        try:
            parsed.append(_parse(jwk, frozenset(algorithms)))
        except (ValueError, JwsError, UnsupportedAlgorithm) as error:
            name = jwk.get("kid") if isinstance(jwk, dict) else None
            warnings.append(f"key {index} (kid {ascii(name)[:80]}) is left out: {error}")
    keys, material = _index(parsed, warnings)
    if not keys:
        raise KeySetError("no usable key" + "".join(f"; {warning}" for warning in warnings[:5]))
    return KeySet(keys, material, tuple(warnings), len(parsed))


def _index(
    parsed: list[_Parsed], warnings: list[str]
) -> tuple[dict[tuple[str | None, str], Key], dict[tuple[str | None, str], tuple[Any, ...]]]:
    """Every key under its identifier, and under None where it is the only one of its algorithm."""
    found: dict[tuple[str | None, str], dict[tuple[Any, ...], _Parsed]] = {}
    for item in parsed:
        for alg in item.algorithms:
            found.setdefault((None, alg), {})[item.material] = item
            if item.kid is not None:
                found.setdefault((item.kid, alg), {})[item.material] = item
    keys: dict[tuple[str | None, str], Key] = {}
    material: dict[tuple[str | None, str], tuple[Any, ...]] = {}
    for (kid, alg), candidates in found.items():
        if len(candidates) == 1:
            ((proof, item),) = candidates.items()
            keys[kid, alg], material[kid, alg] = item.make(alg), proof
        elif kid is not None:
            warnings.append(f"kid {ascii(kid)[:80]} means {len(candidates)} different keys for {alg}: none is used")
    return keys, material


def _parse(jwk: Any, wanted: frozenset[str]) -> _Parsed:
    if not isinstance(jwk, dict):
        raise ValueError("it is no JSON object")
    kid = jwk.get("kid")
    if "kid" in jwk and not (isinstance(kid, str) and len(kid) <= MAX_NAME_CHARS):
        raise ValueError(f"its 'kid' is no string of at most {MAX_NAME_CHARS} characters")
    _check_purpose(jwk)
    kty = jwk.get("kty")
    if kty == "oct":
        raise ValueError("a shared secret never comes from a key set; configure it as the issuer's `secret`")
    reader = _READERS.get(kty) if isinstance(kty, str) else None
    if reader is None:
        raise ValueError(f"the key type {ascii(kty)[:40]} is not supported (RSA, EC and OKP are)")
    if any(name in jwk for name in _PRIVATE_MEMBERS):
        raise ValueError(
            "it is a private key; whoever could read it can sign, so replace it and publish its public part"
        )
    possible, material, make = reader(jwk)
    usable = tuple(alg for alg in possible if alg in wanted and jwk.get("alg", alg) == alg)
    if not usable:
        raise ValueError(f"none of {sorted(wanted)} fits it (kty {kty}, alg {ascii(jwk.get('alg'))[:40]})")
    return _Parsed(kid, usable, material, make)


def _check_purpose(jwk: dict[str, Any]) -> None:
    if "use" in jwk and jwk["use"] != "sig":
        raise ValueError(f"its 'use' is {ascii(jwk['use'])[:40]}, not 'sig'")
    operations = jwk.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise ValueError("its 'key_ops' don't include 'verify'")


_Read = tuple[tuple[str, ...], tuple[Any, ...], Callable[[str], Key]]


def _rsa(jwk: dict[str, Any]) -> _Read:
    n, e = int.from_bytes(_member(jwk, "n")), int.from_bytes(_member(jwk, "e"))
    if not MIN_RSA_BITS <= n.bit_length() <= MAX_RSA_BITS:
        raise ValueError(f"its RSA modulus has {n.bit_length()} bits; {MIN_RSA_BITS} to {MAX_RSA_BITS} are accepted")
    if not 3 <= e < 1 << 32 or not e & 1 or not n & 1:
        raise ValueError("its RSA numbers are no public key")
    key = RSAPublicNumbers(e, n).public_key()
    return _RSA_ALGORITHMS, ("RSA", n, e), lambda alg: RsaKey(key, alg)


def _ec(jwk: dict[str, Any]) -> _Read:
    name = jwk.get("crv")
    if not isinstance(name, str) or name not in _CURVES:
        raise ValueError(f"the curve {ascii(name)[:40]} is not supported (P-256, P-384 and P-521 are)")
    alg, curve = _CURVES[name]
    x, y = _member(jwk, "x"), _member(jwk, "y")
    length = (curve.key_size + 7) // 8
    if len(x) != length or len(y) != length:
        raise ValueError(f"its coordinates don't have {length} bytes each (RFC 7518, section 6.2.1)")
    key = EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), curve).public_key()
    return (alg,), ("EC", name, x, y), lambda alg: EcKey(key, alg)


def _okp(jwk: dict[str, Any]) -> _Read:
    if jwk.get("crv") != "Ed25519":
        raise ValueError(f"the curve {ascii(jwk.get('crv'))[:40]} is not supported (Ed25519 is)")
    x = _member(jwk, "x")
    if len(x) != 32:
        raise ValueError("its 'x' doesn't have 32 bytes (RFC 8037, section 2)")
    key = Ed25519PublicKey.from_public_bytes(x)
    return ("EdDSA",), ("OKP", x), lambda alg: EdKey(key)


def _member(jwk: dict[str, Any], name: str) -> bytes:
    value = jwk.get(name)
    if not isinstance(value, str) or not value.isascii():
        raise ValueError(f"its {name!r} is missing or no string")
    return decode_segment(value.encode(), name)


_READERS: dict[str, Callable[[dict[str, Any]], _Read]] = {"RSA": _rsa, "EC": _ec, "OKP": _okp}
