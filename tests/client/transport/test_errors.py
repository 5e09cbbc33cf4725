"""Every failure of a call is one of the client's own errors, with what a user needs to act on it."""

import asyncio
import dataclasses
import http.server
import pickle
import threading
import time
from collections.abc import Callable

import grpc
import numpy as np
import pytest
from featserve_client import (
    AsyncFeatureClient,
    ConnectError,
    DeadlineExceeded,
    FeatserveError,
    FeatureClient,
    InvalidImageError,
    Limits,
    MessageTooLarge,
    ModelNotFound,
    RetryPolicy,
    ServerOverloaded,
)
from featserve_client.transport.errors import ERRORS, CallContext, is_unclear, translate
from featserve_client.transport.probe import Responder

from ..fake_server import FakeServer, Refusal, jpeg

CONTEXT = CallContext(target="host:1", model="toy", timeout_s=2.5, request_id="id")


def test_every_code_has_an_error() -> None:
    assert set(ERRORS) == set(grpc.StatusCode) - {grpc.StatusCode.OK}


@pytest.mark.parametrize("code", sorted(ERRORS, key=str))
def test_errors_keep_what_the_call_said(code: grpc.StatusCode) -> None:
    error = translate(code, "words", CONTEXT)
    assert type(error) is ERRORS[code]
    assert (error.code, error.details, error.target, error.model, error.request_id) == (
        code, "words", "host:1", "toy", "id"
    )  # fmt: skip
    assert "host:1" in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and str(again) == str(error) and again.__dict__ == error.__dict__


@pytest.mark.parametrize(
    ("answer", "secure", "text"),
    [
        ("grpc", True, "does not speak TLS"),
        ("tls", False, "speaks TLS alone"),
        ("tls", True, "one side refused the other"),
        ("http", False, "perhaps the REST API"),
        ("nothing", False, "no server at host:1: nothing listens there. Start one with"),
    ],
)
def test_a_refusal_at_the_last_address_is_not_taken_for_that_of_all(answer: Responder, secure: bool, text: str) -> None:
    told = "failed to connect to all addresses; last error: UNKNOWN: ipv6:%5B::1%5D:1: Connection refused (111)"
    assert is_unclear(grpc.StatusCode.UNAVAILABLE, told)
    context = dataclasses.replace(CONTEXT, answer=answer, secure=secure)
    assert text in str(translate(grpc.StatusCode.UNAVAILABLE, told, context))
    proxied = dataclasses.replace(CONTEXT, proxy="http_proxy")  # what does not listen may be the proxy
    assert "Connection refused (111)" in str(translate(grpc.StatusCode.UNAVAILABLE, told, proxied))


def test_what_the_graph_says_is_read_without_the_names_of_its_nodes() -> None:
    told = (
        "{{function_node __inference__closely_20149}} assertion failed: [expected a shape of [N], received [2, 3]: "
        "send one]\n\t [[{{function_node switch_case_0}}{{node Assert/Assert}}]]\n\t [[encoded/map/while/body/_10]]"
    )
    error = translate(grpc.StatusCode.INVALID_ARGUMENT, told, CONTEXT)
    assert error.details == "expected a shape of [N], received [2, 3]: send one"
    assert str(error).endswith(f"answered INVALID_ARGUMENT: {error.details}")
    told = "Invalid JPEG data.\n\t [[{{function_node cond_true_6098}}{{node DecodeJpeg}}]]"
    assert str(translate(grpc.StatusCode.INVALID_ARGUMENT, told, CONTEXT)).endswith(": Invalid JPEG data.")
    assert translate(grpc.StatusCode.INTERNAL, "assertion failed: [cut", CONTEXT).details == "assertion failed: [cut"


@pytest.mark.parametrize("code", sorted(ERRORS, key=str))
def test_sync_and_async_raise_the_same(server: FakeServer, code: grpc.StatusCode) -> None:
    def refuse(request: object, count: int) -> None:
        raise Refusal(code, "words")

    server.before = refuse
    settings = {"model": "toy", "retry": RetryPolicy(max_attempts=1)}
    with FeatureClient(server.target, **settings) as client, pytest.raises(FeatserveError) as sync:
        client.predict({"x": [1.0]})

    async def ask() -> None:
        async with AsyncFeatureClient(server.target, **settings) as client:
            await client.predict({"x": [1.0]})

    with pytest.raises(FeatserveError) as other:
        asyncio.run(ask())
    assert type(sync.value) is type(other.value) is ERRORS[code]
    assert str(sync.value) == str(other.value)


def test_no_server_names_the_address(free_port: Callable[[], int]) -> None:
    port = free_port()
    client = FeatureClient(f"localhost:{port}", model="toy", retry=RetryPolicy(max_attempts=1))
    with pytest.raises(ConnectError, match=f"no server at localhost:{port}"):
        client.status()
    with pytest.raises(DeadlineExceeded, match=r"not ready after timeout_s=3 seconds: no server at"):
        client.wait_until_ready(3)


def test_a_port_that_speaks_http_is_told_apart() -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    server.RequestHandlerClass.log_message = lambda *_: None  # type: ignore[method-assign,assignment]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        retry = RetryPolicy(max_attempts=1)
        with FeatureClient(f"127.0.0.1:{server.server_port}", model="toy", retry=retry) as client:
            with pytest.raises(ConnectError, match="does not speak gRPC; perhaps this is the port of its REST API"):
                client.status()
    finally:
        server.shutdown()
        server.server_close()


