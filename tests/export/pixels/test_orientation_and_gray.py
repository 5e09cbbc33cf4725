"""What load_img does not do by itself, or does for gray networks: EXIF orientation, and one channel."""

import io

import keras
import numpy as np
import pytest
import tensorflow as tf
from featserve_export.pixels.spec import Pixels
from PIL import Image, ImageOps

from .session import SavedFunction

RNG = np.random.default_rng(2)
PICTURE = Image.fromarray(RNG.integers(0, 256, (23, 37, 3), np.uint8)).resize((74, 46), Image.Resampling.BICUBIC)
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description tiff:Orientation="%d"/></rdf:RDF></x:xmpmeta>'


def pixels(**options):
    return Pixels(
        image_size=(30, 20), interpolation="bilinear", crop_to_aspect_ratio=False, max_pixels=10**6, **options
    )


@pytest.fixture(scope="module")
def decode(tmp_path_factory):
    functions = {}

    def run(data, **options):
        key = tuple(sorted(options.items()))
        if key not in functions:
            functions[key] = SavedFunction(
                pixels(**options).decode, tf.TensorSpec([None], tf.string), tmp_path_factory.mktemp("pixels")
            )
        return functions[key](np.array([data], object))[0]

    yield run
    for function in functions.values():
        function.close()


def jpeg(orientation=None, endian="<", xmp=None, **options):
    exif = Image.Exif()
    exif.endian = endian
    exif[0x010F] = "a camera"
    if orientation is not None:
        exif[0x0112] = orientation
    file = io.BytesIO()
    PICTURE.save(file, "JPEG", quality=95, exif=exif.tobytes(), **({"xmp": xmp} if xmp else {}), **options)
    return file.getvalue()


def expected(data, color_mode="rgb", upright=False):
    image = Image.open(io.BytesIO(data))
    if upright:
        image = ImageOps.exif_transpose(image)
    file = io.BytesIO()
    image.save(file, "PNG")
    loaded = keras.utils.load_img(file, color_mode=color_mode, target_size=(30, 20), interpolation="bilinear")
    return np.asarray(loaded.convert("RGB"), np.float32)


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("orientation", [None, *range(10)])
def test_orientation_is_applied_as_pillow_applies_it(decode, orientation, endian):
    data = jpeg(orientation, endian)
    np.testing.assert_array_equal(decode(data, apply_orientation=True), expected(data, upright=True))
    np.testing.assert_array_equal(decode(data), expected(data))


@pytest.mark.parametrize("orientation", [None, 1, 6])
@pytest.mark.parametrize("in_xmp", [3, 8])
def test_exif_goes_before_xmp(decode, orientation, in_xmp):
    data = jpeg(orientation, xmp=XMP % in_xmp)
    np.testing.assert_array_equal(decode(data, apply_orientation=True), expected(data, upright=True))


def damaged():
    whole = jpeg(6)
    at = whole.index(b"Exif\0\0")
    for place in range(at - 4, at + 40):
        for value in (0, 1, 0x49, 0xFF):
            yield whole[:place] + bytes([value]) + whole[place + 1 :]


def test_a_damaged_header_is_read_as_pillow_reads_it_or_refused(decode):
    answered = 0
    for data in damaged():
        try:
            wanted = expected(data, upright=True)
        except Exception:  # whatever Pillow raises
            wanted = None
        try:
            received = decode(data, apply_orientation=True)
        except tf.errors.InvalidArgumentError:
            continue
        answered += 1
        if wanted is not None:
            upright = np.array_equal(received, wanted)
            # A tag that Pillow cannot read leaves the picture as it lies.
            assert upright or np.array_equal(received, expected(data))
    assert answered > 100


def test_other_formats_stay_as_they_lie(decode):
    file = io.BytesIO()
    PICTURE.save(file, "PNG")
    np.testing.assert_array_equal(decode(file.getvalue(), apply_orientation=True), expected(file.getvalue()))


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "LA", "RGBA"])
def test_gray_equals_keras(decode, mode):
    file = io.BytesIO()
    PICTURE.convert("RGB").convert(mode).save(file, "PNG")
    np.testing.assert_array_equal(decode(file.getvalue(), gray=True), expected(file.getvalue(), "grayscale"))


def test_a_gray_jpeg_equals_keras(decode):
    for data in (jpeg(), jpeg(6)):
        np.testing.assert_array_equal(decode(data, gray=True), expected(data, "grayscale"))


def test_16_bits_are_refused_for_gray(decode):
    file = io.BytesIO()
    Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30) * 100).save(file, "PNG")
    with pytest.raises(tf.errors.InvalidArgumentError, match="received a PNG of 16 bits, whose values go to 65535"):
        decode(file.getvalue(), gray=True)


def test_gray_pixels_of_any_size(tmp_path):
    function = SavedFunction(pixels(gray=True).resize, tf.TensorSpec([None, None, None, 3], tf.uint8), tmp_path)
    image = np.asarray(PICTURE)
    wanted = PICTURE.convert("L").resize((20, 30), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(function(image[None])[0, ..., 0], np.asarray(wanted, np.float32))
    function.close()


def test_gray_floats():
    values = RNG.uniform(0, 255, (2, 30, 20, 1)).astype(np.float32)
    same = pixels(gray=True).check(tf.constant(np.repeat(values, 3, -1)))
    np.testing.assert_array_equal(same[..., :1], values)
