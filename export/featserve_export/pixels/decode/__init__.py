"""Decodes JPEG, PNG, GIF, BMP and WebP with TensorFlow's own operations to the pixels that Pillow gives, or refuses.

Each format first has its headers walked here, in the graph: that bounds the memory before anything is allocated, and
keeps from TensorFlow's decoders whatever they would decode otherwise than Pillow does, or not safely.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import TypeVar

import tensorflow as tf

from featserve_export.pixels.checks import check_image_bytes, first_problem, refuse, size_checks, text
from featserve_export.pixels.crc32 import crc32
from featserve_export.pixels.lzw import codes_make_sense
from featserve_export.pixels.resize import resize_images

_T = TypeVar("_T")

_ON_THE_CLIENT = "decode it in the client (decode=client) or convert it to PNG"
_RESEND = "check that the file is whole and send it again"
# Longer than every fixed header read below: reading one never passes the end, whatever was sent.
_PADDING = b"\0" * 64
# What a plain JPEG has in front of its scan at most: bytes, and segments: 1 << this.
_PLAIN_BYTES = 1 << 15
_PLAIN_DOUBLINGS = 6
_BYTE = (0, 255)
# The lowest and the highest value of the bytes of its start, scan header and frame header.
_PLAIN_JPEG = (
    *((byte, byte) for byte in (0xFF, 0xD8, 0xFF)),
    *((0xFF, 0xFF), (0xDA, 0xDA), _BYTE, _BYTE, (1, 3), *[_BYTE] * 5),
    *((0xFF, 0xFF), (0xC0, 0xC1), _BYTE, _BYTE, (8, 8), _BYTE, _BYTE, _BYTE, _BYTE, (1, 3)),
)
# Segments in front of the first scan: 1 << this. A camera writes a few dozen.
_JPEG_DOUBLINGS = 9
# What looks like a marker, in a preview or profile say, up to the first scan.
_MAX_JPEG_MARKERS = 1 << 16
# The same in the whole file, trailing data of a moving picture included.
_MAX_JPEG_CANDIDATES = 1 << 20
# libjpeg decodes all pixels once for each scan; encoders write about ten.
_MAX_JPEG_SCANS = 100


@tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
def decode_and_resize(
    image_bytes: tf.Tensor,
    *,
    image_size: tuple[int, int],
    interpolation: str,
    crop_to_aspect_ratio: bool,
    max_pixels: int,
) -> tf.Tensor:
    """Decodes and resizes a request's images side by side.

    Args:
        image_bytes: `(N,)` string, encoded images of any sizes.
        image_size: `(height, width)` of the result.
        interpolation: one of `INTERPOLATIONS`.
        crop_to_aspect_ratio: cuts the centre to the result's aspect ratio first.
        max_pixels: larger images are refused.

    Returns:
        `(N, height, width, 3)` uint8 RGB, equal to `keras.utils.load_img` of each.
    """

    def load(contents: tf.Tensor) -> tf.Tensor:
        resized = resize_images(
            decode_image(contents, max_pixels=max_pixels)[None],
            image_size=image_size,
            interpolation=interpolation,
            crop_to_aspect_ratio=crop_to_aspect_ratio,
        )
        return resized[0]

    return tf.map_fn(
        load,
        check_image_bytes(image_bytes),
        # Bounds the memory too: as many decoded images exist at once.
        parallel_iterations=8,
        fn_output_signature=tf.TensorSpec((*image_size, 3), tf.uint8),
    )


@tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
def decode_image(contents: tf.Tensor, *, max_pixels: int) -> tf.Tensor:
    """Decodes one image as `PIL.Image.open(contents).convert("RGB")` does.

    What cannot be decoded to Pillow's pixels fails with INVALID_ARGUMENT when it runs, and so does an image of more
    than `max_pixels`, before it is decoded.

    Args:
        contents: scalar string, the encoded image.
        max_pixels: larger images are refused.

    Returns:
        `(H, W, 3)` uint8 RGB.
    """
    pixels = tf.cond(
        _is_plain_jpeg(contents, max_pixels), lambda: _decode_jpeg(contents), lambda: _closely(contents, max_pixels)
    )
    return tf.ensure_shape(pixels, (None, None, 3))


# A function that is not inlined costs one operation where it is not called, and not all of its own.
@tf.function(autograph=False, experimental_attributes={"_noinline": True})  # type: ignore[untyped-decorator]
def _closely(contents: tf.Tensor, max_pixels: int) -> tf.Tensor:
    """Decodes or refuses a file of any kind."""
    file = _File.of(contents)
    starts = [
        file.starts_with(b"\xff\xd8\xff"),
        file.starts_with(b"\x89PNG\r\n\x1a\n"),
        file.starts_with(b"GIF87a") | file.starts_with(b"GIF89a"),
        file.starts_with(b"BM"),
        file.starts_with(b"RIFF") & file.starts_with(b"WEBP", at=8),
    ]
    decoders: list[Callable[[_File, int], tf.Tensor]] = [_jpeg, _png, _gif, _bmp, _webp, _unknown]
    index = tf.argmax(tf.stack([*starts, tf.constant(True)]), output_type=tf.int32)
    return tf.switch_case(index, [functools.partial(decoder, file, max_pixels) for decoder in decoders])


@dataclasses.dataclass(frozen=True, kw_only=True)
class _File:
    contents: tf.Tensor  # scalar string
    head: tf.Tensor  # its first 16 bytes, scalar string, zeros beyond the end
    padded: tf.Tensor  # its bytes, uint8, and the padding
    size: tf.Tensor  # scalar int32, without the padding

    @classmethod
    def of(cls, contents: tf.Tensor) -> _File:
        padded = tf.io.decode_raw(tf.strings.join([contents, _PADDING]), tf.uint8)
        head = tf.strings.substr(tf.strings.join([tf.strings.substr(contents, 0, 16), _PADDING]), 0, 16)
        return cls(contents=contents, head=head, padded=padded, size=tf.strings.length(contents))

    def read(self, at: tf.Tensor | int, count: int) -> list[tf.Tensor]:
        """`count` bytes as scalars int32; zeros beyond the end."""
        at = tf.clip_by_value(at, 0, self.size)
        return tf.unstack(tf.cast(tf.ensure_shape(self.padded[at : at + count], (count,)), tf.int32))  # type: ignore[no-any-return]

    def big(self, at: tf.Tensor | int, count: int) -> tf.Tensor:
        """An unsigned big-endian number of at most 4 bytes, int64."""
        return _number(self.read(at, count))

    def little(self, at: tf.Tensor | int, count: int) -> tf.Tensor:
        """An unsigned little-endian number of at most 4 bytes, int64."""
        return _number(self.read(at, count)[::-1])

    def starts_with(self, magic: bytes, at: int = 0) -> tf.Tensor:
        return tf.equal(tf.strings.substr(self.head, at, len(magic)), magic)

    def cut(self, start: tf.Tensor | int, end: tf.Tensor | int) -> tf.Tensor:
        """Bytes `start` to `end` as a scalar string."""
        start = tf.clip_by_value(start, 0, self.size)
        return tf.strings.substr(self.contents, start, tf.maximum(end - start, 0))


def _number(digits: Sequence[tf.Tensor]) -> tf.Tensor:
    value = tf.constant(0, tf.int64)
    for digit in digits:
        value = value * 256 + tf.cast(digit, tf.int64)
    return value


def _checked(value: _T, checks: Sequence[tuple[tf.Tensor, tf.Tensor]]) -> _T:
    """The tensors of `value`, once all checks hold."""
    with tf.control_dependencies([refuse(first_problem(checks))]):
        return tf.nest.map_structure(tf.identity, value)  # type: ignore[no-any-return]


def _unknown(file: _File, max_pixels: int) -> tf.Tensor:
    del max_pixels
    received = tf.where(tf.equal(file.size, 0), "no bytes", text(file.size, " bytes that start otherwise"))
    sentence = text("expected a JPEG, PNG, GIF, BMP or WebP file, received ", received, f": {_ON_THE_CLIENT}")
    return _checked(tf.zeros([1, 1, 3], tf.uint8), [(tf.constant(False), sentence)])


def _jpeg(file: _File, max_pixels: int) -> tf.Tensor:
    walked = _walk_jpeg(file)
    precision, *frame_size, components = file.read(walked.frame + 4, 6)
    height, width = _number(frame_size[:2]), _number(frame_size[2:])
    contents = _checked(
        file.contents,
        [
            (
                walked.whole & (walked.frame > 0),
                text("expected a whole JPEG, received one whose header breaks at byte ", walked.at, f": {_RESEND}"),
            ),
            (
                walked.supported
                & tf.equal(precision, 8)
                & (tf.equal(components, 1) | (components >= 3))
                & (components <= 4),
                text(
                    "expected a baseline or progressive JPEG of 8 bits and 1, 3 or 4 components, received ",
                    precision,
                    " bits, ",
                    components,
                    f" components or another process: {_ON_THE_CLIENT}",
                ),
            ),
            *size_checks(height, width, max_pixels),
            (
                walked.scans <= _MAX_JPEG_SCANS,
                text(
                    f"expected a JPEG of at most {_MAX_JPEG_SCANS} scans, received ",
                    walked.scans,
                    f": {_ON_THE_CLIENT}",
                ),
            ),
            (
                (components < 4) | walked.adobe,
                text(f"expected a CMYK JPEG to carry an Adobe marker, received one without: {_ON_THE_CLIENT}"),
            ),
        ],
    )
    return _decode_jpeg(contents)


def _decode_jpeg(contents: tf.Tensor) -> tf.Tensor:
    # TensorFlow's default, the fast transform, is up to 18 levels off.
    return tf.io.decode_jpeg(contents, channels=3, dct_method="INTEGER_ACCURATE")


def _is_plain_jpeg(contents: tf.Tensor, max_pixels: int) -> tf.Tensor:
    """Tells, in few operations, a JPEG as most are: all pixels in one scan, which starts soon, and not too many."""
    data = tf.io.decode_raw(contents, tf.uint8, fixed_length=_PLAIN_BYTES + 16)
    places = tf.reshape(tf.cast(tf.where(tf.equal(data[:_PLAIN_BYTES], 0xFF)), tf.int32), [-1])
    # Two ends, so that there is a second place whatever was sent.
    places = tf.concat([places, [_PLAIN_BYTES, _PLAIN_BYTES]], 0)
    codes, high, low = tf.unstack(tf.cast(tf.gather(data, places[:, None] + [1, 2, 3]), tf.int32), axis=1)
    length = 2 + high * 256 + low
    ends = places + length
    last = tf.size(places) - 1
    following = tf.minimum(tf.searchsorted(places, ends), last)
    leads = tf.equal(tf.gather(places, following), ends) & (length >= 4) & tf.gather(_JPEG_HAS_LENGTH, codes)
    # A scan leads to itself, and so does what is no segment.
    following = tf.where(leads, following, tf.range(last + 1))
    path = tf.constant([1])
    for _ in range(_PLAIN_DOUBLINGS):
        path = tf.concat([path, tf.gather(following, path)], 0)
        following = tf.gather(following, following)
    frame = tf.reduce_max(tf.where(tf.gather(_JPEG_IS_FRAME, tf.gather(codes, path)), path, 0))
    at = tf.gather(places, tf.stack([path[-1], frame]))
    headers = tf.reshape(tf.gather(data, at[:, None] + tf.range(10)), [-1])
    seen = tf.cast(tf.concat([data[:3], headers], 0), tf.int64)
    lowest, highest = zip(*_PLAIN_JPEG, strict=True)
    expected = tf.reduce_all((seen >= lowest) & (seen <= highest))
    height, low_height, width, low_width, components = tf.unstack(seen[-5:])
    pixels = (height * 256 + low_height) * (width * 256 + low_width)
    complete = tf.equal(seen[7], components) & tf.not_equal(components, 2)
    return expected & complete & (pixels > 0) & (pixels <= max_pixels)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _JpegHeader:
    at: tf.Tensor  # where the walk ended
    frame: tf.Tensor  # of the frame header's marker; 0 where there is none
    supported: tf.Tensor
    adobe: tf.Tensor
    whole: tf.Tensor  # the walk reached the first scan
    scans: tf.Tensor  # at most as many scans are in the file


_JPEG_UNKNOWN, _JPEG_FILLER, _JPEG_BARE, _JPEG_SEGMENT, _JPEG_FRAME, _JPEG_APP14, _JPEG_SCAN = range(7)


def _jpeg_markers() -> list[int]:
    kinds = [_JPEG_UNKNOWN] * 256
    kinds[0x01] = _JPEG_BARE
    kinds[0xFF] = _JPEG_FILLER
    for marker in (0xC4, 0xCC, 0xDB, 0xDC, 0xDD, 0xDE, 0xDF, 0xFE, *range(0xE0, 0xF0)):
        kinds[marker] = _JPEG_SEGMENT
    for marker in {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}:
        kinds[marker] = _JPEG_FRAME
    kinds[0xEE] = _JPEG_APP14
    kinds[0xDA] = _JPEG_SCAN
    return kinds


_JPEG_HAS_LENGTH = [kind in (_JPEG_SEGMENT, _JPEG_FRAME, _JPEG_APP14) for kind in _jpeg_markers()]
_JPEG_IS_FRAME = [kind == _JPEG_FRAME for kind in _jpeg_markers()]


def _walk_jpeg(file: _File) -> _JpegHeader:
    """Steps from marker to marker up to the first scan, as Pillow does before it hands the file to libjpeg.

    All that might be a marker is looked up at once, with the marker that each leads to. Following every such step by
    another of the same length doubles the path in each round.

    `tf.io.extract_jpeg_shape` is no substitute: it decodes all coefficients of a progressive file to tell its size.
    """
    # Neither stuffed bytes nor restarts, which is all that follows in the pixels' data.
    second = file.padded[1:]
    stuffed = tf.equal(second, 0) | tf.equal(tf.bitwise.bitwise_and(second, 0xF8), 0xD0)
    ff = tf.reshape(tf.where(tf.equal(file.padded[:-1], 0xFF) & ~stuffed), [-1])
    crowded = tf.size(ff) > _MAX_JPEG_CANDIDATES
    ff = tf.cast(ff[:_MAX_JPEG_CANDIDATES], tf.int32)
    codes = tf.cast(tf.gather(second, ff), tf.int32)
    scans = tf.math.count_nonzero(tf.equal(codes, 0xDA))
    kinds = tf.gather(tf.constant(_jpeg_markers()), codes)
    markers = tf.reshape(tf.where(kinds > _JPEG_FILLER), [-1])[:_MAX_JPEG_MARKERS]
    # An end behind all others: what leads to no marker leads there.
    places = tf.concat([tf.gather(ff, markers), file.size[None]], 0)
    # A marker may have fillers in front. Counted as steps, the white of an uncompressed preview would be too many.
    runs = tf.boolean_mask(ff, tf.concat([[True], ff[1:] > ff[:-1] + 1], 0)[: tf.size(ff)])
    fillers = tf.gather(tf.concat([file.size[None], runs], 0), tf.searchsorted(runs, places, side="right"))
    kinds = tf.concat([tf.gather(kinds, markers), [_JPEG_UNKNOWN]], 0)
    last = tf.size(places) - 1
    high, low = (tf.cast(tf.gather(file.padded, places + offset), tf.int32) for offset in (2, 3))
    length = tf.where(kinds < _JPEG_SEGMENT, kinds, 2 + high * 256 + low)
    length = tf.where(tf.equal(kinds, _JPEG_SCAN), 0, length)
    ends = places + length
    sound = (ends <= file.size) & ((kinds < _JPEG_SEGMENT) | (length >= 4) | tf.equal(kinds, _JPEG_SCAN))

    def marker_at(positions: tf.Tensor) -> tf.Tensor:
        nearest = tf.minimum(tf.searchsorted(places, positions), last)
        return tf.where(tf.gather(fillers, nearest) <= positions, nearest, last)

    following = tf.where(sound, marker_at(ends), last)
    path = marker_at(tf.constant([2]))
    for doubling in range(_JPEG_DOUBLINGS):
        path = tf.concat([path, tf.gather(following, path)], 0)
        if doubling + 1 < _JPEG_DOUBLINGS:
            following = tf.gather(following, following)
    kinds, places = tf.gather(kinds, path), tf.gather(places, path)
    whole = tf.equal(kinds[-1], _JPEG_SCAN) & ~crowded
    frame = tf.reduce_max(tf.where(tf.equal(kinds, _JPEG_FRAME), places, 0))
    app14 = tf.reduce_max(tf.where(tf.equal(kinds, _JPEG_APP14), places, 0))
    high, low, *name = file.read(app14 + 2, 7)
    adobe = (app14 > 0) & (high * 256 + low >= 14)
    for byte, letter in zip(name, b"Adobe", strict=True):
        adobe &= tf.equal(byte, letter)
    return _JpegHeader(
        at=tf.reduce_max(tf.where(kinds > _JPEG_UNKNOWN, places, 2)),
        frame=frame,
        supported=file.read(frame + 1, 1)[0] <= 0xC2,
        adobe=adobe,
        whole=whole,
        scans=scans,
    )


def _any_of(value: tf.Tensor, choices: Sequence[int]) -> tf.Tensor:
    return tf.reduce_any(tf.equal(value, choices))


_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


def _png(file: _File, max_pixels: int) -> tf.Tensor:
    """Keeps of the file what makes up the pixels: libpng never meets a compressed profile or text, nor tRNS or gAMA."""
    at, palette, palette_end, first, last, animated = _walk_png(file)
    width, height = file.big(16, 4), file.big(20, 4)
    depth, color, compression, filtering, interlace = file.read(24, 5)
    contents = _checked(
        tf.strings.join([file.cut(0, 33), file.cut(palette, palette_end), file.cut(first, last), _PNG_END]),
        [
            (
                tf.equal(file.big(8, 4), 13) & file.starts_with(b"IHDR", at=12) & (last > first),
                text("expected a whole PNG, received one that breaks at byte ", at, f": {_RESEND}"),
            ),
            *size_checks(height, width, max_pixels),
            (
                _any_of(depth, (1, 2, 4, 8, 16))
                & _any_of(color, (0, 2, 3, 4, 6))
                & tf.equal(compression + filtering, 0)
                & (interlace <= 1),
                text("expected a PNG of a known kind, received one of colour type ", color, f": {_RESEND}"),
            ),
            (~animated, text(f"expected a still PNG, received an animated one: {_ON_THE_CLIENT}")),
        ],
    )

    def gray_of_16_bits() -> tf.Tensor:
        # Pillow clips such a picture where it scales all others.
        wide = tf.io.decode_png(contents, channels=1, dtype=tf.uint16)
        return tf.repeat(tf.cast(tf.minimum(tf.cast(wide, tf.int32), 255), tf.uint8), 3, axis=2)

    return tf.cond(
        tf.equal(depth, 16) & tf.equal(color, 0), gray_of_16_bits, lambda: tf.io.decode_png(contents, channels=3)
    )


def _walk_png(file: _File) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Finds the palette and the first run of IDAT chunks; `last` is 0 unless the file is whole.

    As Pillow does, it checks the sums of all chunks up to the pixels. libpng checks those that it gets.
    """
    max_steps = 64 + file.size // 1024

    def step(steps, at, palette, palette_end, first, last, animated, going):  # type: ignore[no-untyped-def]
        length = file.big(at, 4)
        kind = file.big(at + 4, 4)
        end = tf.cast(tf.minimum(tf.cast(at, tf.int64) + 12 + length, 1 << 30), tf.int32)
        is_data = tf.equal(kind, _four(b"IDAT"))
        is_palette = tf.equal(kind, _four(b"PLTE"))
        known = tf.strings.regex_full_match(file.cut(at + 4, at + 8), "[A-Za-z0-9_]{4}")
        # Pillow takes a second header for the true one.
        known &= tf.equal(at, 8) | tf.not_equal(kind, _four(b"IHDR"))
        sound = (
            known
            & (end <= file.size)
            & tf.cond(
                (end <= file.size) & (first < 1) & ~is_data,
                lambda: tf.equal(tf.cast(crc32(file.padded[at + 4 : end - 4]), tf.int64), file.big(end - 4, 4)),
                lambda: True,
            )
        )
        return (
            steps + 1,
            tf.where(sound, end, at),
            tf.where(is_palette & (first < 1), at, palette),
            tf.where(is_palette & (first < 1), end, palette_end),
            tf.where(is_data & (first < 1), at, first),
            # The run is over at the first other chunk: `last` no longer is where that one starts.
            tf.where(is_data & ((first < 1) | tf.equal(last, at)), end, last),
            animated | tf.equal(kind, _four(b"acTL")),
            sound & ~tf.equal(kind, _four(b"IEND")),
        )

    def going(steps, at, palette, palette_end, first, last, animated, going):  # type: ignore[no-untyped-def]
        del at, palette, palette_end, first, last, animated
        return going & (steps < max_steps)

    zero = tf.constant(0)
    _, at, palette, palette_end, first, last, animated, _ = tf.while_loop(
        going,
        step,
        (zero, tf.constant(8), zero, zero, zero, zero, tf.constant(False), tf.constant(True)),
        parallel_iterations=1,
    )
    whole = tf.equal(file.cut(at - 12, at), _PNG_END)
    return at, palette, palette_end, first, tf.where(whole, last, 0), animated


