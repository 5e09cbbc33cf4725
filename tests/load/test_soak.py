import os
from pathlib import Path

import pytest
from featserve_load import soak


@pytest.fixture(scope="module")
def small_model(tmp_path_factory):
    from featserve_export import ExportOptions, export_backbone

    root = tmp_path_factory.mktemp("soak")
    export_backbone(
        ExportOptions(
            "mobilenet", alpha=0.25, image_size=(64, 64), weights="random", model_name="small", model_root=root
        )
    )
    return Path(root) / "small"


def test_swaps_bad_images_and_a_killed_client_harm_no_good_request(small_model):
    before = len(os.listdir("/proc/self/fd"))
    outcome = soak.soak(small_model, "small", 18, swap_s=5, clients=2)
    assert outcome.problems == []
    assert outcome.swaps >= 1 and outcome.kills >= 1
    assert outcome.bad.get("INVALID_ARGUMENT", 0) > 0
    assert len(os.listdir("/proc/self/fd")) < before + 10


def test_a_failed_good_image_and_a_growing_server_are_problems():
    outcome = soak.Outcome(good={"OK": 5, "UNAVAILABLE": 1}, bad={"INTERNAL": 1})
    outcome.threads, outcome.fds, outcome.rss_mib_per_minute = [10.0] * 9, [5.0] * 6 + [50.0] * 3, 30.0
    soak._judge(outcome)
    assert len(outcome.problems) == 4


def test_memory_grows_only_if_it_does_between_swaps():
    times = range(600)

    def sawtooth(leak_per_swap):
        # Two versions are loaded for half of each swap's 20 seconds.
        return [1000 + 400 * (now % 20 < 10) + leak_per_swap * (now // 20) + 200 * min(now / 100, 1) for now in times]

    assert abs(soak.growth(times, sawtooth(0), 20)) < 0.1
    assert soak.growth(times, sawtooth(14), 20) == pytest.approx(42)  # a small version, three times a minute
    assert soak.growth(times[:60], sawtooth(14)[:60], 20) is None
