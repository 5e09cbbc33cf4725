"""From what one server bears to how many are needed, and what they cost."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from .. import capacity
from ..errors import LoadError
from .capacity_report import CapacityReport
from .fleet import Fleet

#: Seconds of simulated arrivals for each rate tried: enough for a 99th percentile of any server that answers in time.
DURATION_S = 120.0
MAX_SERVERS = 1000


@dataclass(frozen=True, kw_only=True)
class Sizing:
    """Servers.

    Attributes:
        load: that carry the load, all of them at their limit.
        spare: with one to spare, which may fail or drain.
        zone: that leave `load` when a zone is lost.
        replicas: to run: the larger of both.
        room: that the cluster needs room for while a version rolls out: one more (maxSurge).
    """

    load: int
    spare: int
    zone: int
    replicas: int
    room: int


def fleet_of(report: CapacityReport, **changes: object) -> Fleet:
    """Returns one server of a report, simulated, or as many and as balanced as `changes` say."""
    fields: dict[str, object] = {
        "times": report.times,
        "settings": report.settings,
        "images_per_request": report.images_per_request,
        **changes,
    }
    return Fleet(**fields)  # type: ignore[arg-type]


def calibrated(report: CapacityReport) -> tuple[CapacityReport, float]:
    """Returns a report whose simulation bears no more than the server did, and the measured share of the simulated.

    A server that bore more than is simulated changes nothing. One that bore less did more work than was timed:
    slowed by the inverse of the share, it would bear too little, since its answers take longer, too.
    """
    simulated = bears(report, report.budget_ms)
    share = report.images_per_s / simulated if simulated else 1.0
    found, low, high = report, 1.0, 1.0 / share
    while high - low > 0.02 * low:
        factor = (low + high) / 2
        slower = replace(report, times=report.times.slowed(factor))
        if bears(slower, report.budget_ms) < report.images_per_s:
            high = factor
        else:
            found, low = slower, factor
    return found, share


def bears(report: CapacityReport, budget_ms: float) -> float:
    """Returns the images per second that one server of a report, simulated, bears within a budget of p99."""
    found = capacity.search(
        fleet_of(report).run, budget_ms, report.images_per_request, duration_s=DURATION_S, repeats=1, quiet=True
    )
    return found.images_per_s


def check_budget(report: CapacityReport, slo_ms: float) -> None:
    """Refuses a budget of p99 that no request keeps.

    Raises:
        LoadError: the budget is below one request's latency.
    """
    slowest = report.times.outside_ms + max(report.times.alone_request_ms) + _alone_ms(report)
    if slo_ms < max(report.single_ms, slowest):
        raise LoadError(
            f"the budget of {slo_ms:g} ms cannot be met: one request alone takes {report.single_ms:.1f} ms (median), "
            f"the slowest of the payload {slowest:.1f} ms; give a larger SLO_MS, or a faster model "
            "(`make export PRECISION=auto`, a smaller backbone) and measure it"
        )


def per_server(report: CapacityReport, slo_ms: float) -> float:
    """Returns the images per second that one server bears within a budget of p99.

    Raises:
        LoadError: no rate keeps the budget.
    """
    found = bears(report, slo_ms)
    if not found:
        raise LoadError(
            f"no rate keeps a p99 of {slo_ms:g} ms: one request alone takes {report.single_ms:.1f} ms, and the least "
            "queue takes the rest; give a larger SLO_MS, or a faster model"
        )
    return found


def size(images_per_s: float, each: float, zones: int, most: int = MAX_SERVERS) -> Sizing:
    """Returns the servers for a load.

    Args:
        images_per_s: the load.
        each: images per second of a server within the budget.
        zones: that the servers are spread over evenly; with 1 no zone can be lost.
        most: servers.

    Raises:
        LoadError: it takes more than `most`.

    Example:
        >>> size(390.0, 100.0, 3)
        Sizing(load=4, spare=5, zone=6, replicas=6, room=7)
    """
    load = math.ceil(images_per_s / each - 1e-9)
    zone = load
    while zones > 1 and zone - math.ceil(zone / zones) < load:
        zone += 1
    replicas = max(load + 1, zone)
    if replicas > most:
        raise LoadError(
            f"{images_per_s:g} images/s take {replicas:,} servers of {each:.1f} images/s, more than {most:,}; give "
            "servers of more cores or a faster model, or raise --most"
        )
    return Sizing(load=load, spare=load + 1, zone=zone, replicas=replicas, room=replicas + 1)


def per_million(price: float, replicas: int, images_per_s: float) -> float:
    """Returns the cost of a million images, at `price` per replica and hour, at a steady load.

    Example:
        >>> round(per_million(0.10, 6, 390.0), 4)
        0.4274
    """
    return price * replicas / (images_per_s * 3600) * 1e6


def _alone_ms(report: CapacityReport) -> float:
    times = report.times
    size = next((each for each in report.settings.sizes if each >= report.images_per_request), max(times.batch_ms))
    return times.batch_ms[size] / times.parallel
