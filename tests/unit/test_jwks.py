"""JWK Sets: which keys are used, for what, and why the others are left out."""

import json
from typing import Any

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from agent.identity.jwk import KeySetError, key_set, read_key_set
from agent.identity.keystore import lost
from agent.identity.signatures import EcKey, EdKey, RsaKey
from tests.kit.tokens import b64, jwk, jwks, number, private_key, sign

ALL = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
RS = jwk("RS256")


@pytest.mark.parametrize("alg", ALL)
def test_a_key_verifies_its_own_algorithm_and_no_other(alg: str) -> None:
    found = key_set([jwk(alg)], ALL)
    assert set(found.keys) == {("k1", alg), (None, alg)}
    assert found.warnings == ()
    key = found.keys["k1", alg]
    signature = sign(b"data", alg, private_key(alg))
    assert key.verify(b"data", signature)
    assert not key.verify(b"datA", signature)
    assert not key.verify(b"data", signature[:-1] + bytes([signature[-1] ^ 1]))
    for bad in (b"", b"\x00", bytes(len(signature)), b"\xff" * len(signature), signature + b"\x00"):
        assert not key.verify(b"data", bad)


@pytest.mark.parametrize("alg", ["RS256", "ES256", "ES384", "ES512", "EdDSA"])
def test_keys_of_another_implementation_are_read(alg: str) -> None:
    made = pyjwt.get_algorithm_by_name(alg).to_jwk(private_key(alg).public_key())
    found = read_key_set(jwks(json.loads(made) | {"kid": "k1"}), [alg])
    assert found.keys["k1", alg].verify(b"data", sign(b"data", alg, private_key(alg)))


class Credulous:
    """A library's key that accepts every signature."""

    def __init__(self, key_size: int) -> None:
        self.key_size = key_size
        self.curve = self

    def verify(self, *_: object) -> None:
        """Accept."""


def test_forms_of_signatures_are_checked_whatever_the_library_accepts() -> None:
    """CVE-2022-21449: a library took zeros for a signature of everything."""
    key: Any = Credulous(256)
    one = b"\x00" * 31 + b"\x01"
    ec, ed, rsa_key = EcKey(key, "ES256"), EdKey(key), RsaKey(Credulous(2048), "RS256")  # type: ignore[arg-type]
    assert ec.verify(b"", one + one)
    for bad in (bytes(64), bytes(32) + one, one + bytes(32), one, one + one + b"\x00", one + one[:-1], b""):
        assert not ec.verify(b"", bad)
    assert (ed.verify(b"", bytes(64)), ed.verify(b"", bytes(63)), ed.verify(b"", bytes(65))) == (True, False, False)
    assert [rsa_key.verify(b"", bytes(size)) for size in (255, 256, 257, 0)] == [False, True, False, False]


def test_a_key_without_alg_serves_what_is_pinned_and_fits() -> None:
    found = key_set([jwk("RS256", alg=None)], ["PS256", "RS512", "ES256"])
    assert set(found.keys) == {("k1", "PS256"), ("k1", "RS512"), (None, "PS256"), (None, "RS512")}


def test_without_identifier_only_a_single_key_is_meant() -> None:
    found = key_set([jwk("RS256"), jwk("RS256", "k2"), jwk("ES256", "e1")], ALL)
    assert (None, "RS256") not in found.keys
    assert (None, "ES256") in found.keys
    assert key_set([jwk("RS256", kid=None)], ALL).keys.keys() == {(None, "RS256")}


def test_one_identifier_for_two_keys_means_none_of_them() -> None:
    found = key_set([jwk("RS256"), jwk("RS256", "k2", kid="k1"), jwk("ES256", "k1")], ALL)
    assert ("k1", "RS256") not in found.keys
    assert ("k1", "ES256") in found.keys
    assert "2 different keys" in found.warnings[0]
    with pytest.raises(KeySetError, match="2 different keys"):
        key_set([jwk("RS256"), jwk("RS256", "k2", kid="k1")], ALL)


def test_the_same_key_twice_is_one_key() -> None:
    assert ("k1", "RS256") in key_set([RS, dict(RS)], ALL).keys
    assert ("k1", "RS256") in key_set([RS, RS | {"kid": "alias"}], ALL).keys


def _modulus(bits: int) -> str:
    return number((1 << (bits - 1)) | 1)


