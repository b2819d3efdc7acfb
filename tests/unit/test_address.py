"""Addresses as users write them, and what is said of those that are none."""

import pytest

from agent.config.errors import ConfigError
from agent.config.load import loads
from agent.core.address import Address, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("http://127.0.0.1:8000", Address("http", "127.0.0.1", 8000)),
        ("https://orders.example/", Address("https", "orders.example", 443)),
        ("http://[::1]", Address("http", "::1", 80)),
        ("unix:/run/app.sock", Address("unix", "", 0, "/run/app.sock")),
    ],
)
def test_what_is_an_address(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    ["http://user:sesame@h", "http://sesame@h:1", "ftp://u:sesame@h", "http://u:sesame@", "http://u:s@sesame@h/p"],
)
def test_credentials_are_refused_and_not_shown(text: str) -> None:
    with pytest.raises(ValueError, match=r"\*\*\*@") as refused:
        parse_address(text)
    assert "sesame" not in str(refused.value)


def test_credentials_in_a_configuration_are_not_shown() -> None:
    with pytest.raises(ConfigError) as refused:
        loads("upstreams: {a: {targets: ['http://user:sesame@h:80']}}")
    assert "targets" in str(refused.value)
    assert "sesame" not in str(refused.value)
