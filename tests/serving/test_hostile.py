"""Requests made to hurt: the server lives on, tells nothing about itself, and touches no file for them."""

import contextlib
import dataclasses
import gc
import http.client
import json
import socket
import sys
import threading
import tracemalloc

import grpc
import numpy as np
import pytest
from featserve_serving import create_server
from featserve_serving.errors import Unavailable
from featserve_serving.rest_api import http_server
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow_serving.apis import predict_pb2


@pytest.fixture(scope="module")
def server(saved_model):
    with create_server(
        model_base_path=saved_model(1).parent,
        model_name="adder",
        rest_address="127.0.0.1:0",
        poll_interval_s=0,
    ) as server:
        yield server


@pytest.fixture
def client(server, caller):
    return caller(server)


def raw_predict(client, data):
    """Sends bytes as a Predict request; returns the code of the answer."""
    try:
        client.call("PredictionService", "Predict", data, predict_pb2.PredictResponse)
    except grpc.RpcError as exc:
        return exc.code().name
    return "OK"


def valid():
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "adder"
    request.inputs["x"].dtype = 1
    request.inputs["x"].tensor_shape.dim.add(size=2)
    request.inputs["x"].float_val.extend([1.0, 2.0])
    return request


@settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.data())
def test_mutated_requests_get_an_answer_or_a_refusal(server, client, data):
    raw = bytearray(valid().SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(1, len(raw)))] + data.draw(st.binary(max_size=8))
    assert raw_predict(client, bytes(raw)) in ("OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION")


@pytest.mark.parametrize(
    "shape",
    [
        [(1 << 28) + 1],  # the first that is refused
        [1 << 40],
        [1 << 62, 4],
        [1 << 30, 1 << 30, 1 << 30],
        [2**31, 0, 2**62, 2**62],
        [-1],
        [1] * 300,
    ],
    ids=str,
)
def test_a_shape_cannot_claim_memory(server, caller, shape):
    request = valid()
    del request.inputs["x"].tensor_shape.dim[:]
    for size in shape:
        request.inputs["x"].tensor_shape.dim.add(size=size)
    client = caller(server)
    tracemalloc.start()  # numpy tells it of its arrays
    try:
        code = raw_predict(client, request.SerializeToString())
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert code == "INVALID_ARGUMENT"
    assert peak_bytes < 16 << 20
    assert client.predict(1.0) == (2, 1)


@pytest.mark.parametrize("dtype", [0, 20, 21, 99, 101, 2**31 - 1])
def test_a_type_without_values_is_refused(server, caller, dtype):
    request = valid()
    request.inputs["x"].dtype = dtype
    assert raw_predict(caller(server), request.SerializeToString()) == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "INVALID_ARGUMENT"),
        (b"\xff", "INVALID_ARGUMENT"),
        (b"\n\x06\n\x04none", "NOT_FOUND"),
        (b"\n\x07\n\x05adder", "INVALID_ARGUMENT"),
        (valid().SerializeToString(), "OK"),
    ],
    ids=["nothing", "no message", "no model", "no tensor", "answered"],
)
def test_a_finished_call_is_let_go(server, client, data, code, caplog):
    caplog.set_level("INFO")
    # gRPC refuses streams of a connection that has too many; cycles, or a log's records, would keep the finished ones.
    assert raw_predict(client, data) == code
    gc.collect()
    gc.disable()
    try:
        assert {raw_predict(client, data) for _ in range(600)} == {code}
    finally:
        gc.enable()


@pytest.mark.parametrize("name", ["../../etc", "/etc/passwd", "..", "a" * 100_000, "\x00", "😀" * 2000])
def test_a_model_name_is_only_a_name(server, caller, name):
    client = caller(server)
    with pytest.raises(grpc.RpcError) as refusal:
        client.predict(1.0, model=name)
    assert refusal.value.code() is grpc.StatusCode.NOT_FOUND
    assert len(refusal.value.details()) < 5000


