"""Addresses of the embedded server, on both loopbacks."""

import http.client
import pathlib
import socket
import tempfile

import pytest
from featserve_client import ConnectError, FeatureClient, RetryPolicy
from featserve_serving import SetupError, create_server
from featserve_serving.launch.cli import parse
from featserve_serving.launch.embedded import options
from featserve_serving.net import sockets
from featserve_serving.net.sockets import check_socket


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


@pytest.fixture
def folder():
    """A path short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="fs-") as path:
        yield pathlib.Path(path)


def test_a_server_on_a_socket_alone(publish, base_path, caller, folder):
    publish(1)
    path = folder / "grpc.sock"
    with create_server(model_base_path=base_path, model_name="adder", address=None, socket_path=path) as server:
        assert server.port == 0
        assert caller(f"unix:{path}").predict(1) == (2, 1)
        with pytest.raises(SetupError, match="another server listens on it"):
            check_socket(path)
    assert check_socket(path) == f"unix:{path}"


def test_a_server_on_a_socket_as_well(publish, base_path, caller, folder):
    publish(1)
    path = folder / "grpc.sock"
    with create_server(model_base_path=base_path, model_name="adder", socket_path=path) as server:
        assert caller(server).predict(1) == caller(f"unix:{path}").predict(1) == (2, 1)


def test_a_socket_that_cannot_be_is_refused(folder):
    with pytest.raises(SetupError, match="at most 107 bytes"):
        check_socket(folder / ("x" * 120))
    with pytest.raises(SetupError, match="a folder that can be written"):
        check_socket(folder / "none" / "s")
    (folder / "file").touch()
    with pytest.raises(SetupError, match="a file that is no socket"):
        check_socket(folder / "file")
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(folder / "stale"))
    stale.close()
    assert check_socket(folder / "stale") == f"unix:{folder / 'stale'}"


@pytest.mark.parametrize(("flags", "port"), [(["--port=0"], 0), (["--port=8500"], 8500), ([], 8500)])
def test_the_flag_takes_the_place_of_port_0_alone(flags, port):
    given = options(parse([*flags, "--grpc_socket_path=/run/s"]))
    assert given.socket_path == pathlib.Path("/run/s")
    assert given.address == (f"127.0.0.1:{port}" if port else None)
