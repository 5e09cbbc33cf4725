import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from featserve_load import referee
from featserve_load.measurement import Measurement
from featserve_load.worker import SAMPLE

SERVICE_S = 0.02

# LoadGen keeps state of its own: one process a test.
SCRIPT = """
import json, sys
from pathlib import Path
from featserve_load import referee
found = referee.run(sys.argv[1], [bytes([n]) for n in range(16)], sys.argv[2], Path(sys.argv[4]), Path(sys.argv[3]),
                    rate=40, duration_s=1)
print(json.dumps([found.per_s, found.p50_ms, found.failed]))
"""


# Whether the figures agree with the generator's is measured, and judged, by `make referee`.
@pytest.mark.parametrize("scenario", ["SingleStream", "Server"])
def test_a_scenario_is_run_and_its_logs_are_kept(sleeping, tmp_path, scenario):
    server = sleeping(service_s=SERVICE_S, slots=16)
    settings = tmp_path / "loadgen.conf"
    settings.write_text("*.*.min_query_count = 16\n")
    command = [sys.executable, "-c", SCRIPT, server.target, scenario, str(tmp_path), str(settings)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=Path(__file__).parent)
    assert done.returncode == 0, done.stderr
    per_s, p50_ms, failed = json.loads(done.stdout.splitlines()[-1])
    assert failed == {} and server.answered >= 16
    assert per_s > 0 and p50_ms >= SERVICE_S * 1e3
    assert (tmp_path / scenario / "mlperf_log_detail.txt").exists()
    verdict = json.loads((tmp_path / scenario / "verdict.json").read_text())
    assert (verdict["scenario"], verdict["failed"]) == (scenario, {})


def test_a_generator_that_is_10_percent_slower_is_told_apart(tmp_path):
    samples = np.zeros(16, SAMPLE)
    samples["done"] = 0.275
    measured = Measurement(
        mode="closed",
        load=1,
        images_per_request=1,
        duration_s=1,
        samples=samples,
        answered=samples["done"],
        client_cpu_s=0,
        processes=1,
    )
    figures = {"50.00 percentile latency (ns)": 250e6}
    found = referee.Verdict(scenario="SingleStream", valid=True, failed={}, reasons=[], figures=figures, log=tmp_path)
    ratio, _ = referee.agreement("SingleStream", [measured], found)
    assert ratio == pytest.approx(1.1)
    assert referee.settled([ratio, ratio]) is False


def test_the_settings_file_outranks_what_is_measured(tmp_path):
    settings = tmp_path / "loadgen.conf"
    settings.write_text("# *.Server.target_latency = 100\n*.Server.target_qps = 20\n")
    assert referee._sets(settings, "Server.target_qps")
    assert not referee._sets(settings, "Server.target_latency")
    assert not referee._sets(referee.SETTINGS, "Server.target_qps")


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        ([], None),
        ([1.04], True),
        ([1.2], None),
        ([1.2, 1.2], False),
        ([1.2, 1.0], None),
        ([1.2, 1.0, 0.97], True),
        ([1.2, 1.0, 0.9], False),
    ],
)
def test_one_bad_moment_is_no_disagreement_and_two_are(ratios, verdict):
    assert referee.settled(ratios) is verdict
