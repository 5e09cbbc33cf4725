"""How many servers, at what cost, and what the autoscaler makes of a step."""

import numpy as np
import pytest
from featserve_load.errors import LoadError
from featserve_load.plan import autoscaler, sizing
from featserve_load.plan.autoscaler import Autoscaler


@pytest.mark.parametrize(
    ("load", "zones", "expected"),
    [
        (1, 3, (1, 2, 2, 2, 3)),
        (100, 3, (1, 2, 2, 2, 3)),
        (101, 3, (2, 3, 3, 3, 4)),
        (390, 3, (4, 5, 6, 6, 7)),
        (390, 2, (4, 5, 8, 8, 9)),
        (390, 1, (4, 5, 4, 5, 6)),
        (2000, 3, (20, 21, 30, 30, 31)),
    ],
)
def test_servers_for_the_load_the_spare_and_a_zone(load, zones, expected):
    found = sizing.size(load, 100.0, zones)
    assert (found.load, found.spare, found.zone, found.replicas, found.room) == expected
    if zones > 1:
        assert found.zone - -(-found.zone // zones) >= found.load


def test_more_servers_than_may_be_are_an_error_with_a_remedy():
    with pytest.raises(LoadError, match=r"take 1,500 servers of 10\.0 images/s, more than 1,000; .*--most"):
        sizing.size(10_000, 10.0, 3)


def test_the_cost_is_that_of_all_replicas_by_what_they_answer():
    assert sizing.per_million(0.5, 4, 100.0) == pytest.approx(2.0 / 360_000 * 1e6)


def test_the_autoscaler_keeps_what_it_is_asked_to_keep():
    rules = Autoscaler(target=0.5, least=4, most=20, start_s=10)
    found = autoscaler.follow(lambda _: 200.0, 600, 0.01, 1, rules)
    assert set(found.wanted) == {4.0}
    assert found.utilization == pytest.approx(np.full(600, 0.5))


def test_a_step_is_met_in_looks_of_15_s_once_servers_have_started_and_callers_reconnected():
    rules = Autoscaler(target=0.5, least=4, most=40, start_s=20)
    found = autoscaler.follow(lambda now: 200.0 if now < 60 else 400.0, 600, 0.01, 1, rules)
    first = int(np.argmax(found.wanted > 4))
    assert 60 <= first <= 76
    assert not (found.ready[: first + 19] > 4).any()
    assert found.ready[-1] == pytest.approx(8, abs=1)
    # Each server had 50; with callers that know the old ones alone it is 100 for a while.
    assert found.hottest.max() == pytest.approx(100.0)
    assert found.hottest[-1] == pytest.approx(400 / found.ready[-1], rel=0.01)


def test_overload_shows_at_most_all_cores_so_that_a_large_step_takes_several_looks():
    rules = Autoscaler(target=0.7, least=4, most=100, start_s=0, reconnect_s=0)
    found = autoscaler.follow(lambda now: 250.0 if now < 30 else 2000.0, 300, 0.01, 1, rules)
    looks = np.unique(found.wanted)
    assert len(looks) > 3 and looks[1] == 6
    assert found.ready[-1] >= 28


def test_servers_go_one_at_a_time_after_the_window():
    rules = Autoscaler(target=0.5, least=2, most=20, start_s=5)
    found = autoscaler.follow(lambda now: 400.0 if now < 300 else 10.0, 1500, 0.01, 1, rules)
    peak = found.ready.max()
    assert found.wanted[590] == peak
    assert (np.diff(found.wanted[600:]) >= -1).all()
    assert found.wanted[-1] < peak
