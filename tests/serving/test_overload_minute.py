"""Ten times the capacity for a minute, from another process than the server's.

`pytest -m slow -s` prints the numbers.
"""

import asyncio
import collections
import time

import grpc
import numpy as np
import psutil
import pytest

pytestmark = pytest.mark.slow

CALLERS, CAPACITY_S, OVERLOAD_S, RECOVERY_S = 32, 15, 60, 5
METHOD = "/tensorflow.serving.PredictionService/Predict"


def request():
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    message = predict_pb2.PredictRequest()
    message.model_spec.name = "adder"
    message.model_spec.signature_name = "heavy"
    message.inputs["x"].CopyFrom(tf.make_tensor_proto(np.ones(50_000, np.float32)))
    return message.SerializeToString()


async def timed(call, message, accepted, refused):
    started = time.monotonic()
    try:
        await call(message, timeout=60)
    except grpc.aio.AioRpcError as exc:
        refused.append(exc.code().name)
    else:
        accepted.append(time.monotonic() - started)


async def closed_loop(call, message, seconds):
    accepted, refused = [], []
    end = time.monotonic() + seconds

    async def run():
        while time.monotonic() < end:
            await timed(call, message, accepted, refused)

    await asyncio.gather(*(run() for _ in range(CALLERS)))
    return accepted, refused


async def open_loop(call, message, rate, seconds, sample):
    accepted, refused, tasks = [], [], set()
    start, sent, sampled = time.monotonic(), 0, 0.0
    while (now := time.monotonic() - start) < seconds:
        while sent < now * rate:
            task = asyncio.create_task(timed(call, message, accepted, refused))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            sent += 1
        if now - sampled > 1:
            sampled = now
            sample()
        await asyncio.sleep(0.002)
    await asyncio.gather(*tasks)
    return accepted, refused, sent


def test_ten_times_the_capacity_for_a_minute(publish, base_path, server_process):
    publish(1)
    process, port, _ = server_process("--model_name=adder", f"--model_base_path={base_path}")
    memory = []
    message = request()

    def sample():
        memory.append(psutil.Process(process.pid).memory_info().rss / 2**20)

    async def run():
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.unary_unary(METHOD)
            await closed_loop(call, message, 3)
            at_capacity, refused = await closed_loop(call, message, CAPACITY_S)
            assert not refused
            sample()
            capacity = len(at_capacity) / CAPACITY_S
            overloaded, refused, sent = await open_loop(call, message, 10 * capacity, OVERLOAD_S, sample)
            ended = time.monotonic()
            while True:
                recovered, late = await closed_loop(call, message, 0.5)
                if not late and np.percentile(recovered, 99) < 1.5 * np.percentile(at_capacity, 99):
                    break
                assert time.monotonic() - ended < RECOVERY_S
            return at_capacity, overloaded, refused, sent, capacity, time.monotonic() - ended

    at_capacity, overloaded, refused, sent, capacity, recovery_s = asyncio.run(run())
    p99, p99_overloaded = np.percentile(at_capacity, 99), np.percentile(overloaded, 99)
    print(
        f"\ncapacity {capacity:.0f}/s, p99 {p99 * 1e3:.0f} ms with {CALLERS} callers; "
        f"offered {sent / OVERLOAD_S:.0f}/s for {OVERLOAD_S} s: accepted {len(overloaded) / OVERLOAD_S:.0f}/s, "
        f"p99 {p99_overloaded * 1e3:.0f} ms ({p99_overloaded / p99:.2f} x), "
        f"refused {dict(collections.Counter(refused))}; RSS {memory[0]:.0f} MiB before, at most {max(memory):.0f}; "
        f"recovered within {recovery_s:.1f} s"
    )
    # A connection with too many calls open refuses some by itself, with UNAVAILABLE; clients retry both.
    assert "RESOURCE_EXHAUSTED" in refused and set(refused) <= {"RESOURCE_EXHAUSTED", "UNAVAILABLE"}
    assert p99_overloaded < 3 * p99
    assert max(memory) < memory[0] + 256
