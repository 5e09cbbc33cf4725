import io
import struct
import zlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from featserve_export.pixels.decode import decode_and_resize, decode_image
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from . import corpus
from .session import SavedFunction

KINDS = sorted(corpus.images(np.random.default_rng(0), 4, 4))
# TensorFlow rounds down where Pillow rounds to nearest; of the planes neither hands out more.
ONE_LEVEL_OFF = {"jpeg cmyk", "jpeg ycck"}
side = st.one_of(st.integers(1, 20), st.integers(21, 200))


@pytest.fixture(scope="module")
def decode(tmp_path_factory):
    served = SavedFunction(
        lambda contents: decode_image(contents, max_pixels=30_000_000),
        tf.TensorSpec((), tf.string),
        tmp_path_factory.mktemp("decode"),
    )
    yield served
    served.close()


def assert_equal_to_pillow(decode, contents, levels=0):
    expected = corpus.pillow_pixels(contents)
    assert expected is not None
    ours = decode(np.array(contents, object))
    assert ours.shape == expected.shape
    assert np.abs(ours.astype(int) - expected).max() <= levels


def refusal(decode, contents):
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        decode(np.array(contents, object))
    return str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_equals_pillow(decode, kind):
    @settings(max_examples=8, deadline=None, derandomize=True)
    @given(height=side, width=side, seed=st.integers(0, 2**32 - 1))
    def check(height, width, seed):
        contents = corpus.images(np.random.default_rng(seed), height, width)[kind]
        assert_equal_to_pillow(decode, contents, levels=1 if kind in ONE_LEVEL_OFF else 0)

    check()


@pytest.mark.parametrize(
    "options", [{"format": "JPEG"}, {"format": "JPEG", "progressive": True}, {"format": "PNG", "compress_level": 1}]
)
def test_equals_pillow_for_large_images(decode, options):
    levels = np.random.default_rng(0).integers(0, 256, (40, 25, 3), dtype=np.uint8)
    image = Image.fromarray(levels).resize((8000, 3000), Image.Resampling.BICUBIC)
    assert_equal_to_pillow(decode, corpus.encode(image, **options))


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
def test_equals_load_img_through_a_request(tmp_path):
    files = list(corpus.images(np.random.default_rng(5), 50, 61).items())
    files = [contents for name, contents in files if name not in ONE_LEVEL_OFF]
    served = SavedFunction(
        lambda contents: decode_and_resize(
            contents, image_size=(32, 40), interpolation="bilinear", crop_to_aspect_ratio=True, max_pixels=10_000
        ),
        tf.TensorSpec((None,), tf.string),
        tmp_path,
    )
    options = {"target_size": (32, 40), "interpolation": "bilinear", "keep_aspect_ratio": True}
    expected = [np.asarray(keras.utils.load_img(io.BytesIO(contents), **options)) for contents in files]
    np.testing.assert_array_equal(served(np.array(files, object)), np.stack(expected))
    served.close()


