"""The bench's own tokens, checked with a library that it doesn't use."""

import json
import os
import time
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from bench import tokens


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tokens.Credentials:
    return tokens.prepare(tmp_path_factory.mktemp("credentials"), count=3)


def claims_of(token: str, made: tokens.Credentials) -> dict[str, object]:
    key = jwt.PyJWKSet.from_dict(json.loads(made.jwks.read_text())).keys[0]
    found: dict[str, object] = jwt.decode(
        token, key, algorithms=["RS256"], audience=tokens.AUDIENCE, issuer=tokens.ISSUER
    )
    return found


def test_tokens_verify_against_the_key_set(made: tokens.Credentials) -> None:
    claims = claims_of(made.token, made)
    assert tokens.ROLE in claims["realm_access"]["roles"]  # type: ignore[index]
    assert jwt.get_unverified_header(made.token)["kid"] == "bench-1"


def test_the_pem_is_the_same_key(made: tokens.Credentials) -> None:
    assert jwt.decode(made.token, made.public_key.read_text(), algorithms=["RS256"], audience=tokens.AUDIENCE)


def test_fresh_tokens_have_callers_of_their_own(made: tokens.Credentials) -> None:
    lines = made.fresh.read_text().splitlines()
    assert len(lines) == 3
    assert len({claims_of(line, made)["sub"] for line in [*lines, made.token]}) == 4


def test_credentials_are_kept_until_they_are_old(made: tokens.Credentials) -> None:
    folder = made.jwks.parent
    assert tokens.prepare(folder, count=3).token == made.token
    old = time.time() - 8 * 86_400
    os.utime(folder / "tokens.txt", (old, old))
    assert tokens.prepare(folder, count=3).token != made.token


def test_a_set_cut_short_is_not_taken_for_whole(made: tokens.Credentials, tmp_path: Path) -> None:
    for name in ("jwks.json", "public.pem", "tokens.txt"):
        (tmp_path / name).write_bytes((made.jwks.parent / name).read_bytes())
    assert len(tokens.prepare(tmp_path, count=1).fresh.read_text().splitlines()) == 1


def test_modulus_keeps_its_length() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    (entry,) = json.loads(json.dumps(tokens.jwks(key)))["keys"]
    assert entry["e"] == "AQAB"
    assert len(entry["n"]) == 342
