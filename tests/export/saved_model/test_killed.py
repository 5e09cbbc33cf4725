"""An export that is killed while it writes leaves nothing that a server would load."""

import random
import re
import signal
import subprocess
import sys
import time

import keras
import pytest
from featserve_export.proof.golden import verify

from ..golden_file import load_golden

FILES = {
    "assets.extra/golden.npz",
    "assets.extra/manifest.json",
    "assets.extra/tf_serving_warmup_requests",
    "saved_model.pb",
}


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    images = keras.Input((16, 16, 3))
    path = tmp_path_factory.mktemp("own") / "own.keras"
    keras.Model(images, keras.layers.Conv2D(4, 3, name="features")(images)).save(path)
    return path


def start(network, root):
    command = [sys.executable, "-W", "ignore", "-m", "featserve_export", str(network)]
    return subprocess.Popen(
        [*command, "--preprocess", "none", "--model-root", str(root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until_it_writes(process):
    for line in process.stderr:
        if line.startswith("writing"):
            return
    pytest.fail(f"the export ended with {process.wait()}")


def versions(root):
    return sorted(int(path.name) for path in root.glob("own/*") if path.name.isdecimal())


def assert_whole(root, version):
    folder = root / "own" / str(version)
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} >= FILES
    verify(folder, load_golden(folder), "float32")


def test_a_killed_export_leaves_no_half_version_and_the_next_works(network, tmp_path):
    with start(network, tmp_path) as whole:
        wait_until_it_writes(whole)
        began = time.monotonic()
        whole.communicate()
        writing_s = time.monotonic() - began
    assert whole.returncode == 0
    chance, killed = random.Random(5), 0
    for share in (0.0, 0.3, 0.7):
        with start(network, tmp_path) as process:
            wait_until_it_writes(process)
            time.sleep((share + 0.2 * chance.random()) * writing_s)
            process.send_signal(signal.SIGKILL)
            process.communicate()
        killed += process.returncode == -signal.SIGKILL
    assert killed >= 1
    before = versions(tmp_path)

    # Two at once, neither of which chooses a version.
    both = [start(network, tmp_path) for _ in range(2)]
    outputs = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    written = sorted(int(re.search(r"own/(\d+)\s*$", stdout)[1]) for stdout, _ in outputs)
    assert written == [before[-1] + 1, before[-1] + 2]
    assert versions(tmp_path) == before + written
    for version in versions(tmp_path):
        assert_whole(tmp_path, version)
    assert {path.name for path in (tmp_path / "own").iterdir()} == set(map(str, before + written))
