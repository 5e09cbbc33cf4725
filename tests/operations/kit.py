"""The kit under an engine: its images, what they are built from, and a model to serve."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from featserve_client import FeatserveError, FeatureClient
from PIL import Image

from ..waiting import eventually
from . import stand_in
from .engine import Engine

ROOT = Path(__file__).parents[2]
SERVING = ROOT / "serving"
STAND_IN, REAL = "featserve-stand-in:1", "tensorflow/serving:2.20.0"
#: Of a drain, seconds: with one minute, as shipped, the tests would wait for nothing new.
DRAIN_S = 5


@dataclass(frozen=True)
class Kit:
    """An engine, and the base images that the Dockerfile is given."""

    engine: Engine
    base: dict[str, str]
    #: What a container of the stand-in mounts.
    mounts: tuple[str, ...]
    models: Path

    def build(self, target: str, context: Path = ROOT, **arguments: str) -> str:
        image = f"featserve-test-{target}"
        self.engine.build(context, target, image, **self.base, **arguments)
        return image

    @classmethod
    def of(cls, engine: Engine, models: Path) -> Kit:
        """Returns the kit on TensorFlow Serving's image, or on a stand-in where that is not here."""
        if engine.attempt("image", "inspect", REAL).returncode == 0:
            return cls(engine, {}, (), models)
        engine.run("import", "-", STAND_IN, stdin=stand_in.archive())
        name, tag = STAND_IN.split(":")
        base = {"SERVING_IMAGE": name, "SERVING_TAG": tag, "BUSYBOX_IMAGE": name, "BUSYBOX_TAG": tag}
        return cls(engine, base, tuple(f"--volume={each}:{each}:ro" for each in stand_in.mounts()), models)


def export(name: str, models: Path) -> Path:
    """Exports MobileNet with random weights, one vector for each image."""
    from featserve_export import ExportOptions, export_backbone

    options = ExportOptions(
        "mobilenet",
        alpha=0.25,
        weights="random",
        image_size=(64, 64),
        layers=["conv_pw_1_relu"],
        pooling="avg",
        model_name=name,
        model_root=models,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Path(export_backbone(options).path)


def models_config(models: Path, file: Path) -> Path:
    """Writes the configuration that serves a model root at /models."""
    command = [sys.executable, "-m", "featserve_serving", "models-config", "--model_root", models]
    text = subprocess.run([*command, "--served_from", "/models"], capture_output=True, text=True, check=True).stdout
    file.write_text(text)
    return file


def photo() -> bytes:
    pixels = np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(file := io.BytesIO(), "JPEG")
    return file.getvalue()


def ask(command: str, port: int, *arguments: object) -> str:
    """Runs a command of the client against the model on a port; returns what it printed."""
    words = [sys.executable, "-m", "featserve_client.cli", command, *map(str, arguments)]
    server = ["--server", f"127.0.0.1:{port}", "--model", "first"]
    result = subprocess.run([*words, *server], capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


class Calls:
    """What calls came to, one after the other."""

    def __init__(self) -> None:
        self.outcomes: list[str] = []

    def more(self, number: int = 60) -> None:
        """Waits until so many more have ended."""
        ended = len(self.outcomes)
        eventually(lambda: len(self.outcomes) > ended + number)


@contextmanager
def callers(*ports: int) -> Iterator[Calls]:
    """Six callers of servers on these ports, until the end of the block; every call must have been answered."""
    calls, finished = Calls(), threading.Event()

    def call(client: FeatureClient) -> None:
        while not finished.is_set():
            try:
                client.extract(photo())
                calls.outcomes.append("answered")
            except FeatserveError as error:
                calls.outcomes.append(str(error))

    with FeatureClient([f"127.0.0.1:{port}" for port in ports], model="first") as client:
        threads = [threading.Thread(target=call, args=(client,)) for _ in range(6)]
        for each in threads:
            each.start()
        try:
            calls.more()
            yield calls
            calls.more()
        finally:
            finished.set()
            for each in threads:
                each.join()
    assert set(calls.outcomes) == {"answered"}
