"""Several servers behind one target."""

import socket
import time
from collections.abc import Callable

import numpy as np
import pytest
from featserve_client import ConnectError, FeatureClient
from featserve_client.transport.address import is_loopback, proxy_variable, servers_of

from ..fake_server import FakeServer, features, jpeg


def test_half_the_addresses_dead(server: FakeServer, free_port: Callable[[], int]) -> None:
    target = f"127.0.0.1:{free_port()},{server.target}"
    with FeatureClient(target, model="toy") as client:
        for seed in range(10):
            np.testing.assert_array_equal(client.extract(jpeg(seed))["late"][0], features(jpeg(seed))["late"])
    assert len(server.predicts) == 10


def test_several_addresses_share_the_work(server: FakeServer) -> None:
    other = FakeServer().start()
    try:
        with FeatureClient([server.target, other.target], model="toy") as client:
            end = time.monotonic() + 60
            while not (server.predicts and other.predicts):  # the second address may take longer to connect
                assert time.monotonic() < end
                client.extract(jpeg(0))
    finally:
        other.stop()


@pytest.mark.parametrize(
    ("target", "loopback"),
    [
        ("localhost:8500", True),
        ("127.8.0.1:1,[::1]:2", True),
        ("dns:///localhost:8500", True),
        ("ipv6:[::1]:8500", True),
        ("unix:/run/socket", True),
        ("10.0.0.1:8500", False),
        ("localhost:1,features.example:2", False),
    ],
)
def test_a_proxy_is_for_other_machines_alone(monkeypatch: pytest.MonkeyPatch, target: str, loopback: bool) -> None:
    for name in ("grpc_proxy", "no_grpc_proxy", "no_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://proxy:1")
    assert is_loopback(target) is loopback
    assert proxy_variable(target) == (None if loopback else "http_proxy")
    monkeypatch.setenv("no_proxy", "example, 10.0.0.1,localhost")
    assert proxy_variable(target) is None


@pytest.mark.parametrize(
    ("target", "servers"),
    [
        ("pods.example:8500", ["10.0.0.2:8500", "10.0.0.9:8500"]),
        ("dns:///pods.example:8500", ["10.0.0.2:8500", "10.0.0.9:8500"]),
        ("six.example:8500", ["[fd00::7]:8500"]),
        ("localhost:8500", ["localhost:8500"]),
        ("127.0.0.1:8500", ["127.0.0.1:8500"]),
        ("unix:/run/featserve.sock", ["unix:/run/featserve.sock"]),
    ],
)
def test_the_servers_behind_a_name(monkeypatch: pytest.MonkeyPatch, target: str, servers: list[str]) -> None:
    v4, v6 = socket.AF_INET, socket.AF_INET6
    known = {
        "pods.example": [(v6, "fd00::1"), (v4, "10.0.0.9"), (v4, "10.0.0.2"), (v4, "10.0.0.9")],
        "six.example": [(v6, "fd00::7")],
    }

    def look_up(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        if host not in known:
            raise socket.gaierror("Name or service not known")
        return [(family, None, None, "", (address, port)) for family, address in known[host]]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert servers_of(target) == servers
    with pytest.raises(ConnectError, match=r"no server at nobody.example:1: nobody.example: Name or service not known"):
        servers_of("nobody.example:1")
