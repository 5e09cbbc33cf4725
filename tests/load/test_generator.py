import itertools
import threading
import time

import numpy as np
import pytest
from featserve_load import capacity, compare, photos, rate, schedule, server
from featserve_load.errors import LoadError
from featserve_load.generator import Generator, Interrupted, Stage
from featserve_load.measurement import Measurement
from featserve_load.payload import Payload
from featserve_load.worker import SAMPLE


def payload(*requests):
    return Payload(model="m", signature="s", input="encoded", images_per_request=1, requests=list(requests))


def test_poisson_arrivals_are_as_irregular_as_independent_callers():
    gaps = np.diff(schedule.due("poisson", 100, 100, seed=1))
    assert gaps.mean() == pytest.approx(0.01, rel=0.05)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)
    assert np.allclose(np.diff(schedule.due("constant", 100, 2, seed=0)), 0.01)
    for window_s in (0.05, 0.5, 2.0):
        counts = np.histogram(schedule.due("poisson", 100, 2000, seed=2), np.arange(0, 2000, window_s))[0]
        assert counts.var() / counts.mean() == pytest.approx(1, abs=0.15)


def test_percentiles_are_those_of_the_samples_and_the_histogram_agrees():
    samples = np.zeros(20_000, SAMPLE)
    samples["done"] = np.random.default_rng(0).lognormal(np.log(0.05), 0.7, 20_000)
    measured = Measurement(
        mode="poisson",
        load=1,
        images_per_request=1,
        duration_s=1,
        samples=samples,
        answered=samples["done"],
        client_cpu_s=0,
        processes=1,
    )
    for percentile in (50, 90, 99, 99.9):
        exact = np.percentile(samples["done"], percentile) * 1e3
        assert measured.percentile_ms(percentile) == pytest.approx(exact)
        assert measured.histogram().get_value_at_percentile(percentile) / 1e3 == pytest.approx(exact, rel=2e-3)


def test_a_stall_shows_in_the_latency_of_everything_that_was_due_meanwhile(sleeping):
    server = sleeping(service_s=0.001)
    with Generator([server.target], payload(b"x"), processes=2) as generator:
        generator.run(Stage(callers=1, duration_s=0.2))
        threading.Timer(1.0, server.stalled.set).start()
        threading.Timer(2.0, server.stalled.clear).start()
        measured = generator.run(Stage(rate=50, arrivals="constant", duration_s=2.5, warmup_s=0.5))
    assert measured.errors == {}
    assert len(measured.samples) == 125
    # Of 2.5 s, 1 s was stalled: counted from when they were sent, only the few in flight would be slow.
    assert measured.percentile_ms(99) > 800
    assert np.mean(measured.latencies_s > 0.1) > 0.25


def test_errors_are_counted_by_code_and_left_out_of_latency_and_throughput(sleeping):
    server = sleeping(service_s=0.01)
    with Generator([server.target], payload(b"good", b"good", b"good", b"GARBAGE"), processes=1) as generator:
        measured = generator.run(Stage(rate=80, arrivals="constant", duration_s=1))
    assert measured.errors == {"INVALID_ARGUMENT": 20}
    assert len(measured.ok) == 60
    assert measured.histogram().get_total_count() == 60
    assert sum(part["errors"] for part in measured.over_time()) == 20


def test_throughput_counts_answers_to_what_was_sent_before(sleeping):
    before, within, after = 99.5, 100.5, 101.5
    samples = np.zeros(3, SAMPLE)
    samples["due"] = samples["sent"] = before, before, within
    samples["done"] = before, within, after
    with Generator([sleeping().target], payload(b"x"), processes=1) as generator:
        measured = generator._measured(Stage(callers=1, duration_s=1), [samples], 100.0, 1.0, 0.0, {})
    assert measured.images_per_s == 1
    assert measured.latencies_s.tolist() == [1.0]


def test_answers_in_batches_are_counted_to_less_than_a_batch():
    # Two threads answer 8 at a time each 2 seconds: 8 a second. A window's edges cut batches off.
    bursts = np.concatenate([np.arange(0, 100, 2.0), np.arange(0.7, 100, 2.0)])
    answers = np.sort(np.concatenate([bursts + late for late in np.linspace(0, 0.01, 8)]))
    for begin in np.arange(10, 12, 0.1):
        inside = answers[(answers >= begin) & (answers < begin + 16)]
        assert rate.steady(inside) == pytest.approx(8, rel=0.02)
    assert np.isnan(rate.steady([1.0]))


def test_what_a_stage_had_measured_survives_an_interruption(sleeping):
    asked = itertools.count()

    def observe():
        if next(asked):
            raise KeyboardInterrupt
        return {}

    with Generator([sleeping(service_s=0.01).target], payload(b"x"), processes=1) as generator:
        with pytest.raises(Interrupted) as caught:
            generator.run(Stage(rate=50, arrivals="constant", duration_s=1.5), observe)
    measured = caught.value.measured
    assert measured.duration_s == pytest.approx(1.5)
    assert 0 < len(measured.ok) <= 75


EXECUTED = """
featserve_executed_batch_size_bucket{le="1.0",model="m",version="1"} 3.0
featserve_executed_batch_size_bucket{le="2.0",model="m",version="1"} 7.0
featserve_executed_batch_size_bucket{le="+Inf",model="m",version="1"} 7.0
featserve_executed_batch_size_bucket{le="1.0",model="m",version="2"} 10.0
featserve_executed_batch_size_bucket{le="1.0",model="other",version="1"} 100.0
"""
PROCESSED = """
:tensorflow:serving:batching:processed_batch_size_v2{model_name="m",op_name="m/1/encoded",batch_size="1"} 13
:tensorflow:serving:batching:processed_batch_size_v2{model_name="m",op_name="m/1/encoded",batch_size="2"} 4
:tensorflow:serving:batching:processed_batch_size_v2{model_name="other",op_name="o",batch_size="2"} 100
"""