@pytest.mark.parametrize("values", [[np.nan], [np.inf], [-np.inf]])
def test_what_is_no_number_is_served(server, caller, values):
    answer, _ = caller(server).predict(values)
    np.testing.assert_equal(answer, values[0])


def test_an_unforeseen_error_tells_nothing(server, caller, monkeypatch, caplog):
    secret = "/home/someone/secret"

    def fail(*_):
        raise OSError(secret)

    monkeypatch.setattr(server._manager.catalog, "acquire", fail)
    with pytest.raises(grpc.RpcError) as refusal:
        caller(server).predict(1.0)
    assert refusal.value.code() is grpc.StatusCode.INTERNAL
    assert refusal.value.details() == "The server failed; its log says why."
    assert secret in caplog.text
    status, text = post(server, "/v1/models/adder:predict", b'{"instances": [1.0]}')
    assert status == 500 and secret not in text


def test_an_error_of_a_kind_of_its_own_has_its_parents_code(server, caller, monkeypatch):
    class ModelIsAsleep(Unavailable):
        pass

    def fail(*_):
        raise ModelIsAsleep("Wake it.")

    monkeypatch.setattr(server._manager.catalog, "acquire", fail)
    with pytest.raises(grpc.RpcError) as refusal:
        caller(server).predict(1.0)
    assert (refusal.value.code(), refusal.value.details()) == (grpc.StatusCode.UNAVAILABLE, "Wake it.")
    status, text = post(server, "/v1/models/adder:predict", b'{"instances": [1.0]}')
    assert (status, json.loads(text)) == (503, {"error": "Wake it."})


def post(server, path, body, method="POST"):
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=60)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        connection.putheader("content-length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{", "at offset 1: Missing a name for object member."),
        (b"nonsense", "at offset 1: Invalid value."),
        (b"[1", "at offset 2: Missing a comma or ']' after an array element."),
        (b'{"instances": [1,]}', "at offset 17: Invalid value."),
        (b'{"instances"', "at offset 12: Missing a colon after a name of object member."),
        (b'{"instances": [1]', "at offset 17: Missing a comma or '}' after an object member."),
        (b'"' + b"\xff" * 10, "The text is not UTF-8."),
        (b"[" * 200_000, "JSON Parse error"),
        (b'{"instances": ' + b"[" * 500 + b"1" + b"]" * 500 + b"}", ""),
        (b'{"instances": [1' + b"0" * 400 + b"]}", "at offset 15: Number too big to be stored in double."),
        (b"[1]", "no JSON object but JSON Array"),
        (b'{"instances": 1}', "Expecting 'instances' to be an list/array"),
        (b'{"instances": []}', "No values in 'instances' array"),
        (b'{"instances": [1], "inputs": [1]}', "Expecting only one of 'inputs' or 'instances' keys to exist"),
        (b'{"instances": [[1], [1, 2]]}', "Expecting tensor size: 1 but got: 2"),
        (b'{"instances": [true]}', "JSON Value: true Type: True is not of expected type: float"),
        (b'{"signature_name": 1, "instances": [1]}', "'signature_name' key must be a string value."),
        (b"{}", "Missing 'inputs' or 'instances' key"),
        (b'{"instances": [{"z": 1}]}', "JSON object: does not have named input: z"),
    ],
)
def test_json_that_is_wrong(server, body, text):
    status, answer = post(server, "/v1/models/adder:predict", body)
    assert status == 400 and text in answer


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/..%2f..%2fetc%2fpasswd",
        "/v1/../../etc/passwd",
        "/v1/models/%00",
        "/v1/models/a/versions/" + "9" * 50,
    ],
)
def test_a_url_is_only_a_name(server, path):
    status, answer = post(server, path, b"", method="GET")
    assert status in (400, 404) and "root:" not in answer


