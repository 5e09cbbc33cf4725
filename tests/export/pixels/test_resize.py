import functools
import io

import keras
import numpy as np
import pytest
import tensorflow as tf
from featserve_export.options import INTERPOLATIONS
from featserve_export.pixels import resize
from featserve_export.pixels.filters import FILTERS
from featserve_export.pixels.resize import resize_images
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

SIZES = [(224, 224), (7, 13), (1, 1)]
EXACT = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

side = st.one_of(st.integers(1, 40), st.integers(41, 700), st.sampled_from([1, 2, 3, 7, 13, 160, 224, 299, 448]))


@functools.cache
def resizer(image_size, interpolation, crop):
    return tf.function(
        functools.partial(resize_images, image_size=image_size, interpolation=interpolation, crop_to_aspect_ratio=crop),
        input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8)],
    )


def keras_pixels(levels, image_size, interpolation, crop):
    file = io.BytesIO()
    Image.fromarray(levels).save(file, format="BMP")
    image = keras.utils.load_img(file, target_size=image_size, interpolation=interpolation, keep_aspect_ratio=crop)
    return np.asarray(image)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def assert_equal_to_keras(height, width, image_size, interpolation, crop):
    levels = noise(height, width, seed=height * 10_000 + width)
    ours = resizer(image_size, interpolation, crop)(levels[None])[0].numpy()
    np.testing.assert_array_equal(ours, keras_pixels(levels, image_size, interpolation, crop))


@pytest.mark.parametrize("crop", [False, True])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@EXACT
@given(height=side, width=side, image_size=st.sampled_from(SIZES))
@example(height=224, width=224, image_size=(224, 224))
@example(height=375, width=500, image_size=(224, 224))
@example(height=700, width=20, image_size=(224, 224))
@example(height=224, width=7, image_size=(7, 13))
def test_equals_keras_at_any_size(interpolation, crop, height, width, image_size):
    assert_equal_to_keras(height, width, image_size, interpolation, crop)


@pytest.mark.parametrize(("height", "width"), [(8000, 3), (5, 8000), (2500, 8000)])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "lanczos"])
def test_equals_keras_for_large_images(interpolation, height, width):
    assert_equal_to_keras(height, width, (224, 224), interpolation, crop=False)


@pytest.mark.parametrize("height", [160 * 7, 161 * 7])
def test_equals_keras_to_where_float32_holds_the_sums_of_a_box(height):
    assert_equal_to_keras(height, 500, (7, 13), "box", crop=False)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_a_batch_is_resized_as_its_images(interpolation):
    images = np.stack([noise(50, 70, seed) for seed in range(3)])
    batch = resizer((224, 224), interpolation, False)(images).numpy()
    for image, resized in zip(images, batch, strict=True):
        np.testing.assert_array_equal(resized, keras_pixels(image, (224, 224), interpolation, False))


def test_an_unknown_interpolation_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"bicubic, bilinear, box, hamming, lanczos, nearest, received 'area'"):
        resize_images(
            tf.zeros([1, 2, 2, 3], tf.uint8), image_size=(1, 1), interpolation="area", crop_to_aspect_ratio=False
        )


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_images_of_many_sizes_share_few_shapes_of_products(interpolation):
    """What multiplies keeps something for each shape that it has met."""
    random = np.random.default_rng(0)
    sizes = random.integers((300, 400), (500, 700), (60, 2))
    shapes = set()
    for height, width in sizes.tolist():
        size = tf.constant([height, width])
        _, across = resize._Pass.plan(tf.zeros_like(size), size, size, (224, 224), FILTERS[interpolation])

        def product(lines, across=across):
            shapes.add((across.weights.shape[2], lines.shape[1]))
            return tf.zeros([across.target, lines.shape[1]], tf.uint8)

        resize._across(tf.zeros([height, 3 * width], tf.uint8), across, product)
    assert len(set(map(tuple, sizes.tolist()))) == 60
    assert len(shapes) <= 30
