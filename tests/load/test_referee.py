import json
import subprocess
import sys
from pathlib import Path

import pytest
from featserve_load.generator import Generator, Stage
from featserve_load.payload import Payload

REQUESTS = [bytes([number]) for number in range(16)]

# LoadGen keeps state of its own: one process a test.
SCRIPT = """
import json, sys
from pathlib import Path
from featserve_load import referee
found = referee.run(sys.argv[1], [bytes([n]) for n in range(16)], sys.argv[2], referee.SETTINGS, Path(sys.argv[3]),
                    rate=100, duration_s=4)
print(json.dumps([found.per_s, found.p50_ms, found.figures.get("Scheduled samples per second"), found.failed]))
"""


def loadgen(target, scenario, out):
    command = [sys.executable, "-c", SCRIPT, target, scenario, str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=Path(__file__).parent)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def near_one(pairs):
    return [abs(mine / theirs - 1) <= 0.05 for mine, theirs in pairs]


@pytest.mark.parametrize("scenario", ["SingleStream", "Server"])
def test_loadgen_and_the_generator_agree_within_5_percent(sleeping, tmp_path, scenario):
    server = sleeping(service_s=0.1, slots=16)
    payload = Payload(model="m", signature="s", input="encoded", images_per_request=1, requests=REQUESTS)
    latencies, rates = [], []
    with Generator([server.target], payload, processes=1) as generator:
        # They measure one after the other: on a busy machine a moment can be worse for one of them.
        for _ in range(3):
            rate, p50_ms, scheduled, failed = loadgen(server.target, scenario, tmp_path)
            assert failed == {}
            if scenario == "SingleStream":
                stage = Stage(callers=1, duration_s=4)
            else:
                stage = Stage(rate=scheduled, duration_s=4, arrivals="constant")
            measured = generator.run(stage)
            latencies.append((measured.percentile_ms(50), p50_ms))
            rates.append((measured.images_per_s, rate))
            if sum(near_one(latencies)) >= 2 and sum(near_one(rates)) >= 2:
                break  # the third cannot move the majority
    assert sum(near_one(latencies)) >= 2, latencies
    assert sum(near_one(rates)) >= 2, rates
    assert (tmp_path / scenario / "mlperf_log_detail.txt").exists()
    assert (tmp_path / scenario / "verdict.json").exists()
