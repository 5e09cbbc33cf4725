"""What work takes among other calls, found again in what was measured."""

import dataclasses

import numpy as np
import pytest
from featserve_load.errors import LoadError
from featserve_load.generator import Stage
from featserve_load.measurement import Measurement
from featserve_load.plan import calibration
from featserve_load.plan.fleet import Fleet
from featserve_load.plan.service_times import ServiceTimes
from featserve_load.plan.simulated_server import Settings

TIMES = ServiceTimes(
    cores=2,
    request_ms=(3.0, 5.0),
    batch_ms={1: 10.0, 2: 18.0, 4: 30.0},
    parallel=1.5,
    outside_ms=0.5,
    alone_ms=(1.0, 1.0),
    variation=(0.9, 1.0, 1.2),
)
FLEET = Fleet(times=TIMES, settings=Settings(threads=2, largest=4, sizes=(1, 2, 4)))


def test_all_but_the_largest_batch_is_slowed():
    found = TIMES.loaded(1.2)
    assert found.batch_ms == pytest.approx({1: 12.0, 2: 21.6, 4: 30.0})
    assert found.request_ms == pytest.approx((3.6, 6.0))
    assert found.alone_ms == pytest.approx((1.2, 1.2))
    assert found.outside_ms == TIMES.outside_ms


@pytest.mark.parametrize(("servers", "factor"), [(1, 0.9), (1, 1.0), (1, 1.15), (3, 1.15)])
def test_the_factor_of_servers_is_found_at_half_load(servers, factor):
    fleet = dataclasses.replace(FLEET, servers=servers)
    slower = dataclasses.replace(fleet, times=TIMES.loaded(factor))
    stage, measured = calibration.half_load(slower.run, servers)
    bound = slower.run(Stage(callers=16 * servers, duration_s=5.0, warmup_s=2.0)).images_per_s
    assert stage.rate == pytest.approx(bound / 2)
    assert calibration.under_load(fleet, stage, measured) == pytest.approx(factor, rel=0.03)
    assert calibration.among_others(fleet, slower.run).request_ms == pytest.approx(
        (3.0 * factor, 5.0 * factor), rel=0.03
    )


def test_a_stage_without_an_answer_tells_nothing():
    def nothing(stage: Stage) -> Measurement:
        found = FLEET.run(stage)
        return dataclasses.replace(found, samples=found.samples[:0], answered=np.empty(0))

    with pytest.raises(LoadError, match="requests failed"):
        calibration.half_load(nothing, servers=1)
    with pytest.raises(LoadError, match="requests failed"):
        calibration.under_load(FLEET, stage := Stage(rate=1.0, duration_s=1.0), nothing(stage))
