"""The report of every kind of result, and what it says of two."""

import numpy as np
import pytest
from featserve_load import loadtest, report
from featserve_load.compare import compare, setup_changes, summarize
from featserve_load.measurement import Measurement
from featserve_load.worker import SAMPLE

BATCHES = {"batches": {"1": 3.0, "8": 5.0}, "cores": 1.5, "rss_mib": 900.0}


def measured(rate, took_s, *, mode="poisson", failed=0, server=None, seed=0):
    samples = np.zeros(100, SAMPLE)
    samples["due"] = samples["sent"] = np.arange(100) / 50
    samples["done"] = samples["due"] + np.random.default_rng(seed).lognormal(np.log(took_s), 0.3, 100)
    samples["code"][:failed] = 8
    return Measurement(
        mode=mode,
        load=rate,
        images_per_request=1,
        duration_s=2.0,
        samples=samples,
        answered=np.sort(samples["done"][samples["done"] < 2]),
        client_cpu_s=0.1,
        processes=2,
        server=server or {},
    )


def result(took_s=0.05, **kwargs):
    stages = {}
    for turn in range(4):
        for name, rate, mode in (("50/s poisson", 50.0, "poisson"), ("4 callers", 4.0, "closed")):
            row = measured(rate, took_s, mode=mode, seed=turn, **kwargs).as_dict()
            stages.setdefault(name, []).append({**row, "round": turn})
    return {
        "time": "2026-01-01 00:00:00",
        "target": "127.0.0.1:8500",
        "model": "m<1>",
        "version": 1,
        "precision": "float32",
        "batching": {"max_batch_size": 8, "allowed_batch_sizes": [1, 8]},
        "machine": {"cpu": "a CPU", "cores": 2},
        "input": "encoded",
        "signature": "encoded",
        "request_bytes": 1000,
        "images_per_request": 1,
        "processes": 2,
        "single_ms": 20.0,
        "budget_ms": 100.0,
        "complete": True,
        "stages": stages,
        "summary": summarize(stages),
    }


@pytest.mark.parametrize("kwargs", [{}, {"server": BATCHES}, {"failed": 1}, {"failed": 100}])
def test_a_page_stands_alone_whatever_was_measured(tmp_path, kwargs):
    page, picture = report.write(tmp_path / "loadtest", result(**kwargs), None, None)
    text = page.read_text()
    assert text.count("<svg") == 7
    assert " src=" not in text and "<link" not in text and "@import" not in text
    assert "m&lt;1&gt;" in text and "m<1>" not in text
    assert picture.stat().st_size > 10_000


def test_an_interrupted_run_without_a_figure_has_a_report(tmp_path):
    nothing = {**result(), "stages": {}, "summary": {}, "complete": False}
    del nothing["budget_ms"], nothing["single_ms"]
    page, _ = report.write(tmp_path / "loadtest", nothing, None, None)
    assert "Interrupted before anything was measured" in page.read_text()


def test_two_results_side_by_side_say_what_changed_and_what_is_noise(tmp_path):
    old, new = result(0.05), {**result(0.1), "precision": "bfloat16"}
    comparison = compare(old, new)
    text = report.write(tmp_path / "loadtest", new, old, comparison)[0].read_text()
    assert setup_changes(old, new) == [("precision", "float32", "bfloat16")]
    assert "precision: float32 → bfloat16" in text
    slower = [row for row in comparison if row["metric"] == "p50_ms"]
    assert all(row["outside_noise"] and not row["better"] and 1.9 < row["ratio"] < 2.1 for row in slower)
    assert "class=bad" in text and "class=same" in text


def test_a_comparison_measures_the_loads_of_then():
    closed, opened = sorted(loadtest._stages_of(result()), key=lambda stage: stage.mode)
    assert (closed.callers, closed.duration_s, opened.rate, opened.arrivals) == (4, 2.0, 50.0, "poisson")
