"""The highest open-loop rate whose p99 stays within a budget with fewer than 0.1 % errors, by bisection, repeated."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import deployment
from .deployment import say
from .errors import LoadError
from .generator import Generator, Stage
from .measurement import Measurement
from .plan import capacity_report

MAX_ERROR_SHARE = 0.001
#: A bisection ends when the rates that hold and that do not are this close.
RESOLUTION = 0.04
#: A rate below this part of the closed loop's is not worth finding: the capacity is 0.
LOWEST_SHARE = 0.02
#: Times the first rate is raised by 30 % at most: 8 times the closed loop's rate.
MAX_CLIMBS = 8


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """Images per second: the median of the repeats, and their range."""

    images_per_s: float
    lowest: float
    highest: float
    #: Whether the generator, not the server, set the limit in most repeats.
    client_limited: bool
    #: Each rate tried: requests/s, p99 in ms, share of errors, whether it held.
    tried: list[tuple[float, float, float, bool]]


def main(argv: Sequence[str]) -> int:
    """Prints the capacity; returns 1 if there is none, or if it is the generator's own limit."""
    parser = argparse.ArgumentParser(prog="capacity", description=__doc__)
    deployment.add_arguments(parser)
    deployment.add_budget(parser)
    parser.add_argument("--duration", type=float, default=5.0, metavar="S", help="of a rate (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("build/load"), metavar="DIR", help="(default: %(default)s)")
    options = parser.parse_args(argv)
    if options.repeats < 1:
        raise LoadError(f"--repeats is at least 1, not {options.repeats}")
    with deployment.opened(options) as server:
        payload = deployment.payload_of(options, server.metadata)
        deployment.check_answers(server, payload)
        with Generator(server.targets, payload, processes=options.processes, live=sys.stderr.isatty()) as generator:
            single = deployment.single_latency_ms(generator)
            needs = capacity_report.needs(server, payload, generator)
            budget = deployment.budget_ms(options.slo_ms, single)
            found = search(
                generator.run, budget, payload.images_per_request, duration_s=options.duration, repeats=options.repeats
            )
    options.out.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {
        "format": capacity_report.FORMAT,
        "servers": len(server.targets),
        **server.description,
        "input": payload.input,
        "images_per_request": payload.images_per_request,
        "single_ms": single,
        "budget_ms": budget,
        **found.__dict__,
        **needs,
    }
    (options.out / "capacity.json").write_text(json.dumps(result, indent=1))
    if not found.images_per_s:
        print(f"capacity of {options.model}, {payload.input}: no rate keeps p99 within {budget:.0f} ms")
        return 1
    print(
        f"capacity of {options.model}, {payload.input}: {found.images_per_s:.1f} images/s within p99 {budget:.0f} ms "
        f"({found.lowest:.1f}–{found.highest:.1f} in {options.repeats} repeats; one request alone {single:.1f} ms)"
    )
    if found.client_limited:
        print("the generator was the limit: more --processes, or a machine of its own")
    return 1 if found.client_limited else 0


def search(
    run: Callable[[Stage], Measurement],
    budget_ms: float,
    images_per_request: int = 1,
    *,
    duration_s: float = 5.0,
    repeats: int = 3,
    callers: int = 16,
    worth: float = 0.0,
    quiet: bool = False,
) -> Capacity:
    """Returns the capacity.

    Args:
        run: runs a stage.
        budget_ms: of p99.
        images_per_request: of the payload.
        duration_s: of each rate tried.
        repeats: bisections, each with arrivals of its own.
        callers: of the closed loop that gives the first bound.
        worth: images per second; a repeat in which twice this rate does not hold ends, with a capacity of 0.
        quiet: whether nothing is said of the repeats.
    """
    tried: list[tuple[float, float, float, bool]] = []

    def fails(rate: float, seed: int) -> Measurement | None:
        measured = run(Stage(rate=rate, duration_s=duration_s, seed=seed))
        p99 = measured.percentile_ms(99)
        # Where nothing was answered p99 is not a number, and no comparison with that holds.
        good = bool(p99 <= budget_ms) and measured.error_share < MAX_ERROR_SHARE
        tried.append((round(rate, 2), round(p99, 2), round(measured.error_share, 5), good))
        return None if good else measured

    bound = run(Stage(callers=callers, duration_s=duration_s)).images_per_s / images_per_request
    if bound <= 0:
        raise LoadError("the server answered nothing: no capacity to search")
    found, limited = [], []
    for repeat in range(repeats):
        low, high = worth / images_per_request, 1.1 * bound
        if low:
            high = max(high, 1.1 * low)
            if all((failed := fails(low, seed)) is not None for seed in (repeat, repeats + repeat)):
                found.append(0.0)
                limited.append(bool(failed and failed.limits()))
                continue
        failed = fails(high, repeat)
        for _ in range(MAX_CLIMBS):  # the closed loop may have shown less than there is
            if failed is not None:
                break
            low, high = high, 1.3 * high
            failed = fails(high, repeat)
        if failed is None:
            raise LoadError(
                f"even {high:.0f} requests/s keep the budget, {high / bound:.0f} times what {callers} callers reach: "
                "a stage is too short for the queue to show (give a longer duration)"
            )
        while high - low > RESOLUTION * high and high > LOWEST_SHARE * bound:
            middle = (low + high) / 2
            above = fails(middle, repeat)
            if above is None:
                low = middle
            else:
                high, failed = middle, above
        found.append(low * images_per_request)
        # What stopped the search is the lowest rate that failed, not the last one tried.
        limited.append(bool(failed.limits()))
        reached = f"{found[-1]:.1f} images/s" if low else f"no rate keeps the budget, down to {high:.2f} requests/s"
        if not quiet:
            say(f"repeat {repeat + 1}: {reached}")
    return Capacity(
        images_per_s=statistics.median(found),
        lowest=min(found),
        highest=max(found),
        client_limited=2 * sum(limited) > len(limited),
        tried=tried,
    )
