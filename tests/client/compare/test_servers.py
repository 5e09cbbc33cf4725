"""featserve compare of servers: labels, TLS and tokens, and an interruption."""

from __future__ import annotations

import json
import pathlib
import signal
import subprocess
import sys
import time

import grpc
import numpy as np
import pytest
from featserve_client.cli.main import main

from ...waiting import eventually
from ..fake_server import FakeServer, jpeg

PHOTOS = 60


@pytest.fixture
def photos(tmp_path: pathlib.Path) -> pathlib.Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(PHOTOS):
        (folder / f"p{seed:03}.jpg").write_bytes(jpeg(seed))
    return folder


def test_servers_with_tls_and_a_token(
    photos: pathlib.Path, pems: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key, certificate = ((pems / name).read_bytes() for name in ("server.key", "server.pem"))
    token = tmp_path / "token"
    token.write_text("a-secret\n")
    servers = [
        FakeServer(version=version, credentials=grpc.ssl_server_credentials([(key, certificate)])).start()
        for version in (1, 2)
    ]
    sides = [f"{server.target}/toy" for server in servers]
    command = ["compare", *sides, "--photos", str(photos), "--quiet"]
    try:
        assert main([*command, "--json", "--ca", str(pems / "ca.pem"), "--token-file", str(token)]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["a"]["version"], found["b"]["version"]) == ("1", "2")
        for server in servers:
            assert {call["authorization"] for call in server.metadata} == {"Bearer a-secret"}
        assert main(command) == 2
        assert "speaks TLS alone" in capsys.readouterr().err
        assert main([*command, "--token-file", str(token)]) == 2
        assert "token needs tls" in capsys.readouterr().err
    finally:
        for server in servers:
            server.stop()


def test_an_interruption_is_quiet_and_leaves_nothing(server: FakeServer, photos: pathlib.Path) -> None:
    server.before = lambda request, count: time.sleep(0.2 if count < 3 else 5)  # type: ignore[func-returns-value]
    folder = photos.parent / "out"
    folder.mkdir()
    side = f"{server.target}/toy"
    command = [sys.executable, "-m", "featserve_client.cli", "compare", side, side, "--photos", str(photos), "--quiet"]
    process = subprocess.Popen(
        [*command, "--output", str(folder / "report.html")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    eventually(lambda: len(server.predicts) > 3)
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "featserve: interrupted\n")
    assert time.monotonic() - started < 20
    assert list(folder.iterdir()) == []


@pytest.mark.long
def test_labels_of_a_server(photos: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    tf = pytest.importorskip("tensorflow")
    from featserve_serving import create_server

    class Mean(tf.Module):
        def __init__(self, mirrored: bool) -> None:
            super().__init__()
            self.mirrored = mirrored

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
        def encoded(self, image_bytes):
            def one(data):
                small = tf.image.resize(tf.cast(tf.io.decode_jpeg(data, channels=3), tf.float32), (4, 4))
                return tf.reshape(small - tf.reduce_mean(small), [48])

            rows = tf.ensure_shape(tf.map_fn(one, image_bytes, fn_output_signature=tf.float32), (None, 48))
            return {"mean": tf.reverse(rows, [1]) if self.mirrored else rows}

    for version in (1, 2):
        module = Mean(version == 2)
        tf.saved_model.save(module, str(tmp_path / "m" / str(version)), signatures={"encoded": module.encoded})
    config = tmp_path / "models.config"
    config.write_text(
        f"""model_config_list {{ config {{ name: "m" base_path: "{tmp_path / "m"}" model_platform: "tensorflow"
        model_version_policy {{ all {{}} }}
        version_labels {{ key: "stable" value: 1 }} version_labels {{ key: "canary" value: 2 }} }} }}"""
    )
    with create_server(model_config_file=config) as server:
        place = f"127.0.0.1:{server.port}/m"

        def compare(a: str, b: str) -> int:
            return main(["compare", place + a, place + b, "--photos", str(photos), "--json", "--quiet"])

        assert compare(":stable", "@1") == 0
        found = json.loads(capsys.readouterr().out)
        assert found["a"]["version"] == found["b"]["version"] == "1" and found["a"]["name"] == f"{place}:stable"
        assert compare(":stable", ":canary") == 1
        found = json.loads(capsys.readouterr().out)
        assert (found["a"]["version"], found["b"]["version"]) == ("1", "2")
        assert found["verdict"]["sentence"].startswith("compute them again")
        assert compare(":stable", ":gold") == 2
        assert "no version has the label 'gold'" in capsys.readouterr().err
    assert np.isfinite(found["layers"][0]["cosine"]["minimum"])
