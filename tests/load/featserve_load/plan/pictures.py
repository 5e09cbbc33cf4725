"""The pictures of a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from ..charts import Chart
from ..generator import Stage
from .autoscaler import Autoscaler, Timeline, follow, latencies
from .fleet import Fleet

_GRAY, _BLUE, _ORANGE, _PURPLE = "#718096", "#2b6cb0", "#c05621", "#805ad5"
#: Seconds of a point of time.
_SLICE_S = 5


@dataclass(frozen=True, kw_only=True)
class Curve:
    """p99 in ms by the load of each server, in images/s."""

    name: str
    loads: list[float]
    p99_ms: list[float]


def curve(name: str, fleet: Fleet, loads: Sequence[float], duration_s: float = 40.0) -> Curve:
    """Simulates a fleet at several loads of each server."""
    found = []
    for load in loads:
        rate = load * fleet.servers / fleet.images_per_request
        found.append(fleet.run(Stage(rate=rate, duration_s=duration_s, warmup_s=5)).percentile_ms(99))
    return Curve(name=name, loads=list(loads), p99_ms=found)


def curves(title: str, found: Sequence[Curve], slo_ms: float, planned: float | None = None) -> Chart:
    """Returns p99 against load."""

    def draw(figure: FigureBase) -> None:
        axes = figure.add_subplot()
        colors = [_BLUE, _PURPLE, _ORANGE, "#276749", "#b7791f"]
        for each, color in zip(found, colors, strict=False):
            axes.plot(each.loads, each.p99_ms, "-o", color=color, markersize=4, label=each.name)
        if planned:
            axes.axvline(planned, color=_GRAY, linestyle="--", linewidth=1, label=f"planned: {planned:.1f} images/s")
        _budget(axes, slo_ms)
        axes.set_ylim(0, 2.5 * slo_ms)
        axes.set_xlabel("load of each server, images/s")
        axes.set_ylabel("p99, ms (simulated)")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="upper left")

    return Chart(title=title, draw=draw)


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step of the traffic under the autoscaler; `at_s` is when it comes."""

    load: npt.NDArray[np.float64]
    at_s: int
    timeline: Timeline
    p99_ms: npt.NDArray[np.float64]
    refused: npt.NDArray[np.float64]

    def over_s(self, slo_ms: float) -> float:
        """Seconds for which p99 is over the budget, or more than 0.1 % are refused."""
        return _SLICE_S * float(np.count_nonzero((self.p99_ms > slo_ms) | (self.refused > 0.001)))


def step(fleet: Fleet, before: float, after: float, rules: Autoscaler, *, at_s: int = 60, seconds: int = 360) -> Step:
    """Simulates a step from `before` to `after` images/s."""
    load = np.where(np.arange(seconds) < at_s, before, after)
    image_s = fleet.times.image_ms(fleet.images_per_request) / 1e3
    timeline = follow(lambda now: float(load[int(now)]), seconds, image_s, fleet.times.cores, rules)
    rows = latencies(timeline, fleet.times, fleet.settings, fleet.images_per_request)
    p99, refused = [], []
    for start in range(0, seconds, _SLICE_S):
        took = rows[(rows[:, 0] >= start) & (rows[:, 0] < start + _SLICE_S), 1]
        good = took[np.isfinite(took)]
        p99.append(float(np.percentile(good, 99)) if len(good) else np.nan)
        refused.append(1 - len(good) / len(took) if len(took) else 0.0)
    return Step(load=load, at_s=at_s, timeline=timeline, p99_ms=np.array(p99), refused=np.array(refused))


def steps(title: str, found: Step, slo_ms: float) -> Chart:
    """Returns a step: pods above, what callers see below."""

    def draw(figure: Any) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True)
        seconds = np.arange(len(found.load)) - found.at_s
        upper.step(seconds, found.timeline.wanted, color=_GRAY, linestyle="--", label="pods started")
        upper.step(seconds, found.timeline.ready, color=_BLUE, label="pods ready")
        upper.set_ylim(0, 1.2 * float(found.timeline.wanted.max()))
        upper.set_ylabel("pods")
        upper.legend(fontsize=8, loc="lower right")
        beside = upper.twinx()
        beside.step(seconds, found.load, color=_ORANGE, linewidth=1)
        beside.set_ylim(0, 1.3 * float(found.load.max()))
        beside.set_ylabel("load, images/s", color=_ORANGE)
        when = np.arange(len(found.p99_ms)) * _SLICE_S - found.at_s
        lower.plot(when, found.p99_ms, color=_ORANGE, label="p99 at the busiest pod, ms")
        _budget(lower, slo_ms)
        lower.set_ylim(0, 1.15 * max(float(np.nanmax(found.p99_ms)), slo_ms))
        lower.set_ylabel("p99, ms")
        lower.set_xlabel("seconds since the step")
        part = lower.twinx()
        part.fill_between(when, 100 * found.refused, color="#c53030", alpha=0.25, step="mid")
        part.set_ylim(0, 100)
        part.set_ylabel("refused there, %", color="#c53030")
        for axes in (upper, lower):
            axes.grid(alpha=0.3)
        lower.legend(fontsize=8, loc="upper right")

    return Chart(title=title, draw=draw, wide=True)


def _budget(axes: Axes, slo_ms: float) -> None:
    axes.axhline(slo_ms, color=_GRAY, linestyle=":", label=f"budget {slo_ms:g} ms")