SMALL = rsa.generate_private_key(65537, 1024).public_key().public_numbers().n


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"use": "enc"}, "'enc', not 'sig'"),
        ({"use": None}, None),
        ({"use": ["sig"]}, "not 'sig'"),
        ({"key_ops": ["verify"]}, None),
        ({"key_ops": ["sign", "verify"]}, None),
        ({"key_ops": ["encrypt"]}, "key_ops"),
        ({"key_ops": []}, "key_ops"),
        ({"key_ops": "verify"}, "key_ops"),
        ({"alg": "ES256"}, "none of"),
        ({"alg": "RSA-OAEP"}, "none of"),
        ({"alg": "RS384"}, None),
        ({"alg": "none"}, "none of"),
        ({"alg": "HS256"}, "none of"),
        ({"alg": 1}, "none of"),
        ({"alg": ["RS256"]}, "none of"),
        ({"kty": "EC"}, "curve"),
        ({"kty": "oct", "k": "AAAA"}, "shared secret"),
        ({"kty": "oct"}, "shared secret"),
        ({"kty": "AKP"}, "not supported"),
        ({"kty": None}, "not supported"),
        ({"kty": ["RSA"]}, "not supported"),
        ({"kty": "rsa"}, "not supported"),
        ({"d": "AQAB"}, "private"),
        ({"p": "AQAB"}, "private"),
        ({"k": "AQAB"}, "private"),
        ({"n": None}, "'n' is missing"),
        ({"n": 65537}, "'n' is missing or no string"),
        ({"n": number(SMALL)}, "1024 bits"),
        ({"n": _modulus(2047)}, "2047 bits"),
        ({"n": _modulus(16385)}, "16385 bits"),
        ({"n": number(1 << 2047)}, "no public key"),
        ({"n": ""}, "0 bits"),
        ({"n": RS["n"] + "=="}, "canonical"),
        ({"n": "é" + RS["n"]}, "no string"),
        ({"e": "AQ"}, "no public key"),
        ({"e": "AA"}, "no public key"),
        ({"e": "Ag"}, "no public key"),
        ({"e": number((1 << 40) + 1)}, "no public key"),
        ({"e": None}, "'e' is missing"),
        ({"kid": 7}, "'kid'"),
        ({"kid": "k" * 257}, "'kid'"),
        ({"x5u": "https://evil.example", "x5c": ["ignored"]}, None),
    ],
    ids=str,
)
def test_which_rsa_keys_are_used(changed: dict[str, Any], why: str | None) -> None:
    key = {name: value for name, value in (RS | changed).items() if value is not None}
    if why is None:
        assert key_set([key], ALL).usable == 1
        return
    with pytest.raises(KeySetError, match=why):
        key_set([key], ALL)
    found = key_set([key, jwk("ES256", "good")], ALL)
    assert (found.usable, len(found.warnings)) == (1, 1)


EC = jwk("ES256")
OKP = jwk("EdDSA")


@pytest.mark.parametrize(
    ("key", "why"),
    [
        (EC | {"crv": "P-384"}, "48 bytes"),
        (EC | {"crv": "secp256k1"}, "not supported"),
        (EC | {"crv": 1}, "not supported"),
        (EC | {"x": EC["y"], "y": EC["x"]}, "no usable key; key 0"),
        (EC | {"x": b64(bytes(32)).decode(), "y": b64(bytes(32)).decode()}, "no usable key; key 0"),
        (EC | {"x": b64(b"\x00" + bytes(32)).decode()}, "32 bytes"),
        (EC | {"x": "AA"}, "32 bytes"),
        (EC | {"y": None}, "'y' is missing"),
        (EC | {"d": "AA"}, "private"),
        (EC | {"alg": "ES384"}, "none of"),
        (OKP | {"crv": "X25519"}, "Ed25519 is"),
        (OKP | {"crv": "Ed448"}, "Ed25519 is"),
        (OKP | {"x": "AA"}, "32 bytes"),
        (OKP | {"d": "AA"}, "private"),
        (OKP | {"alg": "ES256"}, "none of"),
        ("text", "no JSON object"),
        (None, "no JSON object"),
        (["RSA"], "no JSON object"),
    ],
    ids=range(18),
)
def test_which_other_keys_are_not_used(key: Any, why: str) -> None:
    with pytest.raises(KeySetError, match=why):
        key_set([key], ALL)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"<html>Service unavailable</html>",
        b"null",
        b"[]",
        b"{}",
        b'{"keys":null}',
        b'{"keys":{}}',
        b'{"keys":"x"}',
        b'{"keys":[]}',
        b'{"keys":[],"keys":[]}',
        b'{"keys":[{}]}',
        b'{"keys":' + b"[" * 5000,
        jwks(RS)[:-1],
        jwks(RS) + b"x",
        jwks(*[RS] * 257),
        jwks(RS).decode().encode("utf-16"),
    ],
    ids=range(16),
)
def test_what_is_no_key_set(raw: bytes) -> None:
    with pytest.raises(KeySetError):
        read_key_set(raw, ALL)


def test_a_set_says_what_was_left_out() -> None:
    found = read_key_set(jwks(RS, RS | {"kid": "other", "use": "enc"}, {"kty": "AKP", "kid": "new"}), ALL)
    assert [warning[:25] for warning in found.warnings] == ["key 1 (kid 'other') is le", "key 2 (kid 'new') is left"]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ([RS], [RS], False),
        ([RS], [RS, jwk("RS256", "k2")], False),
        ([RS], [jwk("RS256", "k2"), RS], False),
        ([RS, jwk("RS256", "k2")], [RS], True),
        ([RS], [jwk("RS256", "k2")], True),
        ([RS], [jwk("RS256", "k2", kid="k1")], True),
        ([RS], [RS, jwk("RS256", "k2", kid="k1"), jwk("ES256", "e")], True),
        ([jwk("RS256", kid=None)], [jwk("RS256", kid=None)], False),
        ([jwk("RS256", kid=None)], [jwk("RS256", "k2", kid=None)], True),
        ([jwk("RS256", alg=None)], [RS], True),
    ],
    ids=range(10),
)
def test_when_a_key_is_lost(old: list[Any], new: list[Any], expected: bool) -> None:
    assert lost(key_set(old, ALL), key_set(new, ALL)) is expected
