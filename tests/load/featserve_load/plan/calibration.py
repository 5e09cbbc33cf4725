"""From what one caller timed to what work takes among other calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..errors import LoadError
from ..generator import Stage
from ..measurement import Measurement
from .fleet import Fleet
from .service_times import ServiceTimes

#: Of what callers without a pause reach: most calls meet others there, and few queue.
SHARE = 0.5
#: Every second call finds a server at work at half load: this is the median of those.
PERCENTILE = 75.0
#: Enough for that percentile of any server that answers in time.
_DURATION_S = 20.0
#: Simulations until both agree.
_STEPS = 6
#: Where calls queue, a call takes longer by more than its work does: a whole step would go too far.
_DAMPING = 0.6


def among_others(fleet: Fleet, run: Callable[[Stage], Measurement]) -> ServiceTimes:
    """Measures at half load, and returns what work takes among other calls.

    Args:
        fleet: with service times of one caller.
        run: measures a stage at the servers that `fleet` simulates.

    Raises:
        LoadError: nothing was answered.
    """
    stage, measured = half_load(run, fleet.servers)
    fleet = replace(fleet, clients=measured.processes)
    return fleet.times.loaded(under_load(fleet, stage, measured))


def half_load(run: Callable[[Stage], Measurement], servers: int) -> tuple[Stage, Measurement]:
    """Runs a stage at half of what 16 callers a server reach, and returns it with what was measured.

    Raises:
        LoadError: nothing was answered.
    """
    bound = run(Stage(callers=16 * servers, duration_s=5.0, warmup_s=2.0))
    if not len(bound.ok):
        raise LoadError(f"requests failed: {bound.errors or 'none was sent'}")
    rate = SHARE * bound.images_per_s / bound.images_per_request
    stage = Stage(rate=rate, duration_s=_DURATION_S, warmup_s=2.0)
    return stage, run(stage)


def under_load(fleet: Fleet, stage: Stage, measured: Measurement) -> float:
    """Returns how many times as long work takes among other calls: simulated and measured percentile are then the same.

    One caller finds a server without other work. Among others a call's threads wait for each other and for the caches,
    which those calls tell that meet others.

    Args:
        fleet: with service times of one caller.
        stage: that was measured, at about half load.
        measured: what came of it.

    Raises:
        LoadError: nothing was answered.
    """
    if not len(measured.ok):
        raise LoadError(f"requests failed: {measured.errors or 'none was sent'}")
    factor = 1.0
    for _ in range(_STEPS):
        simulated = replace(fleet, times=fleet.times.loaded(factor)).run(stage)
        factor *= (measured.percentile_ms(PERCENTILE) / simulated.percentile_ms(PERCENTILE)) ** _DAMPING
    return factor
