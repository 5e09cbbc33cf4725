import collections

import numpy as np
import pytest
import tensorflow as tf
from featserve_export.pixels.decode import decode_image

from . import corpus
from .session import SavedFunction

COUNT = 3000
# libwebp passes over some damage in compressed data that Pillow reports.
LENIENT = {"webp"}


@pytest.fixture(scope="module")
def decode(tmp_path_factory):
    served = SavedFunction(
        lambda contents: decode_image(contents, max_pixels=1_000_000),
        tf.TensorSpec((), tf.string),
        tmp_path_factory.mktemp("decode"),
    )
    yield served
    served.close()


def test_damaged_files_give_pillows_pixels_or_invalid_argument(decode):
    outcomes = collections.Counter()
    for name, contents in corpus.damaged(COUNT, seed=20261123):
        expected = corpus.pillow_pixels(contents)
        try:
            pixels = decode(np.array(contents, object))
        except tf.errors.InvalidArgumentError:
            outcomes["refused"] += 1
            continue
        if expected is None:
            assert name.split()[0] in LENIENT, f"{name}: Pillow refuses {contents[:200]!r}"
            outcomes["answered where Pillow refuses"] += 1
            continue
        assert pixels.shape == expected.shape, name
        difference = np.abs(pixels.astype(int) - expected).max()
        assert difference <= (1 if name in {"jpeg cmyk", "jpeg ycck"} else 0), f"{name}: {contents[:200]!r}"
        outcomes["equal"] += 1
    assert outcomes["equal"] > COUNT / 10
    assert outcomes["refused"] > COUNT / 2
    assert outcomes["answered where Pillow refuses"] <= COUNT / 200

    for name, contents in corpus.images(np.random.default_rng(3), 20, 21).items():
        difference = decode(np.array(contents, object)).astype(int) - corpus.pillow_pixels(contents)
        assert np.abs(difference).max() <= 1, name
