"""Decoding on the client."""

import io
import pathlib

import numpy as np
import pytest
from featserve_client import FeatureClient, InvalidImageError, InvalidRequest
from featserve_client import extras as extras
from PIL import Image

from ..fake_server import MANIFEST, SIZE, FakeServer, features, jpeg


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
