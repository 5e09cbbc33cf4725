"""A client, and a command, with a server of its own."""

import asyncio
import pathlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
from featserve_client import (
    AsyncFeatureClient,
    ConfigError,
    ConnectError,
    FeatureClient,
    MissingExtraError,
)
from featserve_client.cli.main import main
from featserve_client.local_server import LocalServer

from ..waiting import eventually
from .fake_server import jpeg

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
    with pytest.raises(ConnectError, match="did not start: the reason"):
        LocalServer(tmp_path / "m" / "1")


def test_a_client_of_its_own_server(export: pathlib.Path) -> None:
    with FeatureClient.local(export, timeout_s=30) as client:
        assert client.extract([jpeg(0), jpeg(1)])["mean"].shape == (2, 3)
        assert client.model == "colours" and [each.version for each in client.status()] == [1]
        assert "FeatureClient" in repr(pickle.loads(pickle.dumps(client)))
        assert client.pinned(1).extract(jpeg(0))["mean"].shape == (1, 3)
        address = client.target
    with pytest.raises(ConnectError), FeatureClient(address, timeout_s=5) as late:
        late.status()


def test_an_async_client_of_its_own_server(export: pathlib.Path) -> None:
    async def extract() -> tuple[int, ...]:
        async with await AsyncFeatureClient.local(str(export)) as client:
            return (await client.extract(jpeg(0)))["mean"].shape

    assert asyncio.run(extract()) == (1, 3)


def test_the_server_ends_with_a_process_that_is_killed(export: pathlib.Path) -> None:
    script = (
        "import sys, time; from featserve_client import FeatureClient; client = FeatureClient.local(sys.argv[1]); "
        "print(client._server._finalizer.peek()[2][0].pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(export)], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout
        server = pathlib.Path("/proc") / owner.stdout.readline().strip()
        assert "featserve_serving" in (server / "cmdline").read_text()
        owner.kill()
    eventually(lambda: not server.exists() or "Z" in (server / "stat").read_text().rpartition(")")[2].split()[0])


def test_options_that_contradict_a_server_of_ones_own(export: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="target= is for a server that is there"):
        FeatureClient.local(export, target="localhost:1")
    with pytest.raises(ConfigError, match="expected an exported version, MODEL_ROOT/NAME/VERSION"):
        FeatureClient.local(export.parent)
    monkeypatch.setenv("FEATSERVE_CA", "ca.pem")
    with pytest.raises(ConfigError, match=r"leave \$FEATSERVE_CA"):
        FeatureClient.local(export)


def test_without_the_server_installed_the_extra_is_named(export: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'featserve\[serving\]'"):
        FeatureClient.local(export)


def test_a_status_of_what_is_not_there(export: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FeatureClient.local(export) as client:
        server = ["--server", client.target, "--model"]
        assert main(["status", *server, "colours", "--model-version", "9"]) == 2
        assert "has no version 9; it has 1 AVAILABLE" in capsys.readouterr().err
        assert main(["status", *server, "colours", "--label", "gold"]) == 2
        assert "no version has the label 'gold'" in capsys.readouterr().err
        for which in (["--model-version", "9"], ["--label", "gold"], []):
            assert main(["status", *server, "other", *which]) == 2
            assert "model 'other' at" in (error := capsys.readouterr().err) and " not found: " in error
