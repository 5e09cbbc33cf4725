"""featserve verify: golden activations against a server."""

import json
import pathlib

import numpy as np
import pytest
from featserve_client import extras as extras

from ..command import featserve
from ..fake_server import MANIFEST, SIZE, FakeServer, features, jpeg


@pytest.fixture
def golden(tmp_path: pathlib.Path, server: FakeServer) -> pathlib.Path:
    folder = tmp_path / "toy" / "1" / "assets.extra"
    folder.mkdir(parents=True)
    server.manifest = MANIFEST | {"precision": "float32", "version": 1}
    (folder / "manifest.json").write_text(json.dumps(server.manifest))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 5, 6, 3), np.uint8)
    floats = rng.random((2, SIZE, SIZE, 3), np.float32)
    inputs = {"encoded": [jpeg(0), jpeg(1)], "serving_default": list(images), "float_images": list(floats)}
    arrays: dict[str, np.ndarray] = {"images": images, "float_images": floats}
    for base, items in inputs.items():
        for layer in ("early", "late"):
            arrays[f"{base}:{layer}"] = np.stack([features(item)[layer] for item in items])
    arrays |= {f"encoded_{n}": np.frombuffer(jpeg(n), np.uint8) for n in range(2)}
    np.savez(folder / "golden.npz", **arrays)
    return folder.parent


def test_verify(server: FakeServer, golden: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert featserve(server, "verify", golden) == 0
    assert len(capsys.readouterr().out.splitlines()) == 12
    archive = dict(np.load(golden / "assets.extra" / "golden.npz"))
    archive["encoded:late"] = archive["encoded:late"][:, ::-1]
    np.savez(golden / "assets.extra" / "golden.npz", **archive)
    assert featserve(server, "verify", golden) == 1
    out, err = capsys.readouterr()
    assert out.count("FAILED") == 2 and "2 of 12 checks failed" in err


def test_verify_refuses_another_model(
    server: FakeServer, golden: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.manifest["version"] = 2
    assert featserve(server, "verify", golden) == 2
    assert "version is 2" in capsys.readouterr().err
    assert featserve(server, "verify", golden / "assets.extra") == 2
