"""The simulation beside queueing theory, and what it makes of batches, admission and balancing."""

import math

import numpy as np
import pytest
import simpy
from featserve_load.generator import Stage
from featserve_load.plan.fleet import Fleet
from featserve_load.plan.service_times import ServiceTimes
from featserve_load.plan.simulated_server import Cores, Settings

SERVICE_MS = 10.0
OPEN = {"running": 10**6, "waiting": 0}
LONG = {"duration_s": 400, "warmup_s": 20}


def times(cores=1, request_ms=(0.0,), batch_ms=None, parallel=1.0, outside_ms=0.0, alone_ms=(), variation=(1.0,)):
    return ServiceTimes(
        cores=cores,
        request_ms=tuple(request_ms),
        batch_ms=batch_ms or {1: SERVICE_MS},
        parallel=parallel,
        outside_ms=outside_ms,
        alone_ms=tuple(alone_ms) or (0.0,) * len(request_ms),
        variation=variation,
    )


def alone(threads=1, **kwargs):
    return Settings(threads=threads, largest=1, sizes=(1,), **{**OPEN, **kwargs})


def erlang_c(servers, offered):
    below = sum(offered**k / math.factorial(k) for k in range(servers))
    last = offered**servers / math.factorial(servers) * servers / (servers - offered)
    return last / (below + last)


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_constant_service_waits_as_an_m_d_1_queue(load):
    found = Fleet(times=times(), settings=alone()).run(Stage(rate=load / SERVICE_MS * 1e3, **LONG))
    service_s = SERVICE_MS / 1e3
    assert found.latencies_s.mean() == pytest.approx(service_s * (1 + load / (2 * (1 - load))), rel=0.05)
    assert found.server["utilization"] == pytest.approx(load, rel=0.03)


def test_service_that_varies_waits_as_an_m_g_1_queue():
    variation, load = (0.5, 0.5, 0.5, 2.5), 0.6
    found = Fleet(times=times(variation=variation), settings=alone()).run(Stage(rate=load / SERVICE_MS * 1e3, **LONG))
    squares = np.mean(np.square(variation))
    assert found.latencies_s.mean() == pytest.approx(
        SERVICE_MS / 1e3 * (1 + load * squares / (2 * (1 - load))), rel=0.07
    )


def test_exponential_service_waits_as_an_m_m_c_queue():
    random = np.random.default_rng(0)
    env = simpy.Environment()
    cores = Cores(env, 3)
    took = []

    def arrivals():
        for gap, work in zip(random.exponential(1.0, 60_000), random.exponential(2.4, 60_000), strict=True):
            yield env.timeout(gap)
            cores.submit(work, 1.0, lambda since=env.now: took.append(env.now - since))

    env.process(arrivals())
    env.run()
    assert np.mean(took) == pytest.approx(2.4 + erlang_c(3, 2.4) * 2.4 / (3 - 2.4), rel=0.05)


@pytest.mark.parametrize(("load", "spread"), [(0.5, 1.0), (0.8, 1.0), (0.8, 2.0)])
def test_jobs_share_cores_as_processors_are_shared(load, spread):
    """The mean of M/G/1-PS is that of M/M/1 whatever the work's distribution."""
    random = np.random.default_rng(0)
    env = simpy.Environment()
    cores = Cores(env, int(spread))
    took = []

    def arrivals():
        for gap in random.exponential(1.0 / load, 40_000):
            yield env.timeout(gap)
            cores.submit(spread, spread, lambda since=env.now: took.append(env.now - since))

    env.process(arrivals())
    env.run()
    assert np.mean(took) == pytest.approx(1.0 / (1.0 - load), rel=0.07)
    assert cores.busy_s == pytest.approx(spread * len(took), rel=1e-6)


def test_servers_of_one_machine_bear_together_what_one_of_them_bears():
    common = {"times": times(), "settings": alone()}
    stage = Stage(callers=16, **LONG)
    one = Fleet(**common).run(stage)
    both = Fleet(**common, servers=2, machines=1).run(stage)
    assert both.steady_images_per_s == pytest.approx(one.steady_images_per_s, rel=0.01)
    assert both.server["utilization"] == pytest.approx(1.0, rel=0.01)


