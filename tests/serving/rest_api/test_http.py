"""HTTP as callers other than the kit's own speak it."""

import gzip
import json
import socket
import zlib

import pytest
from featserve_serving import create_server
from featserve_serving.errors import InvalidArgument
from featserve_serving.rest_api.compression import inflated

BODY = b'{"instances": [1.0]}'


@pytest.fixture(scope="module")
def server(saved_model):
    with create_server(
        model_base_path=saved_model(1).parent, model_name="adder", rest_address="127.0.0.1:0", poll_interval_s=0
    ) as server:
        yield server


@pytest.fixture
def connection(server):
    with socket.create_connection(("127.0.0.1", server.rest_port), timeout=60) as connection:
        yield connection


def request(
    *headers, method="POST", target="/v1/models/adder:predict", body=BODY, version="1.1", length=True, host="x"
):
    lines = [f"{method} {target} HTTP/{version}", f"Host: {host}", *headers]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def answer(connection):
    """Returns status, headers and body of the next answer."""
    with connection.makefile("rb") as file:
        status = int(file.readline().split()[1])
        headers = {}
        while line := file.readline().strip():
            name, _, value = line.decode().partition(": ")
            headers[name.lower()] = value
        return status, headers, file.read(int(headers["content-length"]))


def ended(connection):
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def predicted(connection):
    status, _, body = answer(connection)
    return status == 200 and json.loads(body) == {"predictions": [2.0]}


@pytest.mark.parametrize("encoding", ["gzip", "GZIP"])
def test_a_gzip_body_is_inflated(connection, encoding):
    connection.sendall(request(f"Content-Encoding: {encoding}", body=gzip.compress(BODY)))
    assert predicted(connection)


@pytest.mark.parametrize(
    ("body", "text"),
    [(BODY, "but its body is not"), (gzip.compress(BODY)[:-9], "breaks off"), (b"", "The document is empty")],
    ids=["plain", "cut", "empty"],
)
def test_a_gzip_body_that_is_none_is_refused(connection, body, text):
    connection.sendall(request("Content-Encoding: gzip", body=body))
    status, _, refusal = answer(connection)
    assert status == 400 and text in refusal.decode()


def test_the_inflated_size_is_bounded():
    assert inflated(gzip.compress(b"a" * 1000) + gzip.compress(b"b" * 24), "gzip", 1024) == b"a" * 1000 + b"b" * 24
    for body in (gzip.compress(b"a" * 1025), gzip.compress(b"a" * 1000) + gzip.compress(b"b" * 25)):
        with pytest.raises(InvalidArgument, match="larger than 1024 bytes once it is inflated"):
            inflated(body, "gzip", 1024)


def test_a_bomb_takes_no_more_memory_than_the_bound(monkeypatch):
    sizes = []
    make = zlib.decompressobj

    class Stream:
        def __init__(self, *arguments):
            self.stream = make(*arguments)

        def decompress(self, *arguments):
            sizes.append(len(text := self.stream.decompress(*arguments)))
            return text

    bomb = gzip.compress(bytes(64 << 20))
    monkeypatch.setattr(zlib, "decompressobj", Stream)
    with pytest.raises(InvalidArgument):
        inflated(bomb, "gzip", 1 << 20)
    assert sizes == [(1 << 20) + 1]


def test_a_length_beside_chunks_is_refused(connection):
    smuggled = request(method="GET", target="/v1/models/adder", body=b"", length=False)
    connection.sendall(request("Transfer-Encoding: chunked", body=b"0\r\n\r\n" + smuggled))
    answers = b""
    while part := connection.recv(1 << 16):
        answers += part
    assert answers.startswith(b"HTTP/1.1 400 ") and answers.count(b"HTTP/1.1") == 1


def test_a_caller_that_half_closes_is_answered(connection):
    connection.sendall(request())
    connection.shutdown(socket.SHUT_WR)
    assert predicted(connection)
    assert ended(connection)


def test_pipelined_requests_are_answered_to_a_caller_that_half_closes(connection):
    connection.sendall(request() * 2)
    connection.shutdown(socket.SHUT_WR)
    with connection.makefile("rb") as file:
        assert file.read().count(b"HTTP/1.1 200 ") == 2


def test_a_caller_that_half_closes_before_its_request_is_whole_is_let_go(connection):
    connection.sendall(request()[:-1])
    connection.shutdown(socket.SHUT_WR)
    assert ended(connection)


@pytest.mark.parametrize("target", ["http://other:80/v1/models/adder:predict", "HTTP://x/v1/models/adder:predict"])
def test_an_absolute_target_names_its_path(connection, target):
    connection.sendall(request(target=target))
    assert predicted(connection)


def test_http_1_0_may_keep_its_connection(connection):
    for _ in range(2):
        connection.sendall(request("Connection: keep-alive", version="1.0"))
        status, headers, _ = answer(connection)
        assert (status, headers["connection"]) == (200, "keep-alive")
    connection.sendall(request(version="1.0"))
    assert answer(connection)[:2][0] == 200
    assert ended(connection)


def test_an_expectation_is_met_or_refused(connection):
    connection.sendall(request("Expect: 100-continue").removesuffix(BODY))
    assert connection.recv(1 << 16) == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.sendall(BODY)
    assert predicted(connection)
    connection.sendall(request("Expect: tea"))
    status, _, text = answer(connection)
    assert status == 417 and "expected 100-continue, received tea" in text.decode()
    assert ended(connection)
