"""All sockets of a configuration: bound at once or not at all, shared with workers, and cleaned up."""

import socket
from pathlib import Path
from typing import Any

import pytest

from agent.assembly.sockets import Sockets
from agent.config.root import Config
from agent.proxy.listener import BindError


def config(**values: Any) -> Config:
    listen = {"inbound": {"host": "127.0.0.1", "port": 0}, "admin": {"port": 0}, "local": {"port": 0}}
    listen |= {"outbound": {"port": 0}, **values.pop("listen", {})}
    return Config.model_validate({"app": {"url": "http://127.0.0.1:9"}, "listen": listen, **values})


def test_the_outbound_surface_is_there_with_upstreams_only() -> None:
    plain = Sockets(config())
    assert set(plain.places) == {"inbound", "admin", "local"}
    assert plain.take("outbound") is None
    assert plain.bind_again("outbound") is None
    plain.close()
    full = Sockets(config(upstreams={"u": {"targets": ["http://127.0.0.1:9"]}}))
    assert set(full.places) == {"inbound", "outbound", "admin", "local"}
    full.close()
    full.close()  # once more does no harm


def test_workers_bind_the_port_that_was_picked() -> None:
    sockets = Sockets(config(workers=2))
    first, second = sockets.bind_again("inbound"), sockets.bind_again("inbound")
    assert first is not None
    assert second is not None
    for one in (first, second):
        assert "{}:{}".format(*one.getsockname()) == sockets.places["inbound"]
        one.listen()
    # A third that somebody starts by mistake is noticed, although the port may be shared.
    port = first.getsockname()[1]
    with pytest.raises(BindError, match="in use"):
        Sockets(config(workers=2, listen={"inbound": {"host": "127.0.0.1", "port": port}}))
    first.close()
    second.close()
    sockets.close()


def test_one_process_can_not_be_joined_by_another() -> None:
    sockets = Sockets(config())
    port = sockets.places["inbound"].rpartition(":")[2]
    for workers in (1, 2):
        bound = sockets.take("inbound")
        assert bound is not None
        bound.listen()
        with pytest.raises(BindError, match="in use"):
            Sockets(config(workers=workers, listen={"inbound": {"host": "127.0.0.1", "port": int(port)}}))
    sockets.close()


def test_a_unix_socket_is_one_for_all_and_its_file_goes_away(tmp_path: Path) -> None:
    path = tmp_path / "in.sock"
    sockets = Sockets(config(workers=2, listen={"inbound": {"unix": str(path)}}))
    bound = sockets.take("inbound")
    assert bound is not None
    assert sockets.bind_again("inbound") is bound
    assert sockets.inherited == [bound.fileno()]
    sockets.close("inbound", "outbound")
    assert not path.exists()
    sockets.close()


def test_a_path_that_another_process_took_over_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "in.sock"
    sockets = Sockets(config(listen={"inbound": {"unix": str(path)}}))
    path.rename(tmp_path / "old.sock")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        sockets.close()
        assert path.exists()


def test_all_addresses_that_are_taken_are_told_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        ports = [busy.getsockname()[1] for busy in (one, other)]
        with pytest.raises(BindError) as caught:
            Sockets(config(listen={"admin": {"port": ports[0]}, "local": {"port": ports[1]}}))
    assert str(caught.value).split("; ") == [
        f"listen.{name}: cannot listen on 127.0.0.1:{port}: Address already in use"
        for name, port in zip(("admin", "local"), ports, strict=True)
    ]


def test_where_one_address_is_taken_none_stays_bound(tmp_path: Path) -> None:
    path = tmp_path / "in.sock"
    with socket.create_server(("127.0.0.1", 0)) as busy:
        listen = {"inbound": {"unix": str(path)}, "local": {"port": busy.getsockname()[1]}}
        with pytest.raises(BindError, match=f"127.0.0.1:{busy.getsockname()[1]}: Address already in use"):
            Sockets(config(listen=listen))
    assert not path.exists()