def test_a_request_alone_meets_cold_caches():
    fleet = Fleet(times=times(request_ms=(2.0,), alone_ms=(3.0,)), settings=alone())
    light = fleet.run(Stage(rate=1.0, **LONG))
    assert light.percentile_ms(50) == pytest.approx(SERVICE_MS + 5.0)
    full = fleet.run(Stage(callers=4, **LONG))
    assert full.steady_images_per_s == pytest.approx(1e3 / (SERVICE_MS + 2.0), rel=0.02)


def test_two_servers_in_turn_do_better_than_pinned_clients():
    common = {"times": times(), "settings": alone(), "servers": 4, "clients": 8}
    stage = Stage(rate=0.6 * 4 / SERVICE_MS * 1e3, duration_s=60)
    turns = Fleet(**common, balancing="round_robin").run(stage).percentile_ms(99)
    pinned = Fleet(**common, balancing="pinned").run(stage).percentile_ms(99)
    assert turns < pinned


def test_a_sample_of_servers_shows_what_all_of_them_do():
    common = {"times": times(), "settings": alone(), "servers": 8, "clients": 50, "balancing": "round_robin"}
    stage = Stage(rate=0.7 * 8 / SERVICE_MS * 1e3, duration_s=60)
    everyone, some = Fleet(**common).run(stage), Fleet(**common, sampled=2).run(stage)
    assert len(some.samples) == pytest.approx(len(everyone.samples) / 4, rel=0.05)
    assert some.percentile_ms(99) == pytest.approx(everyone.percentile_ms(99), rel=0.1)


def test_batches_are_filled_under_load_padded_and_take_whoever_waits():
    batch_ms = {1: 10.0, 4: 22.0}
    settings = Settings(threads=1, largest=4, sizes=(1, 4), **OPEN)
    fleet = Fleet(times=times(batch_ms=batch_ms), settings=settings)
    full = fleet.run(Stage(callers=16, duration_s=60))
    assert full.steady_images_per_s == pytest.approx(4 / 0.022, rel=0.02)
    calm = fleet.run(Stage(rate=1.0, duration_s=60))
    assert calm.percentile_ms(50) == pytest.approx(10.0)
    assert set(calm.server["batches"]) <= {"1", "4"}


def test_an_incomplete_batch_waits_for_company():
    settings = Settings(threads=1, largest=4, sizes=(4,), timeout_s=0.05, **OPEN)
    found = Fleet(times=times(batch_ms={4: 10.0}), settings=settings).run(Stage(callers=1, duration_s=10))
    assert found.percentile_ms(50) == pytest.approx(60.0, abs=0.01)


def test_a_request_of_many_images_is_split_and_answered_when_the_last_is_done():
    settings = Settings(threads=1, largest=4, sizes=(1, 2, 4), **OPEN)
    fleet = Fleet(times=times(batch_ms={1: 1.0, 2: 2.0, 4: 4.0}), settings=settings, images_per_request=10)
    assert fleet.run(Stage(callers=1, duration_s=5)).percentile_ms(50) == pytest.approx(10.0)


def test_whom_a_server_has_no_place_for_is_refused():
    settings = alone(running=2, waiting=1)
    found = Fleet(times=times(), settings=settings).run(Stage(rate=300, duration_s=30))
    assert found.errors == {"RESOURCE_EXHAUSTED": pytest.approx(0.67 * len(found.samples), rel=0.1)}
    assert found.percentile_ms(100) <= 30.0 + 1e-6


def test_one_batch_on_several_cores_is_faster_alone_and_shares_with_others():
    settings = Settings(threads=2, largest=1, sizes=(1,), **OPEN)
    fleet = Fleet(times=times(2, batch_ms={1: 20.0}, parallel=2.0), settings=settings)
    assert fleet.run(Stage(callers=1, duration_s=5)).percentile_ms(50) == pytest.approx(10.0)
    assert fleet.run(Stage(callers=2, duration_s=5)).percentile_ms(50) == pytest.approx(20.0)


def test_the_same_seed_gives_the_same_answer():
    fleet = Fleet(times=times(), settings=alone(), servers=3, clients=4, balancing="round_robin")
    first, again, other = (fleet.run(Stage(rate=200, duration_s=5, seed=seed)) for seed in (1, 1, 2))
    assert np.array_equal(first.samples, again.samples)
    assert not np.array_equal(first.samples, other.samples)
