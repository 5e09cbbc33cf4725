"""The simulation of `plan` beside measurement: one server that has a core, and two that share it."""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..deployment import say
from ..errors import LoadError
from ..generator import Generator, Stage
from ..measurement import Measurement
from ..networks import DEFAULT, exported
from ..payload import Payload, describe, make
from ..plan.calibration import PERCENTILE, SHARE, under_load
from ..plan.fleet import Fleet
from ..plan.service_times import ServiceTimes, measure
from ..plan.simulated_server import Settings
from ..server import ServerProcess, on_cores
from ..turns import Unavailable

#: Of what 16 callers a server reach; the first tells what work takes among other calls.
FRACTIONS = (SHARE, 0.75)
#: Requests of a figure: fewer say nothing of a 99th percentile.
REQUESTS = 1000
PROCESSES = 2
BATCHING = """\
num_batch_threads { value: 1 }
max_batch_size { value: 8 }
batch_timeout_micros { value: 0 }
max_enqueued_batches { value: 256 }
"""


@dataclass(kw_only=True)
class Bench:
    """Servers on one core, the generator on another, and what is needed to time them."""

    servers: list[ServerProcess]
    generator: Generator
    payload: Payload
    settings: Settings

    def times(self, rounds: int = 2) -> ServiceTimes:
        """The service times now: this machine's speed drifts."""
        found = []
        for server in self.servers:
            metadata = describe(server.target, server.model)
            found.append(measure(server.target, metadata, self.payload, pid=server.pid, cores=1, rounds=rounds))
        return _mean(found)

    def fleet(self, times: ServiceTimes) -> Fleet:
        """The same, simulated."""
        return Fleet(times=times, settings=self.settings, servers=len(self.servers), clients=PROCESSES, machines=1)


def plan(options: argparse.Namespace) -> list[str]:
    """Measures and simulates the same arrivals in turns."""
    if len(os.sched_getaffinity(0)) < 2:
        raise Unavailable("servers and their callers need a core each, and there is only one")
    lines = [
        f"{DEFAULT}, pooled to vectors, float32; the servers have one core, which they share, and the callers another. "
        "Each server has one batch thread, 8 images a batch. Simulated are the arrivals that were measured (Poisson, "
        "one image each), with service times taken by one caller just before and just after, and slowed for all loads "
        f"of a round until p{PERCENTILE:g} at half load is the measured one. ms of p99 and images/s are medians of the "
        "rounds, in brackets their range; ÷ is simulated by measured, the median of the rounds' ratios.",
        "",
        "| servers | load, requests/s | measured | simulated | ÷ | rounds |",
        "|--:|--:|--:|--:|--:|--:|",
    ]
    for count in (1, 2):
        with _bench(options, count) as bench:
            lines += _rows(bench, options)
    return lines


@contextmanager
def _bench(options: argparse.Namespace, count: int) -> Iterator[Bench]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        config = folder / "batching.config"
        config.write_text(BATCHING)
        name = f"{DEFAULT}_vector"
        extra = ["--model-name", name, "--pooling", "avg", "--batching", str(config)]
        base_path = exported(options, DEFAULT, name, extra)
        core, *others = sorted(os.sched_getaffinity(0))
        servers = [stack.enter_context(ServerProcess(base_path, name, cores=[core])) for _ in range(count)]
        metadata = describe(servers[0].target, name)
        payload = make(metadata, name)
        manifest = metadata.manifest or {}
        stack.enter_context(on_cores(others[:1]))
        generator = stack.enter_context(Generator([server.target for server in servers], payload, processes=PROCESSES))
        closed = generator.run(Stage(callers=16, duration_s=6, warmup_s=2))
        if closed.errors or not len(closed.samples):
            raise LoadError(f"requests failed: {closed.errors or 'none was sent'}")
        yield Bench(servers=servers, generator=generator, payload=payload, settings=Settings.of(manifest["batching"]))


def _rows(bench: Bench, options: argparse.Namespace) -> list[str]:
    count = len(bench.servers)
    loads: dict[float, list[tuple[float, float]]] = {}
    capacities: list[tuple[float, float]] = []
    callers = Stage(callers=16 * count, duration_s=max(options.seconds, 10.0), warmup_s=2)
    bound = _checked(bench.generator.run(callers)).images_per_s
    rates = [round(fraction * bound, 1) for fraction in FRACTIONS]
    for turn in range(options.rounds):
        stages = [
            Stage(rate=rate, duration_s=max(options.seconds, REQUESTS / rate), warmup_s=2, seed=turn) for rate in rates
        ]
        factor: float | None = None
        before = bench.times()
        for stage in (*stages, callers):
            measured = _checked(bench.generator.run(stage))
            after = bench.times()
            times, before = _mean([before, after]), after
            if factor is None:
                factor = under_load(bench.fleet(times), stage, measured)
            simulated = bench.fleet(times.loaded(factor)).run(stage)
            if stage.rate is None:
                capacities.append((measured.steady_images_per_s, simulated.steady_images_per_s))
            else:
                loads.setdefault(stage.rate, []).append((measured.percentile_ms(99), simulated.percentile_ms(99)))
            say(
                f"  {count}, {stage.name}: {measured.steady_images_per_s:.1f} {simulated.steady_images_per_s:.1f} "
                f"images/s, p50 {measured.percentile_ms(50):.1f} {simulated.percentile_ms(50):.1f}, "
                f"p99 {measured.percentile_ms(99):.1f} {simulated.percentile_ms(99):.1f} ms; {factor:.3f} times as long"
            )
    rows = [f"| {count} | {rate:g}: p99, ms | {_cells(pairs)} |" for rate, pairs in loads.items()]
    return [*rows, f"| {count} | {16 * count} callers: images/s | {_cells(capacities)} |"]


def _checked(measured: Measurement) -> Measurement:
    if not len(measured.ok):
        raise LoadError(f"requests failed: {measured.errors or 'none was sent'}")
    return measured


def _cells(pairs: list[tuple[float, float]]) -> str:
    ratios = [simulated / measured for measured, simulated in pairs]
    columns = [
        f"{statistics.median(column):.1f} ({min(column):.1f}–{max(column):.1f})" for column in zip(*pairs, strict=True)
    ]
    return f"{columns[0]} | {columns[1]} | {statistics.median(ratios):.2f} | {min(ratios):.2f}–{max(ratios):.2f}"


def _mean(found: list[ServiceTimes]) -> ServiceTimes:
    return ServiceTimes(
        cores=found[0].cores,
        request_ms=_means([each.request_ms for each in found]),
        alone_ms=_means([each.alone_ms for each in found]),
        variation=_means([each.variation for each in found]),
        batch_ms={size: statistics.mean(each.batch_ms[size] for each in found) for size in found[0].batch_ms},
        parallel=1.0,
        outside_ms=statistics.mean(each.outside_ms for each in found),
    )


def _means(rows: list[tuple[float, ...]]) -> tuple[float, ...]:
    return tuple(statistics.mean(column) for column in zip(*rows, strict=True))
