"""A fleet under the HorizontalPodAutoscaler: who serves when, and what a caller sees meanwhile."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import simpy

from .service_times import ServiceTimes
from .simulated_server import Cores, Settings, SimulatedServer

#: Of the autoscaler: seconds between two looks, and the part by which it lets the ratio be off.
SYNC_S, TOLERANCE = 15.0, 0.1
#: At most per look, whichever is more: all of it again, or as many pods.
MAX_DOUBLING, MAX_PODS = 2.0, 4
_CLIENTS = 100


@dataclass(frozen=True, kw_only=True)
class Autoscaler:
    """The rules; times in seconds.

    Attributes:
        target: part of the cores that may be busy, mean of the pods.
        least: pods.
        most: pods.
        start_s: from a pod's creation until it is ready.
        reconnect_s: the age at which a client's connection ends, and it meets new pods.
        down_window_s: the stabilisation window before pods go.
        down_period_s: one pod goes in each.
    """

    target: float
    least: int
    most: int
    start_s: float
    reconnect_s: float = 60.0
    down_window_s: float = 300.0
    down_period_s: float = 150.0


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Second by second: pods wanted, pods ready, images/s at the pod that most callers know, busy part of the cores."""

    wanted: npt.NDArray[np.float64]
    ready: npt.NDArray[np.float64]
    hottest: npt.NDArray[np.float64]
    utilization: npt.NDArray[np.float64]


def follow(load: Callable[[float], float], seconds: int, image_s: float, cores: int, rules: Autoscaler) -> Timeline:
    """Returns the timeline of the autoscaler under a load in images/s, given core-seconds of an image.

    Load is a fluid here: at the scale of its looks, that loses nothing. Callers are 100, each connected since its own
    moment; they share the pods that they know evenly.
    """
    births = [-rules.reconnect_s - rules.start_s] * rules.least
    phases = np.arange(_CLIENTS) / _CLIENTS * rules.reconnect_s
    columns: list[tuple[float, float, float, float]] = []
    recommended: list[tuple[float, int]] = []
    last_down = -math.inf
    recent: list[float] = []
    for second in range(seconds):
        now = float(second)
        ready_at = np.array(births) + rules.start_s
        ready = int(np.count_nonzero(ready_at <= now))
        met = now - (now - phases) % rules.reconnect_s if rules.reconnect_s > 0 else np.full(_CLIENTS, now)
        known = np.maximum(np.searchsorted(ready_at, met, side="right"), min(rules.least, ready))
        # Pods go youngest first and tell their callers, who then know those that stay.
        known = np.minimum(known, ready)
        share = np.array([np.sum(1.0 / known[known > pod]) / _CLIENTS for pod in range(ready)])
        used = np.minimum(1.0, share * load(now) * image_s / cores)
        recent = [*recent, float(used.sum())][-int(SYNC_S) :]
        columns.append((float(len(births)), float(ready), float(share.max() * load(now)), float(used.mean())))
        if second % int(SYNC_S) or not second:
            continue
        busy = sum(recent) / len(recent)
        desired = _desired(busy, ready, len(births), rules)
        recommended = [each for each in recommended if each[0] > now - rules.down_window_s] + [(now, desired)]
        if desired > len(births):
            births += [now] * (desired - len(births))
        elif max(each for _, each in recommended) < len(births) and now - last_down >= rules.down_period_s:
            births.pop()
            last_down = now
    wanted, ready_, hottest, utilization = (np.array(column) for column in zip(*columns, strict=True))
    return Timeline(wanted=wanted, ready=ready_, hottest=hottest, utilization=utilization)


def _desired(busy: float, ready: int, pods: int, rules: Autoscaler) -> int:
    ratio = busy / ready / rules.target
    if abs(ratio - 1) <= TOLERANCE:
        return pods
    wanted = math.ceil(ready * ratio - 1e-9)
    if ratio > 1:
        # Pods that are not ready count as idle: they may already be enough.
        wanted = max(wanted, pods)
        wanted = min(wanted, max(math.floor(pods * MAX_DOUBLING), pods + MAX_PODS))
    return min(max(wanted, rules.least), rules.most)


def latencies(
    timeline: Timeline,
    times: ServiceTimes,
    settings: Settings,
    images_per_request: int,
    *,
    samples: int = 4,
    seed: int = 0,
) -> npt.NDArray[np.float64]:
    """Returns the latencies that callers of the busiest pod see: rows of seconds due, and ms, infinite where refused.

    `samples` such pods are simulated, each with arrivals of its own.
    """
    rows: list[tuple[float, float]] = []
    rate = timeline.hottest / images_per_request
    for sample in range(samples):
        random = np.random.default_rng([seed, sample])
        counts = random.poisson(rate)
        due = np.sort(np.repeat(np.arange(len(rate)), counts) + random.uniform(0, 1, int(counts.sum())))
        env = simpy.Environment()
        server = SimulatedServer(env, times, settings, Cores(env, times.cores), sample)
        which = random.integers(len(times.request_ms), size=len(due))
        env.process(_send(env, server, due, which, images_per_request, times.outside_ms / 1e3, rows))
        env.run()
    return np.array(rows, float).reshape(-1, 2)


def _send(
    env: simpy.Environment,
    server: SimulatedServer,
    due: npt.NDArray[np.float64],
    which: npt.NDArray[np.int64],
    images: int,
    outside_s: float,
    rows: list[tuple[float, float]],
) -> Generator[simpy.Event, None, None]:
    def answered(moment: float) -> Callable[[bool], None]:
        return lambda good: rows.append((moment, 1e3 * (env.now + outside_s - moment) if good else math.inf))

    for moment, request in zip(due.tolist(), which.tolist(), strict=True):
        yield env.timeout(max(0.0, moment - env.now))
        server.ask(request, images, answered(moment))
