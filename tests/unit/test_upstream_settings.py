"""Upstream settings refuse what can't work, with the remedy."""

import pytest
from pydantic import ValidationError

from agent.traffic.upstream_settings import UpstreamSettings


def test_defaults() -> None:
    settings = UpstreamSettings.model_validate({"targets": ["http://127.0.0.1:9101", "unix:/run/a.sock"]})
    assert (settings.balance, settings.dns_refresh_s, settings.pool.max_idle) == ("p2c_ewma", 30, 256)
    assert settings.outlier.consecutive_5xx == 5


def test_tls() -> None:
    settings = UpstreamSettings.model_validate(
        {"targets": ["https://h"], "tls": {"verify": False, "insecure_skip_verify": True}, "hosts": ["API.internal"]}
    )
    assert settings.tls is not None
    assert not settings.tls.verifies
    assert settings.hosts == ("api.internal",)
    mutual = UpstreamSettings.model_validate(
        {"targets": ["https://h"], "tls": {"client_cert_file": "c", "client_key_file": "k"}}
    )
    assert mutual.tls is not None
    assert mutual.tls.verifies
    assert [str(file) for file in mutual.tls.files] == ["c", "k"]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"targets": []}, "at least 1 item"),
        ({"targets": ["h:80"]}, "no address"),
        ({"targets": ["http://h", "http://h:80"]}, "given twice"),
        ({"balance": "random"}, "round_robin"),
        ({"balance": "sticky"}, "belong together"),
        ({"sticky_by": "ip"}, "belong together"),
        ({"balance": "sticky", "sticky_by": "moon"}, "cookie:NAME"),
        ({"tls": {}}, "no target begins with https"),
        ({"targets": ["https://h"], "tls": {"verify": False}}, "insecure_skip_verify: true"),
        ({"targets": ["https://h"], "tls": {"insecure_skip_verify": True, "ca_file": "x"}}, "ca_file does nothing"),
        ({"targets": ["https://h"], "tls": {"client_cert_file": "x"}}, "belong together"),
        ({"hosts": ["http://h"]}, "no host name"),
        ({"hosts": ["h:80"]}, "no host name"),
        ({"pool": {"max_connections": 0}}, "greater than or equal to 1"),
        ({"connect_timeout_s": 0}, "greater than 0"),
        ({"target": "http://h"}, "Extra inputs"),
    ],
)
def test_refused(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        UpstreamSettings.model_validate({"targets": ["http://h"], **wrong})
    assert says in str(caught.value)
