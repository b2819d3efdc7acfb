"""Signature checks with `cryptography`'s primitives: one object per key and algorithm (RFC 7518, RFC 8037)."""

import hmac
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS, AsymmetricPadding, PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from agent.ports.keys import Key

_HASHES: dict[str, hashes.HashAlgorithm] = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}


class RsaKey(Key):
    """RS256/384/512 (PKCS#1 v1.5) or PS256/384/512 (PSS with a salt as long as the hash)."""

    __slots__ = ("_hash", "_key", "_length", "_padding")

    def __init__(self, key: RSAPublicKey, alg: str) -> None:
        self._key = key
        self._hash = _HASHES[alg[2:]]
        self._length = (key.key_size + 7) // 8
        self._padding: AsymmetricPadding = (
            PKCS1v15() if alg[:2] == "RS" else PSS(mgf=MGF1(self._hash), salt_length=self._hash.digest_size)
        )

    def verify(self, signed: bytes, signature: bytes) -> bool:
        """As in the port."""
        if len(signature) != self._length:
            return False
        try:
            self._key.verify(signature, signed, self._padding, self._hash)
        except InvalidSignature:
            return False
        return True


class EcKey(Key):
    """ES256/384/512: r and s side by side, each exactly as long as the curve's order (RFC 7518, section 3.4)."""

    __slots__ = ("_ecdsa", "_key", "_length")

    def __init__(self, key: EllipticCurvePublicKey, alg: str) -> None:
        self._key = key
        self._ecdsa = ECDSA(_HASHES[alg[2:]])
        self._length = (key.curve.key_size + 7) // 8

    def verify(self, signed: bytes, signature: bytes) -> bool:
        """As in the port."""
        length = self._length
        if len(signature) != 2 * length:
            return False
        r, s = int.from_bytes(signature[:length]), int.from_bytes(signature[length:])
        # CVE-2022-21449: zero is outside of what the standard allows, whatever the library does about it.
        if not r or not s:
            return False
        try:
            self._key.verify(encode_dss_signature(r, s), signed, self._ecdsa)
        except InvalidSignature:
            return False
        return True


class EdKey(Key):
    """EdDSA with Ed25519 (RFC 8037, section 3.1)."""

    __slots__ = ("_key",)

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key

    def verify(self, signed: bytes, signature: bytes) -> bool:
        """As in the port."""
        if len(signature) != 64:
            return False
        try:
            self._key.verify(signature, signed)
        except InvalidSignature:
            return False
        return True


class HmacKey(Key):
    """HS256 with the one secret that the configuration names; made from nothing else."""

    __slots__ = ("_keyed",)

    def __init__(self, secret: bytes) -> None:
        self._keyed = hmac.new(secret, digestmod=sha256)

    def verify(self, signed: bytes, signature: bytes) -> bool:
        """As in the port; in constant time."""
        code = self._keyed.copy()
        code.update(signed)
        return hmac.compare_digest(code.digest(), signature)
