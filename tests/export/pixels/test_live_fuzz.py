"""Thousands of damaged files over gRPC to one live server: Pillow's pixels, or INVALID_ARGUMENT."""

import collections
import io
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from featserve_client import FeatureClient, InvalidRequest
from featserve_export import ExportOptions, export_backbone
from featserve_serving import create_server

from . import corpus

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
COUNT = 2500
SEED = 20261124
SIDE = 48


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of a model whose output is its input's pixels."""
    folder = tmp_path_factory.mktemp("pixels")
    images = keras.Input((SIDE, SIDE, 3))
    keras.Model(images, keras.layers.Rescaling(1.0, name="pixels")(images)).save(folder / "pixels.keras")
    export_backbone(
        ExportOptions(
            str(folder / "pixels.keras"), preprocess="none", max_pixels=1_000_000, model_root=folder / "models"
        )
    )
    with create_server(model_root=folder / "models", warmup=False) as server:
        yield f"127.0.0.1:{server.port}"


def loaded(contents):
    """What `keras.utils.load_img(..., target_size=(SIDE, SIDE))` gives, or None where Pillow refuses."""
    try:
        return np.asarray(keras.utils.load_img(io.BytesIO(contents), target_size=(SIDE, SIDE)))
    except Exception:  # whatever struct, zlib and Pillow's plugins raise
        return None


def test_every_answer_is_pillows_or_a_refusal(server):
    outcomes = collections.Counter()

    def ask(file):
        name, contents = file
        try:
            answer = client.predict({"image_bytes": np.array([contents], object)}, signature="encoded", timeout_s=120)
        except InvalidRequest:
            return name, contents, None
        return name, contents, answer["pixels"][0]

    with FeatureClient(server, model="pixels") as client, ThreadPoolExecutor(4) as pool:
        for name, contents, pixels in pool.map(ask, corpus.damaged(COUNT, SEED)):
            expected = loaded(contents)
            if pixels is None:
                outcomes["refused"] += 1
            else:
                assert expected is not None, f"{name}: Pillow refuses {contents[:200]!r}"
                difference = np.abs(pixels - expected).max()
                assert difference <= (name in {"jpeg cmyk", "jpeg ycck"}), f"{name}: {contents[:200]!r}"
                outcomes["equal"] += 1
        assert outcomes["equal"] > COUNT / 10
        assert outcomes["refused"] > COUNT / 2

        for name, contents in corpus.images(np.random.default_rng(4), 20, 21).items():
            _, _, pixels = ask((name, contents))
            assert np.abs(pixels - loaded(contents)).max() <= (name in {"jpeg cmyk", "jpeg ycck"}), name
