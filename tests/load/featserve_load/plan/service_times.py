"""What a server's work takes, by kind: the request's own part, and a batch of each size."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import grpc
import numpy as np
import psutil
from featserve_client import ModelMetadata
from featserve_client.wire import serving_pb2 as wire
from featserve_client.wire.tensors import encode_predict_request, encode_strings, encode_tensor

from ..errors import LoadError
from ..payload import PREDICT, SIGNATURES, Payload, network_size

#: Rounds in which all kinds take turns; the first warms up.
ROUNDS = 4
#: Calls of a kind in a round.
_REQUESTS, _BATCHES, _BAD = 2, 4, 20
#: A pause after which each request is timed: under light load, server and callers are idle between their work.
_PAUSE_S = 0.03
#: Parts of the calls, equally many, whose times by the median are kept.
_PARTS = 50


@dataclass(frozen=True, kw_only=True)
class ServiceTimes:
    """Core-milliseconds of a server, measured by one caller alone.

    Attributes:
        cores: that the server may use.
        request_ms: of each request of the payload, without its batch: parsing, decoding, resizing.
        batch_ms: of a batch by its size in images, padding included.
        parallel: cores that one batch keeps busy.
        outside_ms: that a call takes beside the server's work: network and caller.
        alone_ms: that each request takes more where a core has done nothing before it: its caches are cold.
        variation: the time of a call by its kind's median: equally frequent values, increasing.
    """

    cores: int
    request_ms: tuple[float, ...]
    batch_ms: dict[int, float]
    parallel: float
    outside_ms: float
    alone_ms: tuple[float, ...]
    variation: tuple[float, ...]

    @property
    def alone_request_ms(self) -> tuple[float, ...]:
        """Of each request of the payload, where a core has done nothing before it."""
        return tuple(map(sum, zip(self.request_ms, self.alone_ms, strict=True)))

    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)

    @classmethod
    def of(cls, value: dict[str, Any]) -> ServiceTimes:
        """Returns the service times that `as_dict` gave."""
        batches = {int(size): float(ms) for size, ms in value["batch_ms"].items()}
        tuples = {name: tuple(value[name]) for name in ("request_ms", "alone_ms", "variation")}
        return cls(**{**value, **tuples, "batch_ms": batches})

    def slowed(self, factor: float) -> ServiceTimes:
        """Returns the times of a server whose work takes `factor` times as long."""
        return replace(
            self,
            request_ms=tuple(factor * ms for ms in self.request_ms),
            batch_ms={size: factor * ms for size, ms in self.batch_ms.items()},
            alone_ms=tuple(factor * ms for ms in self.alone_ms),
        )

    def loaded(self, factor: float) -> ServiceTimes:
        """Returns the times of work that takes `factor` times as long among other calls.

        The largest batch takes what it took: where batches are full, no thread waits for the next call to wake it.
        """
        slowed, largest = self.slowed(factor), max(self.batch_ms)
        return replace(slowed, batch_ms={**slowed.batch_ms, largest: self.batch_ms[largest]})

    def image_ms(self, images_per_request: int) -> float:
        """Core-milliseconds of an image under full load, in the largest batches."""
        size = max(self.batch_ms)
        median = float(np.mean(self.request_ms)) / images_per_request + self.batch_ms[size] / size
        return median * float(np.mean(self.variation))


def measure(
    target: str, metadata: ModelMetadata, payload: Payload, *, pid: int | None, cores: int, rounds: int = ROUNDS
) -> ServiceTimes:
    """Returns the service times of a server that nobody else asks.

    A batch's time is that of a request of as many pictures that need neither decoding nor resizing. What a request
    costs beside it is the payload's time less that of such a request of the same size; what it costs among others,
    where caches are warm, is told by a request of as many of the payload's images as the largest batch takes. The cost
    of a call as such is that of a file that is no image; what it takes more after a pause is the caller's, who wakes.
    What a request takes beyond that after a pause is the server's, whose caches are cold.

    Args:
        target: `HOST:PORT`.
        metadata: of the model, written by featserve-export.
        payload: whose requests are timed one by one.
        pid: the server's process; None where it is on another machine: then a call keeps one core busy.
        cores: that the server may use.
        rounds: medians are taken over.

    Raises:
        LoadError: the model has no such signatures, or does not batch in the graph.
    """
    manifest = metadata.manifest or {}
    needed = {SIGNATURES["encoded"], SIGNATURES["uint8"]}
    if not manifest.get("batching") or not needed <= set(metadata.signatures):
        raise LoadError(f"expected a model of featserve-export, received one without {sorted(needed)} or batching")
    sizes = sorted({*manifest["batching"]["allowed_batch_sizes"], payload.images_per_request})
    bad = _bad(payload.model, metadata)
    calls = {"bad": (bad, _BAD)}
    calls |= {f"batch {size}": (_plain(payload.model, metadata, size), _BATCHES) for size in sizes}
    calls |= {f"request {place}": (request, _REQUESTS) for place, request in enumerate(payload.requests)}
    together = payload.together(max(sizes) // payload.images_per_request)
    calls |= {f"together {place}": (request, _REQUESTS) for place, request in enumerate(together)}
    process = psutil.Process(pid) if pid else None
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    with grpc.insecure_channel(target, [("grpc.max_receive_message_length", -1)]) as channel:
        call = channel.unary_unary(PREDICT)
        for turn in range(rounds + 1):
            for name, (request, count) in calls.items():
                taken = [_taken(call, request, process) for _ in range(count)]
                if turn:
                    found[name] += taken
        for place, request in enumerate(payload.requests):
            for name, paused in (("paused bad", bad), (f"paused request {place}", request)):
                time.sleep(_PAUSE_S)
                found.setdefault(name, []).append(_taken(call, paused, process))
    took = {name: float(np.median([each[0] for each in rows])) for name, rows in found.items()}
    spent = {name: float(np.mean([each[1] for each in rows])) for name, rows in found.items()}
    by_median = [each[0] / took[name] for name in calls if name != "bad" for each in found[name]]
    variation = tuple(np.quantile(by_median, (np.arange(_PARTS) + 0.5) / _PARTS).round(4).tolist())
    return replace(_solved(took, spent, payload, sizes, cores, known=process is not None), variation=variation)


def _solved(
    took: dict[str, float], spent: dict[str, float], payload: Payload, sizes: Sequence[int], cores: int, *, known: bool
) -> ServiceTimes:
    outside = min(took["bad"] / 2, max(took["bad"] - spent["bad"], 0.0)) if known else 0.0
    largest = f"batch {max(sizes)}"
    # The process's clock ticks in 10 ms: long calls tell how many cores they use, short ones do not.
    parallel = min(float(cores), max(1.0, spent[largest] / max(took[largest] - outside, 1e-6))) if known else 1.0

    def work(name: str) -> float:
        return (took[name] - outside) * (parallel if name != "bad" else 1.0)

    overhead = work("bad")
    own = work(f"batch {payload.images_per_request}")
    decoding = [max(0.0, work(f"request {place}") - own) for place in range(len(payload.requests))]
    together = [work(name) - work(largest) for name in took if name.startswith("together ")]
    waking = max(took["paused bad"] - took["bad"], 0.0)
    slower = [work(f"paused request {place}") - work(f"request {place}") for place in range(len(payload.requests))]
    cold = max(float(np.median(slower)) - waking * parallel, 0.0)
    warm = _warm_share(decoding[: len(together) * (max(sizes) // payload.images_per_request)], together)
    return ServiceTimes(
        cores=cores,
        request_ms=tuple(round(overhead + warm * ms, 4) for ms in decoding),
        batch_ms={size: round(max(work(f"batch {size}") - overhead, 1e-3), 4) for size in sizes},
        parallel=round(parallel, 3),
        outside_ms=round(outside + waking, 4),
        alone_ms=tuple(round((1.0 - warm) * ms + cold, 4) for ms in decoding),
        variation=(1.0,),
    )


def _warm_share(alone: Sequence[float], together: Sequence[float]) -> float:
    """Returns the share of its time alone that decoding takes in warm caches; each request is in `together` once."""
    if not together or not sum(alone):
        return 1.0
    return min(1.0, max(0.0, sum(together)) / sum(alone))


def _taken(call: Any, request: bytes, process: Any) -> tuple[float, float]:
    """Returns the latency and the CPU time of the server, in ms."""
    before = process.cpu_times() if process else None
    began = time.perf_counter()
    try:
        call(request, timeout=60)
    except grpc.RpcError as exc:
        if exc.code() is not grpc.StatusCode.INVALID_ARGUMENT:
            raise LoadError(f"the server failed while it was timed: {exc.code().name}: {exc.details()}") from exc
    took = time.perf_counter() - began
    spent = 0.0
    if before is not None:
        after = process.cpu_times()
        spent = after.user + after.system - before.user - before.system
    return 1e3 * took, 1e3 * spent


def _bad(model: str, metadata: ModelMetadata) -> bytes:
    return _request(model, metadata, SIGNATURES["encoded"], encode_strings([b"no image"], (1,)))


def _plain(model: str, metadata: ModelMetadata, count: int) -> bytes:
    height, width = network_size(metadata)
    pixels = np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    return _request(model, metadata, SIGNATURES["uint8"], encode_tensor(pixels))


def _request(model: str, metadata: ModelMetadata, signature: str, tensor: Any) -> bytes:
    [name] = metadata.signatures[signature].inputs
    return encode_predict_request(wire.ModelSpec(name=model, signature_name=signature), {name: tensor}, [])
