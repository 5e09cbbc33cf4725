"""The client and the embedded server: readiness, versions and labels, TLS, and an extraction whose ends are killed."""

import asyncio
import json
import pathlib
import random
import subprocess
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from featserve_client import (
    TLS,
    AsyncFeatureClient,
    ConnectError,
    DeadlineExceeded,
    FeatureClient,
    ModelNotFound,
    RetryPolicy,
)
from PIL import Image

pytest.importorskip("tensorflow")
from featserve_serving import create_server

from ..local_server import LocalServer

COLOURS = (1, 8, 8, 3)


def photo(seed: int, size: tuple[int, int] = (320, 240)) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    out = BytesIO()
    Image.fromarray(noise).resize(size).save(out, "JPEG")
    return out.getvalue()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Versions 1 and 2 of a model whose one layer is a thumbnail plus the version."""
    import tensorflow as tf

    class Thumbnail(tf.Module):
        def __init__(self, version: int) -> None:
            super().__init__()
            self.version = float(version)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
        def encoded(self, image_bytes):
            def one(data):
                return tf.image.resize(tf.io.decode_jpeg(data, channels=3), COLOURS[1:3])

            rows = tf.map_fn(one, image_bytes, fn_output_signature=tf.float32)
            return {"thumbnail": tf.ensure_shape(rows, (None, *COLOURS[1:])) + self.version}

    root = tmp_path_factory.mktemp("versions")
    for version in (1, 2):
        module = Thumbnail(version)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tf.saved_model.save(module, str(root / str(version)), signatures={"encoded": module.encoded})
    return root


def test_readiness_is_waited_for(model: pathlib.Path, tmp_path: pathlib.Path, free_port: Callable[[], int]) -> None:
    target = f"127.0.0.1:{free_port()}"
    base_path = tmp_path / "thumbnails"
    base_path.mkdir()
    retry = RetryPolicy(max_attempts=1)
    with FeatureClient(target, model="t", retry=retry) as client:
        with pytest.raises(ConnectError, match="no server at"):
            client.status()
        with pytest.raises(DeadlineExceeded, match=r"'t' is not ready after timeout_s=3 seconds: .*no server at"):
            client.wait_until_ready(3)
        answers: list[np.ndarray] = []
        patient = FeatureClient(target, model="t", wait_for_ready=True, retry=retry)

        async def ask() -> np.ndarray:
            async with AsyncFeatureClient(target, model="t", wait_for_ready=True, retry=retry) as other:
                return (await other.extract(photo(0)))["thumbnail"]

        early = [
            threading.Thread(target=lambda: answers.append(patient.extract(photo(0))["thumbnail"])),
            threading.Thread(target=lambda: answers.append(asyncio.run(ask()))),
            threading.Thread(target=lambda: client.wait_until_ready(120)),
        ]
        (base_path / "1").symlink_to(model / "1")
        for thread in early:
            thread.start()
        with create_server(model_base_path=base_path, model_name="t", address=target):
            for thread in early:
                thread.join()
            assert [answer.shape for answer in answers] == [COLOURS, COLOURS]
            assert [(state.version, state.available) for state in client.status()] == [(1, True)]
            with FeatureClient(target, model="u") as stranger:
                with pytest.raises(DeadlineExceeded, match="'u' is not ready after timeout_s=3 seconds: .*not found"):
                    stranger.wait_until_ready(3)
        patient.close()


def test_versions_and_labels(model: pathlib.Path, tmp_path: pathlib.Path) -> None:
    config = tmp_path / "models.config"
    config.write_text(
        f"""model_config_list {{ config {{ name: "t" base_path: "{model}" model_platform: "tensorflow"
        model_version_policy {{ all {{}} }}
        version_labels {{ key: "stable" value: 1 }} version_labels {{ key: "canary" value: 2 }} }} }}"""
    )
    with create_server(model_config_file=config) as server:
        target = f"127.0.0.1:{server.port}"

        def offset(**which: object) -> float:
            with FeatureClient(target, model="t", **which) as client:
                client.wait_until_ready(120)
                assert client.metadata().version == next(iter(client.extract_iter([photo(0)]))).version
                return float((client.extract(photo(0))["thumbnail"] - first).max())

        with FeatureClient(target, model="t", version=1) as client:
            client.wait_until_ready(120)
            first = client.extract(photo(0))["thumbnail"]
            assert client.pinned(2).metadata().version == 2
        assert [offset(label="stable"), offset(label="canary"), offset(version=2), offset()] == [0, 1, 1, 1]
        for which, name in (({"label": "gold"}, "gold"), ({"version": 7}, "7")):
            with FeatureClient(target, model="t", **which) as client:
                for call in (client.metadata, lambda client=client: client.extract(photo(0))):
                    with pytest.raises(ModelNotFound, match=f"'t' at {target}: no version .*{name}"):
                        call()
                with pytest.raises(DeadlineExceeded, match=f"not ready after timeout_s=3 seconds: .*{name}"):
                    client.wait_until_ready(3)


def test_tls(model: pathlib.Path, tmp_path: pathlib.Path, pems: pathlib.Path) -> None:
    text = {name: json.dumps((pems / name).read_text()) for name in ("server.key", "server.pem", "ca.pem")}
    config = tmp_path / "ssl.config"
    config.write_text(
        f"server_key: {text['server.key']}\nserver_cert: {text['server.pem']}\ncustom_ca: {text['ca.pem']}\n"
        "client_verify: true\n"
    )
    with create_server(model_base_path=model, model_name="t", ssl_config_file=config) as server:
        target, ca = f"127.0.0.1:{server.port}", pems / "ca.pem"
        tls = TLS(ca=ca, certificate=pems / "client.pem", private_key=pems / "client.key")
        with FeatureClient(target, model="t", tls=tls, token="abc") as client:
            assert client.extract(photo(0))["thumbnail"].shape == COLOURS
        with FeatureClient(target, model="t", tls=TLS(ca=ca)) as client:
            with pytest.raises(ConnectError, match="wants a client's certificate that it trusts"):
                client.status()
        with FeatureClient(target, model="t", tls=TLS(ca=pems / "otherca.pem")) as client:
            with pytest.raises(ConnectError, match="the certificate of the server at .* is refused"):
                client.status()


class Servers:
    """Embedded servers in processes of their own; the next ones are started while one is in use."""

    def __init__(self, model: pathlib.Path) -> None:
        self._model = model
        self._all: list[LocalServer] = []
        self._started: deque[LocalServer] = deque()

    def start(self, port: int = 0) -> LocalServer:
        self._all.append(LocalServer("--model_name=t", f"--model_base_path={self._model}", port=port))
        return self._all[-1]

    def next(self) -> LocalServer:
        while len(self._started) < 2:
            self._started.append(self.start())
        return self._started.popleft().wait_until_ready()

    def close(self) -> None:
        for server in self._all:
            server.kill()


def kill(process: subprocess.Popen[Any]) -> None:
    process.kill()
    process.wait()


@pytest.fixture
def servers(model: pathlib.Path) -> Iterator[Servers]:
    made = Servers(model)
    yield made
    made.close()


def test_killed_ten_times_on_both_sides_it_equals_an_undisturbed_run(servers: Servers, tmp_path: pathlib.Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for seed in range(20):
        (photos / f"{seed:04d}.jpg").write_bytes(photo(seed))
    for number in range(20, 4000):  # 16 parts
        (photos / f"{number:04d}.jpg").hardlink_to(photos / f"{number % 20:04d}.jpg")
    (photos / "0700.jpg").unlink()
    (photos / "0700.jpg").write_bytes(b"no image")
    output, whole = tmp_path / "out.npz", tmp_path / "whole.npz"
    clients: list[subprocess.Popen[bytes]] = []

    def extract(port: int, to: pathlib.Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "featserve_client.cli", "extract", str(photos), "--model", "t", "--resume"]
        command += ["--server", f"127.0.0.1:{port}", "--output", str(to), "--quiet"]
        clients.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        return clients[-1]

    def parts() -> int:
        return len(list((tmp_path / "out.npz.partial").glob("part-*")))

    def wait_for_parts(process: subprocess.Popen[bytes], wanted: int) -> None:
        while process.poll() is None and parts() < wanted:
            time.sleep(0.005)

    def check() -> None:
        assert output.read_bytes() == whole.read_bytes()
        lines = (tmp_path / "out.npz.failures.jsonl").read_text().splitlines()
        assert [pathlib.Path(json.loads(line)["path"]).name for line in lines] == ["0700.jpg"]
        assert not (tmp_path / "out.npz.partial").exists()

    dice = random.Random(20)
    try:
        server = servers.next()
        assert extract(server.port, whole).wait() == 1  # of 4,000 one is no image
        rounds = 0
        while rounds < 10:
            process = extract(server.port, output)
            wait_for_parts(process, parts() + dice.choice([0, 1, 1, 1]))
            time.sleep(dice.random() * 0.3)
            for victim in dice.sample([server.process, process], 2):
                if victim is process and process.poll() == 1:  # done before it was killed: again, from the start
                    check()
                    output.unlink()
                elif victim is process and process.poll() is not None:
                    assert process.returncode == 2  # it came too late to find a server
                else:
                    rounds += victim is process
                    kill(victim)
                time.sleep(dice.random() * 0.1)
            server = servers.next()
        # Of the server alone: the client lives on until it is back.
        process = extract(server.port, output)
        wait_for_parts(process, parts() + 1)
        kill(server.process)
        servers.start(server.port)
        assert process.wait() == 1
        check()
    finally:
        for process in clients:
            kill(process)