def test_retries_have_a_budget(server: FakeServer) -> None:
    calls: list[int] = []

    def refuse(request: object, count: int) -> None:
        calls.append(count)
        raise Refusal(grpc.StatusCode.UNAVAILABLE)

    server.before = refuse
    retry = RetryPolicy(initial_backoff_s=0.02, max_backoff_s=0.02, budget_tokens=10)
    with FeatureClient(server.target, model="toy", retry=retry) as client:
        for _ in range(10):
            with pytest.raises(ConnectError):
                client.predict({"x": [1.0]})
    assert len(calls) < 10 + 5  # each call's first try, and retries until half the budget is spent


def test_a_deadline_is_named_in_seconds(client: FeatureClient, server: FakeServer) -> None:
    server.before = lambda request, count: time.sleep(1)
    with pytest.raises(DeadlineExceeded, match=r"'toy' at localhost:\d+ within timeout_s=0.2 seconds"):
        client.extract(jpeg(0), timeout_s=0.2)


def test_a_large_answer_names_the_option_and_both_sizes(server: FakeServer) -> None:
    server.before = lambda request, count: bytes(5000)
    limits = Limits(max_message_bytes=4096)
    with FeatureClient(server.target, model="toy", limits=limits) as client:
        with pytest.raises(MessageTooLarge, match=r"5000 bytes, more than max_message_bytes=4096"):
            client.predict({"x": [1.0]})
        with pytest.raises(MessageTooLarge, match=r"the request has \d+ bytes, more than max_message_bytes=4096"):
            client.predict({"x": np.zeros(2000)})
        with pytest.raises(InvalidImageError, match="max_message_bytes=4096"):
            client.extract(__file__)


def test_the_servers_own_limit_is_named() -> None:
    server = FakeServer(options=(("grpc.max_receive_message_length", 4096),)).start()
    try:
        with FeatureClient(server.target, model="toy") as client:
            with pytest.raises(MessageTooLarge, match="the server takes at most 4096 bytes"):
                client.predict({"x": np.zeros(2000)})
    finally:
        server.stop()


def test_a_server_that_comes_back_is_found_within_one_call(server: FakeServer) -> None:
    with FeatureClient(server.target, model="toy", retry=RetryPolicy(initial_backoff_s=0.5)) as client:
        client.extract(jpeg(0))
        server.stop()
        threading.Timer(0.3, server.start).start()
        assert client.extract(jpeg(0))["late"].shape == (1, 4)


def test_unavailable_is_retried_and_a_refusal_is_not(client: FeatureClient, server: FakeServer) -> None:
    calls = []

    def refuse(request: object, count: int) -> None:
        calls.append(count)
        if len(calls) < 3:
            raise Refusal(grpc.StatusCode.UNAVAILABLE)

    server.before = refuse
    client.extract(jpeg(0))
    assert len(calls) == 3

    def overloaded(request: object, count: int) -> None:
        calls.append(count)
        raise Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")

    calls.clear()
    server.before = overloaded
    with pytest.raises(ServerOverloaded, match="busy"):
        client.extract(jpeg(0))
    assert len(calls) == 1


def test_a_hint_when_to_come_back_is_honoured(server: FakeServer) -> None:
    times: list[float] = []

    def refuse(request: object, count: int) -> None:
        times.append(time.monotonic())
        if len(times) % 2:
            raise Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy", grpc_retry_pushback_ms="200")

    server.before = refuse
    with FeatureClient(server.target, model="toy") as client:
        client.predict({"images": np.zeros((1, 2, 2, 3), np.uint8)})

    async def ask() -> None:
        async with AsyncFeatureClient(server.target, model="toy") as client:
            await client.predict({"images": np.zeros((1, 2, 2, 3), np.uint8)})

    asyncio.run(ask())
    assert len(times) == 4 and times[1] - times[0] >= 0.2 and times[3] - times[2] >= 0.2


def test_a_wrong_version_or_label_does_not_read_as_an_unknown_model(server: FakeServer) -> None:
    with FeatureClient(server.target, model="toy", version=9) as client:
        with pytest.raises(ModelNotFound, match=r"model 'toy' at \S+: no version 9 is served"):
            client.metadata()
    context = dataclasses.replace(CONTEXT, label="gold")
    error = translate(grpc.StatusCode.INVALID_ARGUMENT, "Unrecognized servable version label: gold", context)
    assert type(error) is ModelNotFound and "no version has the label 'gold'" in str(error)
    with FeatureClient(server.target, model="other") as client:
        with pytest.raises(ModelNotFound, match=r"'other' at \S+ not found: .*lists no models: name one .* --model"):
            client.status()


def test_no_server_says_how_to_start_one(free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch) -> None:
    # A proxy on a port where nothing listens: this machine's own addresses are not asked of it.
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    client = FeatureClient(f"localhost:{free_port()}", model="toy", retry=RetryPolicy(max_attempts=1))
    with pytest.raises(ConnectError, match=r"`featserve-serve --model_root .* --server HOST:PORT$"):
        client.status()


def test_loopback_uses_no_proxy(
    server: FakeServer, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    with FeatureClient(server.target, model="toy", retry=RetryPolicy(max_attempts=1)) as client:
        assert client.extract(jpeg(0))["late"].shape == (1, 4)
    client = FeatureClient("feature.example:8500", model="toy", retry=RetryPolicy(max_attempts=1), timeout_s=30)
    with pytest.raises(ConnectError, match=r"the proxy in \$grpc_proxy; no_grpc_proxy=HOST leaves that out"):
        client.status()
