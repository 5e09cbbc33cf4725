"""show, similar, verify, and decoding on the client."""

import io
import json
import os
import pathlib

import numpy as np
import pytest
from featserve_client import FeatureClient, InvalidImageError, InvalidRequest, MissingExtraError
from featserve_client import extras as extras
from featserve_client.analysis import neighbors as neighbours
from featserve_client.cli.main import main
from PIL import Image

from .fake_server import MANIFEST, SIZE, FakeServer, features, jpeg


@pytest.fixture
def photos(tmp_path: pathlib.Path) -> pathlib.Path:
    for seed in range(6):
        (tmp_path / f"p{seed}.jpg").write_bytes(jpeg(seed))
    (tmp_path / "odd $name.jpg").write_bytes(jpeg(0))
    return tmp_path


def run(server: FakeServer, *arguments: object) -> int:
    command, *rest = map(str, arguments)
    return main([command, *rest, "--server", server.target, "--model", "toy"])


@pytest.mark.parametrize("kind", [".png", ".jpg"])
def test_show(server: FakeServer, photos: pathlib.Path, kind: str) -> None:
    output = photos / f"maps{kind}"
    assert run(server, "show", photos / "p1.jpg", "--output", output) == 0
    assert np.asarray(Image.open(output)).std() > 10


@pytest.mark.parametrize("kind", [".png", ".html"])
@pytest.mark.parametrize("parquet", [False, True])
def test_similar(
    server: FakeServer, photos: pathlib.Path, capsys: pytest.CaptureFixture[str], kind: str, parquet: bool
) -> None:
    among = photos
    if parquet:
        among = photos / "all.parquet"
        assert run(server, "extract", photos, "--output", among) == 0
    output = photos / f"similar{kind}"
    capsys.readouterr()
    assert run(server, "similar", photos / "p0.jpg", among, "-k", 3, "--output", output) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"1.0000  {photos}/odd $name.jpg" and len(lines) == 4
    if kind == ".html":
        assert output.read_text().count("<img") == 4
    else:
        assert np.asarray(Image.open(output)).std() > 10


def test_names_are_drawn_as_they_are(
    server: FakeServer, photos: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # To matplotlib a formula that is none; a line break; no UTF-8.
    for name in (r"a$\frac$b.jpg", "new\nline.jpg", os.fsdecode(b"bad \xff.jpg")):
        (photos / name).write_bytes(jpeg(1))
        assert run(server, "show", photos / name, "--output", photos / "maps.png") == 0
        for kind in (".png", ".html"):
            with open(1, "w", encoding="utf-8", closefd=False) as strict, monkeypatch.context() as patch:
                patch.setattr("sys.stdout", strict)
                assert run(server, "similar", photos / name, photos, "--output", photos / f"similar{kind}") == 0
    assert "cannot" not in capfd.readouterr().err


def test_nearest_is_exact_and_the_index_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = neighbours.embed(np.random.default_rng(0).normal(size=(2000, 16)).astype(np.float32))
    rows, cosines = neighbours.nearest(vectors, vectors[7], 5)
    assert rows[0] == 7 and cosines[0] == pytest.approx(1)
    np.testing.assert_array_equal(rows, np.argsort(-(vectors @ vectors[7]))[:5])
    monkeypatch.setattr(neighbours, "_INDEX_ROWS", 100)
    found, _ = neighbours.nearest(vectors, vectors[7], 5)
    assert len(set(found) & set(rows)) >= 4


def test_a_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras.importlib, "import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
    with pytest.raises(MissingExtraError, match=r"needs matplotlib: pip install 'featserve\[pictures\]'"):
        extras.require("matplotlib.figure", "pictures", "a picture")


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"])
@pytest.mark.parametrize("crop", [False, True])
def test_decoding_here_gives_keras_own_pixels(
    server: FakeServer, tmp_path: pathlib.Path, interpolation: str, crop: bool
) -> None:
    import keras

    how = {"interpolation": interpolation, "crop_to_aspect_ratio": crop}
    server.manifest = MANIFEST | {"preprocessing": MANIFEST["preprocessing"] | how}
    pixels = np.random.default_rng(0).integers(0, 256, (31, 45, 4), np.uint8)
    paths = []
    for mode in ("RGB", "L", "RGBA", "P"):
        paths.append(tmp_path / f"{mode}.png")
        Image.fromarray(pixels).convert("RGBA" if mode == "RGBA" else "RGB").convert(mode).save(paths[-1])
    (tmp_path / "p.jpg").write_bytes(jpeg(1, (33, 21)))
    paths.append(tmp_path / "p.jpg")
    with FeatureClient(server.target, model="toy", decode="client") as client:
        got = client.extract(paths)["early"]
    for row, path in zip(got, paths, strict=True):
        image = keras.utils.load_img(
            path, target_size=(SIZE, SIZE), interpolation=interpolation, keep_aspect_ratio=crop
        )
        np.testing.assert_array_equal(row, features(np.asarray(image))["early"])
    assert {request.model_spec.signature_name for request in server.predicts} == {"manifest", "serving_default"}


def test_decoding_here_refuses_bombs_and_broken_files(server: FakeServer) -> None:
    out = io.BytesIO()
    Image.new("1", (1001, 1000)).save(out, "PNG")
    with FeatureClient(server.target, model="toy", decode="client") as client:
        with pytest.raises(InvalidImageError, match="1001 x 1000 pixels are more than the 1000000 allowed"):
            client.extract(out.getvalue())
        with pytest.raises(InvalidImageError, match="image 0: cannot be decoded"):
            client.extract(jpeg(0)[:-100])
    del server.signatures.signature_def["manifest"]
    with (
        FeatureClient(server.target, model="toy", decode="client") as client,
        pytest.raises(InvalidRequest, match="no manifest"),
    ):
        client.extract(jpeg(0))


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
    assert run(server, "verify", golden) == 0
    assert len(capsys.readouterr().out.splitlines()) == 12
    archive = dict(np.load(golden / "assets.extra" / "golden.npz"))
    archive["encoded:late"] = archive["encoded:late"][:, ::-1]
    np.savez(golden / "assets.extra" / "golden.npz", **archive)
    assert run(server, "verify", golden) == 1
    out, err = capsys.readouterr()
    assert out.count("FAILED") == 2 and "2 of 12 checks failed" in err


def test_verify_refuses_another_model(
    server: FakeServer, golden: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.manifest["version"] = 2
    assert run(server, "verify", golden) == 2
    assert "version is 2" in capsys.readouterr().err
    assert run(server, "verify", golden / "assets.extra") == 2


def test_status_and_metadata(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(server, "status") == 0
    assert capsys.readouterr().out == "toy version 1: AVAILABLE\n"
    assert run(server, "status", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [{"version": 1, "state": "AVAILABLE", "error": ""}]
    assert run(server, "metadata", "--json") == 0
    assert json.loads(capsys.readouterr().out)["manifest"] == MANIFEST
    assert run(server, "metadata") == 0
    assert "out  late: float32 (N, 4)" in capsys.readouterr().out
