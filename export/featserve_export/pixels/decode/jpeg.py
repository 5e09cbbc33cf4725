"""JPEG: the header walk that Pillow makes, and the decoder."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from ..checks import size_checks, text
from .file import ON_THE_CLIENT, RESEND, File, checked, number

# What a plain JPEG has in front of its scan at most: bytes, and segments: 1 << this.
_PLAIN_BYTES = 1 << 15
_PLAIN_DOUBLINGS = 6
_BYTE = (0, 255)
# The lowest and the highest value of the bytes of its start, scan header and frame header.
_PLAIN_HEADERS = (
    *((byte, byte) for byte in (0xFF, 0xD8, 0xFF)),
    *((0xFF, 0xFF), (0xDA, 0xDA), _BYTE, _BYTE, (1, 3), *[_BYTE] * 5),
    *((0xFF, 0xFF), (0xC0, 0xC1), _BYTE, _BYTE, (8, 8), _BYTE, _BYTE, _BYTE, _BYTE, (1, 3)),
)
# Segments in front of the first scan: 1 << this. A camera writes a few dozen.
_DOUBLINGS = 9
# What looks like a marker, in a preview or profile say, up to the first scan.
_MAX_MARKERS = 1 << 16
# The same in the whole file, trailing data of a moving picture included.
_MAX_CANDIDATES = 1 << 20
# libjpeg decodes all pixels once for each scan; encoders write about ten.
_MAX_SCANS = 100

_UNKNOWN, _FILLER, _BARE, _SEGMENT, _FRAME, _APP14, _SCAN = range(7)


def _marker_kinds() -> list[int]:
    kinds = [_UNKNOWN] * 256
    kinds[0x01] = _BARE
    kinds[0xFF] = _FILLER
    for marker in (0xC4, 0xCC, 0xDB, 0xDC, 0xDD, 0xDE, 0xDF, 0xFE, *range(0xE0, 0xF0)):
        kinds[marker] = _SEGMENT
    for marker in {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}:
        kinds[marker] = _FRAME
    kinds[0xEE] = _APP14
    kinds[0xDA] = _SCAN
    return kinds


_HAS_LENGTH = [kind in (_SEGMENT, _FRAME, _APP14) for kind in _marker_kinds()]
_IS_FRAME = [kind == _FRAME for kind in _marker_kinds()]


def decode(file: File, max_pixels: int) -> tf.Tensor:
    """Decodes baseline and progressive files, or refuses them."""
    walked = _walk(file)
    precision, *frame_size, components = file.read(walked.frame + 4, 6)
    height, width = number(frame_size[:2]), number(frame_size[2:])
    contents = checked(
        file.contents,
        [
            (
                walked.whole & (walked.frame > 0),
                text("expected a whole JPEG, received one whose header breaks at byte ", walked.at, f": {RESEND}"),
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
                    f" components or another process: {ON_THE_CLIENT}",
                ),
            ),
            *size_checks(height, width, max_pixels),
            (
                walked.scans <= _MAX_SCANS,
                text(
                    f"expected a JPEG of at most {_MAX_SCANS} scans, received ",
                    walked.scans,
                    f": {ON_THE_CLIENT}",
                ),
            ),
            (
                (components < 4) | walked.adobe,
                text(f"expected a CMYK JPEG to carry an Adobe marker, received one without: {ON_THE_CLIENT}"),
            ),
        ],
    )
    return decode_plain(contents)


def decode_plain(contents: tf.Tensor) -> tf.Tensor:
    """Decodes a file that has been looked at."""
    # TensorFlow's default, the fast transform, is up to 18 levels off.
    return tf.io.decode_jpeg(contents, channels=3, dct_method="INTEGER_ACCURATE")


def is_plain(contents: tf.Tensor, max_pixels: int) -> tf.Tensor:
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
    leads = tf.equal(tf.gather(places, following), ends) & (length >= 4) & tf.gather(_HAS_LENGTH, codes)
    # A scan leads to itself, and so does what is no segment.
    following = tf.where(leads, following, tf.range(last + 1))
    path = tf.constant([1])
    for _ in range(_PLAIN_DOUBLINGS):
        path = tf.concat([path, tf.gather(following, path)], 0)
        following = tf.gather(following, following)
    frame = tf.reduce_max(tf.where(tf.gather(_IS_FRAME, tf.gather(codes, path)), path, 0))
    at = tf.gather(places, tf.stack([path[-1], frame]))
    headers = tf.reshape(tf.gather(data, at[:, None] + tf.range(10)), [-1])
    seen = tf.cast(tf.concat([data[:3], headers], 0), tf.int64)
    lowest, highest = zip(*_PLAIN_HEADERS, strict=True)
    expected = tf.reduce_all((seen >= lowest) & (seen <= highest))
    height, low_height, width, low_width, components = tf.unstack(seen[-5:])
    pixels = (height * 256 + low_height) * (width * 256 + low_width)
    complete = tf.equal(seen[7], components) & tf.not_equal(components, 2)
    return expected & complete & (pixels > 0) & (pixels <= max_pixels)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Header:
    at: tf.Tensor  # where the walk ended
    frame: tf.Tensor  # of the frame header's marker; 0 where there is none
    supported: tf.Tensor
    adobe: tf.Tensor
    whole: tf.Tensor  # the walk reached the first scan
    scans: tf.Tensor  # at most as many scans are in the file


def _walk(file: File) -> _Header:
    """Steps from marker to marker up to the first scan, as Pillow does before it hands the file to libjpeg.

    All that might be a marker is looked up at once, with the marker that each leads to. Following every such step by
    another of the same length doubles the path in each round.

    `tf.io.extract_jpeg_shape` is no substitute: it decodes all coefficients of a progressive file to tell its size.
    """
    # Neither stuffed bytes nor restarts, which is all that follows in the pixels' data.
    second = file.padded[1:]
    stuffed = tf.equal(second, 0) | tf.equal(tf.bitwise.bitwise_and(second, 0xF8), 0xD0)
    ff = tf.reshape(tf.where(tf.equal(file.padded[:-1], 0xFF) & ~stuffed), [-1])
    crowded = tf.size(ff) > _MAX_CANDIDATES
    ff = tf.cast(ff[:_MAX_CANDIDATES], tf.int32)
    codes = tf.cast(tf.gather(second, ff), tf.int32)
    scans = tf.math.count_nonzero(tf.equal(codes, 0xDA))
    kinds = tf.gather(tf.constant(_marker_kinds()), codes)
    markers = tf.reshape(tf.where(kinds > _FILLER), [-1])[:_MAX_MARKERS]
    # An end behind all others: what leads to no marker leads there.
    places = tf.concat([tf.gather(ff, markers), file.size[None]], 0)
    # A marker may have fillers in front. Counted as steps, the white of an uncompressed preview would be too many.
    runs = tf.boolean_mask(ff, tf.concat([[True], ff[1:] > ff[:-1] + 1], 0)[: tf.size(ff)])
    fillers = tf.gather(tf.concat([file.size[None], runs], 0), tf.searchsorted(runs, places, side="right"))
    kinds = tf.concat([tf.gather(kinds, markers), [_UNKNOWN]], 0)
    last = tf.size(places) - 1
    high, low = (tf.cast(tf.gather(file.padded, places + offset), tf.int32) for offset in (2, 3))
    length = tf.where(kinds < _SEGMENT, kinds, 2 + high * 256 + low)
    length = tf.where(tf.equal(kinds, _SCAN), 0, length)
    ends = places + length
    sound = (ends <= file.size) & ((kinds < _SEGMENT) | (length >= 4) | tf.equal(kinds, _SCAN))

    def marker_at(positions: tf.Tensor) -> tf.Tensor:
        nearest = tf.minimum(tf.searchsorted(places, positions), last)
        return tf.where(tf.gather(fillers, nearest) <= positions, nearest, last)

    following = tf.where(sound, marker_at(ends), last)
    path = marker_at(tf.constant([2]))
    for doubling in range(_DOUBLINGS):
        path = tf.concat([path, tf.gather(following, path)], 0)
        if doubling + 1 < _DOUBLINGS:
            following = tf.gather(following, following)
    kinds, places = tf.gather(kinds, path), tf.gather(places, path)
    whole = tf.equal(kinds[-1], _SCAN) & ~crowded
    frame = tf.reduce_max(tf.where(tf.equal(kinds, _FRAME), places, 0))
    app14 = tf.reduce_max(tf.where(tf.equal(kinds, _APP14), places, 0))
    high, low, *name = file.read(app14 + 2, 7)
    adobe = (app14 > 0) & (high * 256 + low >= 14)
    for byte, letter in zip(name, b"Adobe", strict=True):
        adobe &= tf.equal(byte, letter)
    return _Header(
        at=tf.reduce_max(tf.where(kinds > _UNKNOWN, places, 2)),
        frame=frame,
        supported=file.read(frame + 1, 1)[0] <= 0xC2,
        adobe=adobe,
        whole=whole,
        scans=scans,
    )
