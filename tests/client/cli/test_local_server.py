"""--export: a command with a server of its own."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest
from featserve_client import ConnectError
from featserve_client.cli.local_server import local_server
from featserve_client.cli.main import main

from ..fake_server import jpeg

SAVE = """
import sys
import tensorflow as tf

@tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
def encoded(image_bytes):
    rows = tf.map_fn(lambda data: tf.reduce_mean(tf.cast(tf.io.decode_jpeg(data, channels=3), tf.float32), [0, 1]),
                     image_bytes, fn_output_signature=tf.float32)
    return {"mean": tf.ensure_shape(rows, (None, 3))}

module = tf.Module()
module.encoded = encoded
for version in "12":
    tf.saved_model.save(module, sys.argv[1] + "/" + version, signatures={"encoded": encoded})
"""


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Version 1 of a model that has two."""
    pytest.importorskip("tensorflow")
    root = tmp_path_factory.mktemp("root") / "colours"
    subprocess.run([sys.executable, "-c", SAVE, str(root)], check=True, capture_output=True, timeout=300)
    return root / "1"


def test_an_export_is_asked_without_a_server(
    export: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(0))
    output = tmp_path / "out.npz"
    assert main(["extract", str(tmp_path / "a.jpg"), "--export", str(export), "--output", str(output)]) == 0
    assert np.load(output)["mean"].shape == (1, 3)
    assert "'version': 1" in str(np.load(output)["featserve"]).replace('"', "'")
    assert main(["status", "--export", str(export), "--server", "localhost:1"]) == 2
    assert "leave --server" in capsys.readouterr().err


def test_what_is_no_export(export: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--export", str(export.parent)]) == 2
    assert "expected an exported version, MODEL_ROOT/NAME/VERSION" in capsys.readouterr().err


def test_a_server_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho the reason >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(ConnectError, match="did not start: the reason"), local_server(tmp_path / "m" / "1"):
        pass