@pytest.mark.parametrize("page", [EXECUTED, PROCESSED])
def test_batch_sizes_are_read_from_either_servers_metrics(page):
    found = {size: count for size, count in server.executed(page, "m").items() if count}
    assert found == {"1": 13, "2": 4}


def test_no_server_is_an_error_of_every_request(sleeping):
    server = sleeping()
    server.close()
    with Generator([server.target], payload(b"x"), processes=1) as generator:
        measured = generator.run(Stage(rate=20, arrivals="constant", duration_s=0.5, warmup_s=0))
    assert set(measured.errors) == {"UNAVAILABLE"}
    assert measured.images_per_s == 0


def test_a_rate_that_the_generator_cannot_send_is_said_to_be_its_own_limit(sleeping):
    server = sleeping(service_s=0)
    with Generator([server.target], payload(b"x"), processes=1) as generator:
        measured = generator.run(Stage(rate=30_000, arrivals="constant", duration_s=0.5, warmup_s=0, timeout_s=2))
    assert measured.limits()


def test_a_schedule_far_behind_is_given_up_and_said_to_be_unsent(sleeping):
    server = sleeping(service_s=0)
    with Generator([server.target], payload(b"x"), processes=1) as generator:
        measured = generator.run(Stage(rate=1_000_000, arrivals="constant", duration_s=0.2, warmup_s=0, timeout_s=2))
    assert len(measured.samples) == 200_000
    assert measured.errors["NOT_SENT"] > 100_000
    assert any("could not send" in limit for limit in measured.limits())


def queue(limit, *, fast_s=0.01, slow_s=1.0, late=False):
    """Returns a stage's runner: answers are fast up to `limit` requests a second, and slow above."""

    def run(stage):
        rate = limit if stage.rate is None else stage.rate
        samples = np.zeros(max(1, round(rate * stage.duration_s)), SAMPLE)
        samples["due"] = np.arange(len(samples)) / rate
        samples["sent"] = samples["due"] + (0.5 if late and rate > limit else 0)
        samples["done"] = samples["due"] + (fast_s if rate <= limit else slow_s)
        if limit == 0:
            samples = samples[:0]
        return Measurement(
            mode=stage.mode,
            load=stage.load,
            images_per_request=1,
            duration_s=stage.duration_s,
            samples=samples,
            answered=samples["done"][samples["done"] < stage.duration_s],
            client_cpu_s=0.0,
            processes=1,
        )

    return run


def test_capacity_is_the_rate_at_which_the_queue_begins():
    found = capacity.search(queue(80), budget_ms=150, repeats=3)
    assert found.images_per_s == pytest.approx(80, rel=capacity.RESOLUTION)
    assert not found.client_limited
    assert any(held for *_, held in found.tried) and not all(held for *_, held in found.tried)


def test_a_capacity_that_the_client_set_is_said_to_be_its_own():
    assert capacity.search(queue(80, late=True), budget_ms=150, repeats=1).client_limited


def test_no_rate_within_the_budget_is_a_capacity_of_nothing():
    found = capacity.search(queue(80), budget_ms=5, repeats=1)
    assert found.images_per_s == 0
    assert len(found.tried) < 10


def test_a_search_ends_where_the_best_so_far_does_not_hold():
    found = capacity.search(queue(80), budget_ms=150, repeats=1, worth=120)
    assert found.images_per_s == 0
    assert len(found.tried) == 2
    better = capacity.search(queue(80), budget_ms=150, repeats=1, worth=60)
    assert better.images_per_s == pytest.approx(80, rel=capacity.RESOLUTION)


def test_a_stage_without_an_answer_does_not_keep_the_budget():
    answers = iter([queue(80)])
    found = capacity.search(lambda stage: next(answers, queue(0))(stage), budget_ms=150, repeats=1)
    assert found.images_per_s == 0


def test_a_search_whose_every_rate_holds_ends():
    with pytest.raises(LoadError, match="longer duration"):
        capacity.search(queue(80, slow_s=0.01), budget_ms=150, repeats=1)


def test_the_client_processes_end_with_the_generator(sleeping):
    with Generator([sleeping().target], payload(b"x"), processes=2) as generator:
        processes = list(generator._processes)
    time.sleep(0.01)
    assert not any(process.is_alive() for process in processes)


def stage(*rates):
    template = {"mode": "closed", "load": 1, "errors": {}, "limits": [], "server": {}, "client_cores": 0, "requests": 9}
    times = {"p50_ms": 1.0, "p90_ms": 1.0, "p99_ms": 1.0, "p99.9_ms": 1.0}
    return {"stages": {"1 callers": [{**template, **times, "images_per_s": rate} for rate in rates]}}


def test_a_change_counts_when_no_round_reaches_into_the_others_range():
    [apart, *_] = compare.compare(stage(10, 11, 12, 11), stage(13, 14, 15, 14))
    assert apart["outside_noise"] and apart["better"]
    assert apart["chance"] == pytest.approx(2 / 70)
    [same, *_] = compare.compare(stage(10, 11, 14, 11), stage(13, 14, 15, 14))
    assert not same["outside_noise"]


def test_photos_come_in_several_sizes_and_an_empty_directory_is_refused(tmp_path):
    assert len({len(data) for data in photos.files()}) > 10
    with pytest.raises(LoadError, match="no photos in"):
        photos.files(tmp_path)
