"""extract_iter: order, bounds, errors, and a server that goes away."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator

import grpc
import numpy as np
import pytest
from featserve_client import (
    AsyncFeatureClient,
    ConfigError,
    ConnectError,
    Extracted,
    FeatserveError,
    FeatureClient,
    InvalidImageError,
    InvalidRequest,
    Limits,
    TransportError,
)
from featserve_client.core import stream as _stream
from featserve_client.interceptors import MetricsInterceptor, OpenTelemetryInterceptor
from featserve_client.wire import serving_pb2 as wire

from ..fake_server import FakeServer, Refusal, features, jpeg

BROKEN = jpeg(0) + b"broken"


@pytest.fixture
def small(server: FakeServer) -> Iterator[FeatureClient]:
    with FeatureClient(server.target, model="toy", limits=Limits(max_request_images=4)) as made:
        yield made


def test_every_image_once_and_in_order(small: FeatureClient, server: FakeServer) -> None:
    data = [jpeg(seed) for seed in range(50)]
    results = list(small.extract_iter(iter(data), "late", concurrency=4))
    assert [result.index for result in results] == list(range(50))
    for result, item in zip(results, data, strict=True):
        assert result.error is None and result.version == 1
        np.testing.assert_array_equal(result.features["late"], features(item)["late"])
    assert 1 <= server.most_in_flight <= 4


def test_unordered_gives_the_same(small: FeatureClient) -> None:
    data = [jpeg(seed) for seed in range(30)]
    results = sorted(small.extract_iter(data, ordered=False), key=lambda result: result.index)
    for result, item in zip(results, data, strict=True):
        np.testing.assert_array_equal(result.features["late"], features(item)["late"])


def mixed(count: int) -> list[bytes | np.ndarray]:
    """A picture of its own shape first: it must not hold up the others, nor they it."""
    return [np.zeros((3, 5, 3), np.uint8), *(jpeg(seed) for seed in range(count))]


def test_kinds_mix_without_holding_each_other_up(small: FeatureClient) -> None:
    results = list(small.extract_iter(mixed(150), concurrency=2))
    assert [result.index for result in results] == list(range(151))


def test_memory_is_bounded(small: FeatureClient) -> None:
    taken = 0

    def source() -> Iterator[bytes]:
        nonlocal taken
        for seed in range(10_000):
            taken += 1
            yield jpeg(seed % 5)

    stream = small.extract_iter(source(), concurrency=2)
    for _ in range(3):
        next(stream)
    assert taken <= _stream.READ_AHEAD + 2 * 2 * 4 + 3
    stream.close()


def test_large_images_are_not_read_far_ahead(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_stream, "READ_AHEAD_BYTES", 4 * len(jpeg(0)))
    taken = 0

    def source() -> Iterator[bytes]:
        nonlocal taken
        for seed in range(1000):
            taken += 1
            yield jpeg(seed % 5)

    limits = Limits(max_request_bytes=2 * len(jpeg(0)))
    with FeatureClient(server.target, model="toy", limits=limits) as client:
        stream = client.extract_iter(source(), concurrency=1)
        for _ in range(100):
            next(stream)
        # Read, in requests that wait, and in the one that is under way.
        assert taken <= 100 + _stream.READ_AHEAD + 4 + 3 * 2 + 2
        ahead = taken
        for _ in range(100):
            next(stream)
        assert taken - ahead <= 110
        stream.close()


def test_results_do_not_wait_for_inputs_yet_to_come(small: FeatureClient, server: FakeServer) -> None:
    taken_since_the_answer = 0

    def source() -> Iterator[bytes]:
        nonlocal taken_since_the_answer
        for seed in range(_stream.READ_AHEAD):
            yield jpeg(seed)
            time.sleep(0.1)
            taken_since_the_answer += server.answered > 0

    stream = small.extract_iter(source(), "late")
    next(stream)
    assert taken_since_the_answer < _stream.READ_AHEAD // 4
    stream.close()


def test_an_async_source_may_wait_for_the_results(small: FeatureClient, server: FakeServer) -> None:
    tasks = set()

    async def main() -> None:
        got: asyncio.Queue[int] = asyncio.Queue()

        async def generate() -> AsyncIterator[bytes]:
            for seed in range(3):
                tasks.add(asyncio.current_task())
                yield jpeg(seed)
                assert await asyncio.wait_for(got.get(), 60) == seed

        async with AsyncFeatureClient(server.target, model="toy") as client:
            async for result in client.extract_iter(generate(), "late"):
                await got.put(result.index)

    asyncio.run(main())
    assert len(tasks) == 1  # what the generator holds open may belong to its task


def test_errors_of_the_source_are_raised(small: FeatureClient, server: FakeServer) -> None:
    def source() -> Iterator[bytes]:
        yield jpeg(0)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(small.extract_iter(source(), on_error="return"))

    async def main() -> None:
        async with AsyncFeatureClient(server.target, model="toy") as client:
            with pytest.raises(ZeroDivisionError):
                await _collect(client.extract_iter(source(), on_error="return"))

    asyncio.run(main())


@pytest.mark.parametrize("interceptor", [None, MetricsInterceptor(lambda record: None), OpenTelemetryInterceptor()])
def test_ended_early_it_waits_for_no_answer(server: FakeServer, interceptor: object) -> None:
    hold, held = threading.Event(), threading.Event()

    def before(request: wire.PredictRequest, count: int) -> None:
        if count > 0:
            held.set()
            hold.wait(60)

    def source() -> Iterator[bytes]:
        for seed in range(12):
            yield jpeg(seed)
            held.wait(0.1)
        raise ZeroDivisionError

    server.before = before
    settings = {"limits": Limits(max_request_images=4), "interceptors": [interceptor] if interceptor else []}
    client = FeatureClient(server.target, model="toy", **settings)
    try:
        with pytest.raises(ZeroDivisionError):
            list(client.extract_iter(source(), concurrency=4))
        for thread in threading.enumerate():
            if thread.name.startswith(("featserve-read", "featserve-send")):
                thread.join(30)
                assert not thread.is_alive()
    finally:
        hold.set()
        client.close()


def test_closing_the_client_ends_the_calls_of_others(small: FeatureClient, server: FakeServer) -> None:
    hold, held = threading.Event(), threading.Semaphore(0)

    def before(request: wire.PredictRequest, count: int) -> None:
        held.release()
        hold.wait(60)

    server.before = before
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            small.extract([jpeg(seed) for seed in range(8)])
        except FeatserveError as exc:
            errors.append(exc)

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        assert held.acquire(timeout=60) and held.acquire(timeout=60)
        small.close()
        asker.join(30)
        assert [type(error) for error in errors] == [TransportError]
    finally:
        hold.set()


def test_one_bad_image_is_one_error(small: FeatureClient) -> None:
    data = [jpeg(0), BROKEN, jpeg(1), b"nothing", "/no/such.jpg", np.zeros((2, 2, 3), np.float32), jpeg(2), jpeg(3)]
    results = list(small.extract_iter(data, on_error="return"))
    assert [result.index for result in results] == list(range(8))
    kinds = [type(result.error) for result in results]
    bad = [InvalidRequest, InvalidImageError, InvalidImageError, InvalidRequest]
    assert kinds == [type(None), bad[0], type(None), *bad[1:], type(None), type(None)]
    assert str(results[1].error).startswith("image 1: ")
    assert str(results[4].error) == "/no/such.jpg: no such file"
    assert all(bool(result.features) == (result.error is None) for result in results)


def test_errors_are_raised_in_their_turn(small: FeatureClient) -> None:
    stream = small.extract_iter([jpeg(0), BROKEN, jpeg(1)])
    assert next(stream).index == 0
    with pytest.raises(InvalidRequest, match="image 1: .*cannot be decoded"):
        next(stream)


@pytest.mark.parametrize("arguments", [{"concurrency": 0}, {"on_error": "ignore"}, {"layers": []}])
def test_arguments_are_checked_at_once(small: FeatureClient, arguments: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        small.extract_iter([jpeg(0)], **arguments)  # type: ignore[arg-type]


def test_a_server_that_restarts_is_waited_for(small: FeatureClient, server: FakeServer) -> None:
    def source() -> Iterator[bytes]:
        for seed in range(300):
            if seed == 150:
                server.stop()
                threading.Timer(0.5, server.start).start()
            yield jpeg(seed)

    results = list(small.extract_iter(source(), "late", concurrency=2))
    assert [result.index for result in results] == list(range(300))
    np.testing.assert_array_equal(results[299].features["late"], features(jpeg(299))["late"])


def test_a_server_that_stays_away_ends_the_stream(
    small: FeatureClient, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_stream, "PATIENCE_S", 0.3)

    def source() -> Iterator[bytes]:
        yield from (jpeg(seed) for seed in range(300))

    stream = small.extract_iter(source(), on_error="return")
    next(stream)
    server.stop()
    with pytest.raises(ConnectError):
        list(stream)


def test_overload_is_waited_out_with_fewer_in_flight(small: FeatureClient, server: FakeServer) -> None:
    def refuse(request: wire.PredictRequest, count: int) -> None:
        if server.in_flight > 2:
            raise Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")

    server.before = refuse
    results = list(small.extract_iter((jpeg(seed % 9) for seed in range(200)), concurrency=8))
    assert [result.index for result in results] == list(range(200))


async def _collect(stream: AsyncIterator[Extracted]) -> list[Extracted]:
    return [result async for result in stream]


def test_async_is_the_same(server: FakeServer) -> None:
    data = [jpeg(0), BROKEN, b"nothing", *mixed(60)]

    async def generate() -> AsyncIterator[bytes | np.ndarray]:
        for item in data:
            yield item

    async def main() -> None:
        async with AsyncFeatureClient(server.target, model="toy", limits=Limits(max_request_images=4)) as client:
            for source in (data, generate()):
                results = await _collect(client.extract_iter(source, on_error="return", concurrency=3))
                assert [result.index for result in results] == list(range(len(data)))
                assert [result.index for result in results if result.error] == [1, 2]
                np.testing.assert_array_equal(results[-1].features["late"], features(data[-1])["late"])
            with pytest.raises(InvalidRequest, match="image 1"):
                await _collect(client.extract_iter(data))

    asyncio.run(main())