@pytest.mark.parametrize("contents", [b"", b"\0", b"not an image", b"II*\0" + bytes(200), b"\xff\xd8", bytes(10_000)])
def test_what_is_no_image_is_refused(decode, contents):
    assert "expected a JPEG, PNG, GIF, BMP or WebP file, received" in refusal(decode, contents)


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_file_is_refused(decode, kind):
    whole = corpus.images(np.random.default_rng(1), 30, 31)[kind]
    for length in sorted({1, 12, 30, len(whole) // 3, len(whole) // 2, len(whole) * 9 // 10}):
        if corpus.pillow_pixels(whole[:length]) is None:
            refusal(decode, whole[:length])


BOMB_SIDE = 60_000


def bombs():
    one = Image.fromarray(np.zeros((8, 8, 3), np.uint8))
    big, little = struct.pack(">H", BOMB_SIDE), struct.pack("<H", BOMB_SIDE)
    for progressive in (False, True):
        jpeg = corpus.encode(one, format="JPEG", progressive=progressive)
        yield f"jpeg progressive={progressive}", jpeg.replace(b"\0\x11\x08\0\x08\0\x08", b"\0\x11\x08" + big * 2)
    rows = b"".join(b"\0" + bytes(BOMB_SIDE // 8) for _ in range(100))
    yield "png", corpus.png(BOMB_SIDE, BOMB_SIDE, depth=1, color=0, rows=rows)
    gif = corpus.encode(one, format="GIF")
    yield "gif", gif[:6] + little * 2 + gif[10:]
    bmp = corpus.encode(one, format="BMP")
    yield "bmp", bmp[:18] + struct.pack("<ii", BOMB_SIDE, BOMB_SIDE) + bmp[26:]
    canvas = struct.pack("<I", BOMB_SIDE - 1)[:3]
    webp = b"WEBPVP8X\x0a\0\0\0\0\0\0\0" + canvas * 2
    yield "webp", b"RIFF" + struct.pack("<I", len(webp)) + webp


@pytest.mark.parametrize("contents", [pytest.param(contents, id=kind) for kind, contents in bombs()])
def test_a_decompression_bomb_is_refused_by_its_header(decode, contents):
    assert f"expected an image of at most 30000000 pixels, received {BOMB_SIDE}x{BOMB_SIDE}" in refusal(
        decode, contents
    )


def test_a_picture_of_one_endless_row_is_refused(decode):
    line = corpus.png(20_000_000, 1, depth=1, color=0, rows=bytes(1 + 20_000_000 // 8))
    assert "at most 65535 pixels on a side, received 20000000x1" in refusal(decode, line)


def test_a_gif_picture_larger_than_its_canvas_is_refused(decode):
    gif = corpus.encode(Image.fromarray(np.zeros((8, 8, 3), np.uint8)).quantize(4), format="GIF")
    at = gif.index(b"\x2c\0\0\0\0\x08\0\x08\0")
    large = gif[: at + 5] + struct.pack("<HH", BOMB_SIDE, BOMB_SIDE) + gif[at + 9 :]
    assert f"canvas of 8x8, received one of {BOMB_SIDE}x{BOMB_SIDE} at 0,0" in refusal(decode, large)


def test_only_the_first_picture_of_a_gif_is_read(decode):
    first = Image.fromarray(corpus.photo(np.random.default_rng(0), 20, 20)).quantize(64)
    still = corpus.encode(first, format="GIF")
    others = (b"\x2c\0\0\0\0" + struct.pack("<HH", 65535, 65535) + b"\0\x02\x02\x44\x01\0") * 50
    assert_equal_to_pillow(decode, still[:-1] + others + b";")


def test_gif_codes_that_mean_nothing_yet_are_refused(decode):
    gif = corpus.encode(Image.fromarray(corpus.photo(np.random.default_rng(0), 60, 60)).quantize(64), format="GIF")
    rng = np.random.default_rng(1)
    start = gif.index(b"\x2c\0\0\0\0\x3c\0\x3c\0") + 12
    refused = 0
    for _ in range(60):
        damaged = bytearray(gif)
        damaged[rng.integers(start, len(gif) - 2)] ^= 1 << rng.integers(8)
        if corpus.pillow_pixels(bytes(damaged)) is None:
            refusal(decode, bytes(damaged))
            refused += 1
    assert refused > 10


def test_damaged_gif_data_is_refused(decode):
    gif = corpus.encode(Image.fromarray(corpus.photo(np.random.default_rng(0), 20, 20)).quantize(64), format="GIF")
    head = gif.index(b"\x2c\0\0\0\0\x14\0\x14\0") + 10
    # Whole in its blocks, but the first code ends the data: nothing of the picture is ever written.
    empty = gif[:head] + b"\x06\x01\x41\0;"
    refusal(decode, empty)


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP", b"iTXt"])
def test_a_compressed_png_chunk_is_never_inflated(decode, kind):
    bomb = {b"zTXt": b"a\0\0", b"iCCP": b"a\0\0", b"iTXt": b"a\0\1\0\0\0"}[kind] + zlib.compress(bytes(50_000_000), 9)
    contents = corpus.png(2, 1, depth=8, color=0, rows=b"\0\x05\xfa", extra=corpus.png_chunk(kind, bomb))
    np.testing.assert_array_equal(decode(np.array(contents, object)), [[[5] * 3, [250] * 3]])


def _segments(marker, payload):
    pieces = [payload[at : at + 65_000] for at in range(0, len(payload), 65_000)]
    return b"".join(b"\xff" + marker + struct.pack(">H", len(piece) + 2) + piece for piece in pieces)


def _odd_jpegs():
    rng = np.random.default_rng(7)
    image = Image.fromarray(corpus.photo(rng, 61, 83))
    plain = corpus.encode(image, format="JPEG")
    exif = Image.Exif()
    exif[0x0112] = 3
    exif_bytes = exif.tobytes() + corpus.encode(image.resize((40, 30)), format="JPEG")
    yield "trailing zeros", plain + bytes(100_000)
    yield "trailing noise", plain + rng.bytes(300_000)
    yield "a second picture behind", plain + corpus.encode(image.rotate(90), format="JPEG", progressive=True)
    yield "preview in EXIF", corpus.encode(image, format="JPEG", exif=exif_bytes)
    yield "profile of 1 MB", corpus.encode(image, format="JPEG", icc_profile=rng.bytes(1_000_000))
    yield "white preview", plain[:2] + _segments(b"\xe2", b"\xff" * 500_000) + plain[2:]
    yield "fillers", plain[:2] + b"\xff" * 10_000 + plain[2:]
    yield "60,000 markers in segments", plain[:2] + _segments(b"\xe3", b"\xff\xe0" * 60_000) + plain[2:]
    for rows in (1, 3):
        yield f"restarts every {rows} rows", corpus.encode(image, format="JPEG", restart_marker_rows=rows)
    yield "progressive restarts", corpus.encode(image, format="JPEG", progressive=True, restart_marker_blocks=2)
    yield "progressive of 10 scans", corpus.encode(image, format="JPEG", progressive=True, quality=98)
    for size in ((8000, 30), (30, 8000), (8000, 3000)):
        wide = image.resize(size)
        yield f"progressive of {size}", corpus.encode(wide, format="JPEG", progressive=True, icc_profile=bytes(3000))


@pytest.mark.parametrize(("name", "contents"), [pytest.param(*file, id=file[0]) for file in _odd_jpegs()])
def test_odd_but_whole_jpegs_are_read(decode, name, contents):
    assert_equal_to_pillow(decode, contents)


def test_a_jpeg_of_more_markers_than_are_followed_is_refused(decode):
    plain = corpus.encode(Image.fromarray(corpus.photo(np.random.default_rng(0), 16, 16)), format="JPEG")
    crowded = plain[:2] + _segments(b"\xe3", b"\xff\xe0" * 70_000) + plain[2:]
    assert "expected a whole JPEG, received one whose header breaks" in refusal(decode, crowded)


def test_a_jpeg_of_endless_scans_is_refused(decode):
    jpeg = corpus.encode(
        Image.fromarray(corpus.photo(np.random.default_rng(0), 16, 16)), format="JPEG", progressive=True
    )
    scan = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    assert "at most 100 scans, received" in refusal(decode, jpeg[:-2] + scan * 200 + b"\xff\xd9")


def test_steps_through_a_file_are_bounded(decode):
    jpeg = b"\xff\xd8" + b"\xff\xfe\0\x02" * 1_000_000
    assert "breaks at byte" in refusal(decode, jpeg)
    png = corpus.png(1, 1, depth=8, color=0, rows=b"\0\0", extra=corpus.png_chunk(b"tEXt", b"") * 300_000)
    assert "breaks at byte" in refusal(decode, png)
    gif = b"GIF89a\x01\0\x01\0\0\0\0" + b"\x21\xfe" + b"\x01a" * 1_000_000
    assert "breaks at byte" in refusal(decode, gif)


@pytest.mark.parametrize(
    ("contents", "sentence"),
    [
        (
            corpus.encode(Image.new("CMYK", (8, 8)), format="JPEG").replace(b"Adobe", b"Azobe"),
            "expected a CMYK JPEG to carry an Adobe marker",
        ),
        (
            corpus.encode(
                Image.new("RGB", (8, 8)), format="WEBP", save_all=True, append_images=[Image.new("RGB", (8, 8), "red")]
            ),
            "expected a still WebP, received an animated one",
        ),
        (
            corpus.encode(
                Image.new("RGB", (8, 8)), format="PNG", save_all=True, append_images=[Image.new("RGB", (8, 8), "red")]
            ),
            "expected a still PNG, received an animated one",
        ),
        (
            b"BM" + struct.pack("<IIIIiiHHII", 70, 0, 54, 40, 1, 1, 1, 16, 0, 4) + bytes(24),
            "received 16 bits, compression 0, a header of 40 bytes",
        ),
    ],
)
def test_what_tensorflow_decodes_otherwise_is_left_to_the_client(decode, contents, sentence):
    assert corpus.pillow_pixels(contents) is not None
    message = refusal(decode, contents)
    assert sentence in message
    assert "decode it in the client (decode=client)" in message


def test_what_not_every_request_needs_is_in_functions_of_their_own_and_there_once():
    with tf.Graph().as_default() as graph:
        contents = tf.compat.v1.placeholder(tf.string, (None,))
        options = {"interpolation": "bilinear", "crop_to_aspect_ratio": False, "max_pixels": 1 << 20}
        decode_and_resize(contents, image_size=(32, 32), **options)
    definition = graph.as_graph_def()
    functions = {function.signature.name: function for function in definition.library.function}
    inlined, pending = [], list(definition.node)
    while pending:
        node = pending.pop()
        inlined.append(node.op)
        for attribute in node.attr.values():
            for called in (attribute.func, *attribute.list.func):
                if called.name and not functions[called.name].attr["_noinline"].b:
                    pending += functions[called.name].node_def
    assert "DecodeJpeg" in inlined and not {"DecodePng", "MatMul"} & set(inlined)
    anywhere = [node.op for function in functions.values() for node in function.node_def]
    # Products of an image that fits, in both passes, and of blocks; and the loop's over tiles in float64.
    assert anywhere.count("BatchMatMulV2") == 2 + 1
    assert anywhere.count("MatMul") == 1