def _four(name: bytes) -> int:
    return int.from_bytes(name, "big")


def _gif(file: _File, max_pixels: int) -> tf.Tensor:
    """Keeps the first picture: TensorFlow would decode all of them, and lay out a canvas for the largest."""
    head = 13 + _color_table_size(file.read(10, 1)[0])
    at, image, end, blocks = _walk_gif(file, head)
    bits = file.read(image + 10 + _color_table_size(file.read(image + 9, 1)[0]), 1)[0]
    width, height = file.little(6, 2), file.little(8, 2)
    left, top = file.little(image + 1, 2), file.little(image + 3, 2)
    frame_width, frame_height = file.little(image + 5, 2), file.little(image + 7, 2)
    contents = _checked(
        tf.strings.join([file.cut(0, head), file.cut(image, end), b";"]),
        [
            (
                (image > 0) & (end > image),
                text("expected a whole GIF, received one that breaks at byte ", at, f": {_RESEND}"),
            ),
            *size_checks(height, width, max_pixels),
            (
                _any_of(bits, range(2, 9)) & codes_make_sense(_joined(file, blocks), tf.clip_by_value(bits, 2, 8)),
                text(f"expected a GIF whose pixels decompress, received one that does not: {_RESEND}"),
            ),
            (
                tf.equal(left + top, 0) & tf.equal(frame_width, width) & tf.equal(frame_height, height),
                text(
                    "expected a GIF whose first picture fills its canvas of ",
                    width,
                    "x",
                    height,
                    ", received one of ",
                    frame_width,
                    "x",
                    frame_height,
                    " at ",
                    left,
                    ",",
                    top,
                    f": {_ON_THE_CLIENT}",
                ),
            ),
        ],
    )
    return tf.io.decode_gif(contents)[0]