def test_reflection_streams_do_not_starve_predict(server, caller):
    from grpc_reflection.v1alpha import reflection_pb2

    client = caller(server)
    open_stream = client.channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    release = threading.Event()

    def endless():
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        release.wait(30)

    streams = [open_stream(endless()) for _ in range(40)]
    try:
        assert client.predict(1.0) == (2, 1)
        assert client.health() == "SERVING"
        assert client.states()
    finally:
        release.set()
        for stream in streams:
            stream.cancel()


@pytest.mark.parametrize(
    ("symbol", "file"),
    [
        ("tensorflow.serving.PredictionService", "prediction_service.proto"),
        ("tensorflow.serving.PredictionService.Predict", "prediction_service.proto"),
        ("tensorflow.serving.PredictRequest", "predict.proto"),
        ("grpc.health.v1.Health.Watch", "health.proto"),
        ("tensorflow.serving.PredictionService.Nothing", None),
        ("nothing.Nothing", None),
    ],
)
def test_reflection_finds_symbols_by_their_full_name(server, client, symbol, file):
    from google.protobuf import descriptor_pb2
    from grpc_reflection.v1alpha import reflection_pb2

    ask = client.channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    (answer,) = ask(iter([reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol)]), timeout=60)
    files = answer.file_descriptor_response.file_descriptor_proto
    names = [descriptor_pb2.FileDescriptorProto.FromString(each).name.rpartition("/")[2] for each in files]
    assert names[:1] == ([file] if file else [])
    assert answer.error_response.error_code == (0 if file else grpc.StatusCode.NOT_FOUND.value[0])


def test_labels_of_metrics_are_bounded(server, caller):
    client = caller(server)
    for number in range(20):
        with pytest.raises(grpc.RpcError):
            client.predict(1.0, model=f"invented{number}")
    with pytest.raises(grpc.RpcError):
        client.predict(1.0, signature="invented")
    _, page = post(server, "/monitoring/prometheus/metrics", b"", method="GET")
    assert "invented" not in page and 'model="(unknown)"' in page
    assert sys.getsizeof(page) < 1 << 20


def connect(server):
    return socket.create_connection(("127.0.0.1", server.rest_port), timeout=60)


STATUS = b"GET /v1/models/adder HTTP/1.1\r\nHost: x\r\n\r\n"


def answered(connection, request=STATUS):
    """Sends a request for a status on a connection; returns the answer's status line and headers."""
    connection.sendall(request)
    answer = b""
    while not answer.endswith(b"\n}\n"):
        part = connection.recv(1 << 16)
        assert part, answer
        answer += part
    return answer.partition(b"\r\n\r\n")[0]


def test_http_callers_that_do_not_finish_a_request_are_let_go(server, monkeypatch):
    monkeypatch.setattr(http_server, "HEADER_TIMEOUT_S", 0.2)
    with connect(server) as silent, connect(server) as slow, connect(server) as kept, connect(server) as pooled:
        answered(pooled)
        slow.sendall(STATUS[:-2])
        answered(kept)
        kept.sendall(STATUS[:8])
        for each in (slow, kept):
            assert ended(each)
        # Both waited longer than a request may take to arrive.
        for each in (silent, pooled):
            assert answered(each).startswith(b"HTTP/1.1 200 ")


def test_http_connections_may_be_silent_for_minutes_but_not_for_ever(server, monkeypatch):
    # Balancers and pools keep theirs for up to 600 s.
    assert min(http_server.IDLE_TIMEOUT_S, server._http._server.config.timeout_keep_alive) > 600
    monkeypatch.setattr(http_server, "IDLE_TIMEOUT_S", 0.2)
    with connect(server) as silent, connect(server) as kept:
        answered(kept)
        assert ended(silent) and ended(kept)


