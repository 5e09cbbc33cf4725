import numpy as np
import pytest
import tensorflow as tf
from featserve_export.pixels.checks import check_float_images, check_image_bytes, check_images

from .session import SavedFunction

InvalidArgument = tf.errors.InvalidArgumentError


@pytest.fixture(scope="module")
def uint8_images(tmp_path_factory):
    spec = tf.TensorSpec((None, None, None, 3), tf.uint8)
    # The dimensions that the placeholder promises are used behind the check, so that folding them would show.
    served = SavedFunction(
        lambda images: tf.reduce_sum(tf.cast(check_images(images, 70_000), tf.int32), [1, 2]),
        spec,
        tmp_path_factory.mktemp("uint8"),
    )
    yield served
    served.close()


@pytest.fixture(scope="module")
def float_images(tmp_path_factory):
    def convolve(images):
        return tf.nn.conv2d(check_float_images(images, (8, 6)), tf.ones([3, 3, 3, 4]), 1, "SAME")

    served = SavedFunction(convolve, tf.TensorSpec((None, 8, 6, 3), tf.float32), tmp_path_factory.mktemp("float"))
    yield served
    served.close()


@pytest.fixture(scope="module")
def image_bytes(tmp_path_factory):
    served = SavedFunction(
        lambda contents: tf.strings.length(check_image_bytes(contents)),
        tf.TensorSpec((None,), tf.string),
        tmp_path_factory.mktemp("bytes"),
    )
    yield served
    served.close()


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        (
            (5, 5, 3),
            r"expected images of shape \(N, H, W, 3\) uint8 RGB, received \(5, 5, 3\): add the batch dimension",
        ),
        ((3,), r"received \(3\)"),
        ((), r"received \(\)"),
        ((1, 1, 5, 5, 3), r"received \(1, 1, 5, 5, 3\)"),
        ((1, 5, 5, 4), r"received \(1, 5, 5, 4\)"),
        ((1, 5, 5, 1), r"received \(1, 5, 5, 1\)"),
        ((1, 5, 5, 0), r"received \(1, 5, 5, 0\)"),
        ((0, 5, 5, 3), r"expected at least one image, received \(0, 5, 5, 3\): send no empty batch"),
        ((1, 0, 5, 3), r"expected an image of at least 1x1 pixel, received 5x0"),
        ((1, 5, 0, 3), r"received 0x5"),
        ((1, 700, 101, 3), r"expected an image of at most 70000 pixels, received 101x700: raise --max-pixels"),
        ((1, 65_536, 1, 3), r"expected an image of at most 65535 pixels on a side, received 1x65536: shrink"),
    ],
)
def test_uint8_images_of_another_shape_are_refused(uint8_images, shape, sentence):
    with pytest.raises(InvalidArgument, match=sentence):
        uint8_images(np.zeros(shape, np.uint8))
    assert uint8_images(np.ones((2, 100, 100, 3), np.uint8)).tolist() == [[10_000] * 3] * 2


@pytest.mark.parametrize(
    "shape", [(8, 6, 3), (6, 3), (), (1, 1, 8, 6, 3), (1, 8, 6, 4), (1, 6, 8, 3), (1, 8, 6, 1), (1, 16, 6, 3)]
)
def test_float_images_of_another_shape_are_refused(float_images, shape):
    received = "(" + ", ".join(map(str, shape)) + ")"
    with pytest.raises(InvalidArgument) as error:
        float_images(np.zeros(shape, np.float32))
    assert f"expected images of shape (N, 8, 6, 3) float32 RGB, received {received}: resize" in str(error.value)
    assert float_images(np.ones((2, 8, 6, 3), np.float32)).shape == (2, 8, 6, 4)


def test_an_empty_batch_of_float_images_is_refused(float_images):
    with pytest.raises(InvalidArgument, match=r"expected at least one image, received \(0, 8, 6, 3\)"):
        float_images(np.zeros((0, 8, 6, 3), np.float32))


@pytest.mark.parametrize("shape", [(), (0,), (1, 1), (2, 0)])
def test_image_bytes_of_another_shape_are_refused(image_bytes, shape):
    with pytest.raises(InvalidArgument, match=r"expected image_bytes of shape \(N,\) with N >= 1, received \("):
        image_bytes(np.full(shape, b"abc", object))
    assert image_bytes(np.array([b"abc", b"d"], object)).tolist() == [3, 1]
