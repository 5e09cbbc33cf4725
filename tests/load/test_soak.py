import os
from pathlib import Path

import pytest
from featserve_load import soak


@pytest.fixture(scope="module")
def small_model(tmp_path_factory):
    from featserve_export import export_backbone

    root = tmp_path_factory.mktemp("soak")
    export_backbone("mobilenet", alpha=0.25, image_size=(64, 64), weights="random", model_name="small", model_root=root)
    return Path(root) / "small"


def test_swaps_bad_images_and_a_killed_client_harm_no_good_request(small_model):
    before = len(os.listdir("/proc/self/fd"))
    outcome = soak.soak(small_model, "small", 18, swap_s=5, clients=2)
    assert outcome.problems == []
    assert outcome.swaps >= 3 and outcome.kills >= 1
    assert outcome.bad.get("INVALID_ARGUMENT", 0) > 0
    assert len(os.listdir("/proc/self/fd")) < before + 10


def test_a_failed_good_image_and_a_growing_server_are_problems():
    outcome = soak.Outcome(good={"OK": 5, "UNAVAILABLE": 1}, bad={"INTERNAL": 1})
    outcome.threads, outcome.fds, outcome.rss_mib_per_minute = [10.0] * 9, [5.0] * 6 + [50.0] * 3, 30.0
    soak._judge(outcome)
    assert len(outcome.problems) == 4