def test_the_head_of_a_request_is_bounded(server):
    with connect(server) as endless:
        endless.sendall(STATUS[:-2] + b"x: ")
        with contextlib.suppress(OSError):
            for _ in range(64):
                endless.sendall(b"a" * (16 << 10))
        with contextlib.suppress(ConnectionResetError):
            answer = endless.recv(1 << 16)
            assert answer.startswith(b"HTTP/1.1 400 ") and b"more than 65536 bytes" in answer


def test_a_body_that_does_not_come_is_not_waited_for(server, monkeypatch):
    options = dataclasses.replace(server._rest._options, rest_timeout_s=0.2)
    monkeypatch.setattr(server._rest, "_options", options)
    with connect(server) as slow:
        slow.sendall(b"POST /v1/models/adder:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        answer = b""
        while part := slow.recv(1 << 16):
            answer += part
    assert answer.startswith(b"HTTP/1.1 408 ") and b"did not arrive within 0.2 s" in answer


def test_a_new_http_connection_takes_the_place_of_an_idle_one(server, monkeypatch):
    monkeypatch.setattr(http_server, "max_connections", lambda: 2)
    with connect(server) as kept:
        answered(kept)
        with connect(server) as silent, connect(server) as third:
            assert ended(silent)  # the one that never asked goes before the one that did
            for each in (kept, third):
                assert answered(each).startswith(b"HTTP/1.1 200 ")
            with connect(server) as fourth:
                assert ended(kept)
                answered(third)
                answered(fourth)


def test_connections_with_a_request_keep_their_place(server, monkeypatch):
    monkeypatch.setattr(http_server, "max_connections", lambda: 1)
    head_read = threading.Event()
    read = http_server.Connection.data_received

    def note(self, data):
        read(self, data)
        head_read.set()

    monkeypatch.setattr(http_server.Connection, "data_received", note)
    with connect(server) as working:
        working.sendall(b"POST /v1/models/adder:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        assert head_read.wait(60)
        with connect(server) as second:
            assert ended(second)
        working.sendall(b"nonsense!")
        assert working.recv(1 << 16).startswith(b"HTTP/1.1 400 ")


def test_answers_on_a_kept_connection_do_not_wait_for_acknowledgements(server, monkeypatch):
    options = []
    made = http_server.Connection.connection_made

    def note(self, transport):
        options.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        made(self, transport)

    monkeypatch.setattr(http_server.Connection, "connection_made", note)
    assert post(server, "/v1/models/adder", b"", method="GET")[0] == 200
    assert len(options) == 1 and all(options)


def ended(connection):
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_json_of_too_many_values_is_refused_before_it_is_read(server):
    status, text = post(server, "/v1/models/adder:predict", b'{"instances": [' + b"1," * (5 << 20) + b"1]}")
    assert status == 400 and "more than 4194304 values: send fewer at once, or tensors by gRPC" in text


def test_a_long_string_is_cut_in_an_error_text(server):
    body = b'{"instances": ["' + b"a" * (1 << 20) + b'"]}'
    status, text = post(server, "/v1/models/adder:predict", body)
    assert status == 400 and "is not of expected type: float" in text and len(text) < 2000


def test_large_json_is_answered(server):
    status, text = post(server, "/v1/models/adder:predict", b'{"inputs": [' + b"1.5, " * 400_000 + b"1]}")
    answer = json.loads(text)["outputs"]
    assert status == 200 and len(answer) == 400_001 and set(answer) == {2.5, 2.0}


def test_large_requests_leave_threads_for_others(server, monkeypatch):
    monkeypatch.setattr(server._rest._endpoints, "_room", threading.BoundedSemaphore(1))
    large = b'{"inputs": [' + b"1.5, " * 300_000 + b"1]}"
    with server._rest._endpoints._room:
        status, text = post(server, "/v1/models/adder:predict", large)
        assert status == 429 and "at its limit of large requests" in text
        assert post(server, "/v1/models/adder:predict", b'{"instances": [1]}')[0] == 200
    assert post(server, "/v1/models/adder:predict", large)[0] == 200
