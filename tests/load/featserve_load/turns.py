"""Figures that take turns: whatever else the machine does falls on all of them."""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from featserve_client import FeatserveError

from .deployment import say
from .errors import LoadError
from .generator import Generator, Stage
from .measurement import Measurement

CALLERS = 32
#: Requests of each caller that a figure is made of, at least.
REQUESTS = 3
RATIO = "÷ is the median of the rounds' ratios, its figures are of that round; `rounds` is their range."

Figures = tuple[float, ...]


class Unavailable(LoadError):
    """What a section needs is not on this machine, and need not be."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The round with the median ratio, and the range of all."""

    first: float
    second: float
    lowest: float
    highest: float

    @property
    def ratio(self) -> float:
        """The second by the first."""
        return self.second / self.first

    @property
    def text(self) -> str:
        """Four cells of a table."""
        return f"{self.first:.1f} | {self.second:.1f} | {self.ratio:.2f} | {self.lowest:.2f}–{self.highest:.2f}"


class Length:
    """How long a closed loop runs: long enough for every caller's requests, however slow the model is."""

    def __init__(self, seconds: float, callers: int, images: int, images_per_s: float) -> None:
        wave_s = callers * images / images_per_s if images_per_s > 0 else seconds
        self.seconds = min(max(seconds, (2 if callers == 1 else 1) * REQUESTS * wave_s), 20 * seconds)
        # Past the first wave, which found the queue empty.
        self.warmup_s = min(max(0.5, wave_s), 5 * seconds)


def turns(rounds: int, cases: Mapping[str, Callable[[], Figures]]) -> dict[str, list[Figures]]:
    """Returns each case's figures, round by round: whatever else the machine does falls on all of them.

    A case that fails is left out, and costs no other.
    """
    found: dict[str, list[Figures]] = {name: [] for name in cases}
    for turn in range(rounds):
        names = list(found)
        for name in reversed(names) if turn % 2 else names:
            try:
                found[name].append(cases[name]())
            except (LoadError, FeatserveError, OSError, subprocess.SubprocessError) as exc:
                say(f"  {name}: {exc}")
                del found[name]
                continue
            figures = "  ".join(f"{value:.2f}" for value in found[name][-1])
            say(f"  round {turn + 1} of {rounds}, {name}: {figures}")
    if not found:
        raise LoadError("none of its figures could be measured")
    return found


def turns_or_none(rounds: int, cases: Mapping[str, Callable[[], Figures]]) -> dict[str, list[Figures]]:
    """Returns the same, and nothing where all cases failed: each has said why."""
    try:
        return turns(rounds, cases)
    except LoadError:
        return {}


def medians(rows: Sequence[Figures]) -> Figures:
    return tuple(statistics.median(column) for column in zip(*rows, strict=True))


def pair_of(found: Mapping[str, Sequence[Figures]], one: str, other: str) -> Pair:
    """Returns the ratio of two that took turns, by their first figures."""
    if missing := {one, other} - set(found):
        raise LoadError(f"{' and '.join(sorted(missing))} failed")
    first, second = found[one], found[other]
    if not all(row[0] > 0 for row in first):
        raise LoadError("nothing was answered in a round's time: give more --seconds")
    rounds = sorted(((a[0], b[0]) for a, b in zip(first, second, strict=True)), key=lambda pair: pair[1] / pair[0])
    ratios = [b / a for a, b in rounds]
    a, b = rounds[(len(rounds) - 1) // 2]
    return Pair(first=a, second=b, lowest=ratios[0], highest=ratios[-1])


def closed_loop(
    generator: Generator, options: argparse.Namespace, callers: int = CALLERS, *, length: Length | None = None
) -> Callable[[], Figures]:
    """Returns a measurement of a closed loop: images/s, p50 and p99 in ms, cores of the generator."""

    def once() -> Figures:
        nonlocal length
        if length is None:
            images = generator.images_per_request
            probe = _answered(generator, Stage(callers=callers, duration_s=1.5, warmup_s=0, timeout_s=120))
            # Until the last answer: a slow model gives hardly one within the time.
            speed = len(probe.samples) * images / float(probe.samples["done"].max())
            length = Length(options.seconds, callers, images, speed)
        stage = Stage(callers=callers, duration_s=length.seconds, warmup_s=length.warmup_s, timeout_s=120)
        found = _answered(generator, stage)
        cores = found.client_cores * found.processes
        return found.steady_images_per_s, found.percentile_ms(50), found.percentile_ms(99), cores

    return once


def side_by_side(options: argparse.Namespace, generators: Mapping[str, Generator], callers: int) -> Pair:
    """Measures two servers, or two kinds of requests, in turns under the same closed loop."""
    cases = {name: closed_loop(generator, options, callers) for name, generator in generators.items()}
    return pair_of(turns(options.rounds, cases), *generators)


def _answered(generator: Generator, stage: Stage) -> Measurement:
    measured = generator.run(stage)
    if measured.errors or not len(measured.samples):
        raise LoadError(f"requests failed: {measured.errors or 'none was sent'}")
    return measured


@contextlib.contextmanager
def row(lines: list[str], begun: str, cells: int) -> Iterator[None]:
    """A row that cannot be measured says so, and costs no other."""
    try:
        yield
    except (LoadError, FeatserveError, OSError, subprocess.SubprocessError) as exc:
        say(f"{begun} not measured: {exc}")
        lines.append(f"{begun} not measured |" + " |" * (cells - 1))


def plural(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"
