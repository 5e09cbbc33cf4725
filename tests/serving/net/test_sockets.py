"""Addresses of the embedded server, on both loopbacks."""

import http.client
import socket

import pytest
from featserve_client import ConnectError, FeatureClient, RetryPolicy
from featserve_serving import SetupError, create_server
from featserve_serving.net import sockets


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="the loopback has no IPv6")


@pytest.fixture(scope="module")
def server(saved_model):
    with create_server(
        model_base_path=saved_model(1).parent, model_name="adder", rest_address="127.0.0.1:0", poll_interval_s=0
    ) as server:
        yield server


@needs_ipv6
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_both_loopbacks_are_served(server, caller, host):
    assert caller(f"{host}:{server.port}").predict(1.0) == (2, 1)
    connection = http.client.HTTPConnection(f"{host}:{server.rest_port}", timeout=60)
    connection.request("GET", "/v1/models/adder")
    assert connection.getresponse().status == 200
    connection.close()


def test_the_port_of_rest_is_told_apart_at_localhost_too(server):
    # localhost is tried as [::1] as well, and only the last failure is told: a refusal there would hide the reason.
    with FeatureClient(f"localhost:{server.rest_port}", model="adder", retry=RetryPolicy(max_attempts=1)) as client:
        with pytest.raises(ConnectError, match="does not speak gRPC; perhaps this is the port of its REST API"):
            client.status()


def test_only_the_loopback_of_ipv4_has_a_twin():
    assert sockets.twin("127.0.0.1:0", 7) == ("[::1]:7" if has_ipv6() else None)
    for address in ("0.0.0.0:1", "[::1]:1", "127.0.0.2:1", "localhost:1"):
        assert sockets.twin(address, 1) is None


@needs_ipv6
def test_a_port_that_another_program_has_on_ipv6_is_an_error():
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as other:
        port = other.getsockname()[1]
        with pytest.raises(SetupError, match=rf"cannot listen on \[::1\]:{port} for REST"):
            sockets.listen_all(f"127.0.0.1:{port}", "REST")
        sockets.listen(f"127.0.0.1:{port}", "REST").close()  # it is free again