def _joined(file: _File, blocks: tf.Tensor) -> tf.Tensor:
    """The bytes of sub-blocks, which each start with their length."""
    lengths = tf.cast(tf.gather(file.padded, blocks), tf.int32)
    before = tf.cumsum(lengths, exclusive=True)
    total = tf.reduce_sum(lengths)
    return tf.gather(file.padded, tf.range(total) + tf.repeat(blocks + 1 - before, lengths))


def _color_table_size(flags: tf.Tensor) -> tf.Tensor:
    return tf.where(flags >= 128, 3 * tf.bitwise.left_shift(2, tf.bitwise.bitwise_and(flags, 7)), 0)


def _walk_gif(file: _File, head: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Finds the first picture and where its sub-blocks start.

    `at` is where the walk ended, `end` is 0 where the file breaks off.
    """
    max_steps = 64 + file.size // 128

    def step(steps, at, image, inside, end, blocks, going):  # type: ignore[no-untyped-def]
        kind, *rest = file.read(at, 10)
        is_image = ~inside & tf.equal(kind, 0x2C)
        is_extension = ~inside & tf.equal(kind, 0x21)
        is_last = inside & tf.equal(kind, 0)
        done = is_last & (image > 0)
        advance = tf.where(is_image, 11 + _color_table_size(rest[8]), tf.where(is_extension, 2, 1 + kind))
        # Pillow reads past an extension that starts with an empty block.
        known = is_image | (is_extension & (rest[1] > 0)) | inside
        sound = known & (at + advance <= file.size)
        return (
            steps + 1,
            tf.where(sound, at + advance, at),
            tf.where(is_image & sound, at, image),
            is_image | is_extension | (inside & ~is_last),
            tf.where(done & sound, at + 1, end),
            blocks.write(steps, tf.where(inside & sound & (image > 0), at, 0)),
            sound & ~done,
        )

    def going(steps, at, image, inside, end, blocks, going):  # type: ignore[no-untyped-def]
        del at, image, inside, end, blocks
        return going & (steps < max_steps)

    zero = tf.constant(0)
    blocks = tf.TensorArray(tf.int32, size=max_steps, element_shape=())
    steps, at, image, _, end, blocks, _ = tf.while_loop(
        going, step, (zero, head, zero, tf.constant(False), zero, blocks, tf.constant(True)), parallel_iterations=1
    )
    starts = blocks.stack()[:steps]
    return at, image, end, tf.boolean_mask(starts, starts > 0)


def _bmp(file: _File, max_pixels: int) -> tf.Tensor:
    """Uncompressed files of 1, 4, 8, 24 and 32 bits, read here: TensorFlow takes palette indices for gray levels."""
    header = file.little(14, 4)
    offset, colors = file.little(10, 4), file.little(46, 4)
    width, raw_height = file.little(18, 4), file.little(22, 4)
    # As Pillow has it: the top byte alone tells a file written from the top.
    from_top = raw_height >= 0xFF000000
    height = tf.where(from_top, (1 << 32) - raw_height, raw_height)
    bits, compression = file.little(28, 2), file.little(30, 4)
    stride = (width * bits + 31) // 32 * 4
    palette_at = 14 + header
    colors = tf.where((bits > 8) | (colors > 0), colors, tf.bitwise.left_shift(tf.constant(1, tf.int64), bits))
    # As Pillow has it: pixels said to start right behind the header start behind the palette.
    palette_end = palette_at + tf.where(bits > 8, tf.constant(0, tf.int64), 4 * colors)
    pixels_at = tf.where((offset > 0) & tf.not_equal(offset, palette_at), offset, palette_end)
    end = pixels_at + stride * height
    size = tf.cast(file.size, tf.int64)
    bits, data = _checked(
        (bits, file.padded),
        [
            (
                _any_of(header, (40, 52, 56, 108, 124)) & tf.equal(compression, 0) & _any_of(bits, (1, 4, 8, 24, 32)),
                text(
                    "expected an uncompressed BMP of 1, 4, 8, 24 or 32 bits, received ",
                    bits,
                    " bits, compression ",
                    compression,
                    ", a header of ",
                    header,
                    f" bytes: {_ON_THE_CLIENT}",
                ),
            ),
            *size_checks(height, width, max_pixels),
            (
                (bits > 8) | ((colors <= 256) & (palette_at + 4 * colors <= size)),
                text("expected a BMP palette of at most 256 colours, received ", colors, f": {_ON_THE_CLIENT}"),
            ),
            (
                (end <= size) & (pixels_at >= palette_at),
                text("expected a BMP of at least ", end, " bytes, received ", size, f": {_RESEND}"),
            ),
        ],
    )
    rows = tf.reshape(data[pixels_at:end], tf.stack([height, stride]))
    rows = tf.cond(from_top, lambda: rows, lambda: tf.reverse(rows, [0]))

    def true_color() -> tf.Tensor:
        pixels = tf.reshape(rows[:, : width * bits // 8], tf.stack([height, width, bits // 8]))
        return tf.reverse(pixels[:, :, :3], [2])

    def indexed() -> tf.Tensor:
        per_byte = 8 // bits
        shifts = tf.cast((per_byte - 1 - tf.range(per_byte)) * bits, tf.uint8)
        mask = tf.cast(tf.bitwise.left_shift(tf.constant(1, tf.int64), bits) - 1, tf.uint8)
        indices = tf.bitwise.bitwise_and(tf.bitwise.right_shift(rows[:, :, None], shifts), mask)
        indices = tf.reshape(indices, tf.stack([height, -1]))[:, :width]
        palette = tf.reshape(data[palette_at : palette_at + 4 * colors], [-1, 4])[:, 2::-1]
        # Pillow takes a palette of grays in order for no palette at all, whatever the bits.
        two = tf.equal(colors, 2)
        ramp = tf.cast(tf.range(colors) * tf.where(two, tf.constant(255, tf.int64), 1), tf.uint8)
        is_ramp = tf.reduce_all(tf.equal(palette, ramp[:, None]))
        largest = tf.cast(tf.reduce_max(indices), tf.int64)
        checks = [
            (
                largest < colors,
                text("expected indices into a BMP palette of ", colors, ", received ", largest, f": {_RESEND}"),
            ),
            (
                ~is_ramp | tf.equal(bits, tf.where(two, tf.constant(1, tf.int64), 8)),
                text("expected a palette of colours for ", bits, f" bits, received ordered grays: {_ON_THE_CLIENT}"),
            ),
        ]
        return tf.gather(palette, tf.cast(_checked(indices, checks), tf.int32))

    return tf.cond(bits > 8, true_color, indexed)


def _webp(file: _File, max_pixels: int) -> tf.Tensor:
    kind = file.big(12, 4)
    lossy, lossless, extended = (tf.equal(kind, _four(name)) for name in (b"VP8 ", b"VP8L", b"VP8X"))
    packed = file.little(21, 4)
    width = tf.where(
        extended, file.little(24, 3) + 1, tf.where(lossless, packed % 16384 + 1, file.little(26, 2) % 16384)
    )
    height = tf.where(
        extended, file.little(27, 3) + 1, tf.where(lossless, packed // 16384 % 16384 + 1, file.little(28, 2) % 16384)
    )
    flags = file.read(20, 1)[0]
    # The lossless decoder of TensorFlow reads on behind the end that the file states.
    stated = tf.cast(file.little(4, 4) + 8, tf.int32)
    contents = _checked(
        file.cut(0, stated),
        [
            (
                (lossy | lossless | extended)
                & (file.little(16, 4) > 0)
                & (file.little(16, 4) + 12 <= file.little(4, 4))
                & (file.little(4, 4) + 8 <= tf.cast(file.size, tf.int64)),
                text("expected a whole WebP, received ", file.size, f" bytes that are not: {_RESEND}"),
            ),
            *size_checks(height, width, max_pixels),
            (
                ~(extended & tf.equal(tf.bitwise.bitwise_and(flags, 2), 2)),
                text(f"expected a still WebP, received an animated one: {_ON_THE_CLIENT}"),
            ),
        ],
    )
    # decode_image, not decode_webp: a server older than WebP support then still loads the model and refuses the file.
    return tf.raw_ops.DecodeImage(contents=contents, channels=0, expand_animations=False)[:, :, :3]
