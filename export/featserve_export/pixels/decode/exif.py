"""EXIF orientation of a JPEG: found as Pillow finds it, applied as `PIL.ImageOps.exif_transpose` applies it."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from .file import File, number

_EXIF = b"Exif\0\0"
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_ORIENTATION = 0x0112
# Segments that are looked at, and entries of a directory: a camera writes a few dozen.
_MAX_SEGMENTS = 512
_MAX_ENTRIES = 1024
_ENTRY_BYTES = 12
# TIFF's whole numbers of two and four bytes, signed ones included.
_SHORTS, _LONGS = (3, 8), (4, 9)


def upright(image: tf.Tensor, contents: tf.Tensor) -> tf.Tensor:
    """Turns a decoded JPEG as its orientation says; files of other formats stay as they are.

    Args:
        image: `(H, W, 3)`, decoded from `contents`.
        contents: scalar string.

    Returns:
        `(H, W, 3)` or `(W, H, 3)`.
    """
    turns: list[Callable[[tf.Tensor], tf.Tensor]] = [
        lambda x: x,
        lambda x: x[:, ::-1],
        lambda x: x[::-1, ::-1],
        lambda x: x[::-1],
        lambda x: tf.transpose(x, (1, 0, 2)),
        lambda x: tf.transpose(x, (1, 0, 2))[:, ::-1],
        lambda x: tf.transpose(x, (1, 0, 2))[::-1, ::-1],
        lambda x: tf.transpose(x, (1, 0, 2))[::-1],
    ]
    branches = [lambda turn=turn: tf.ensure_shape(turn(image), (None, None, 3)) for turn in turns]
    return tf.switch_case(orientation(contents) - 1, branches)


def orientation(contents: tf.Tensor) -> tf.Tensor:
    """The orientation of an encoded image, scalar int32, 1 to 8; 1 where there is none."""
    file = File.of(contents)
    exif, xmp, xmp_end = _application_segments(file)
    by_exif = tf.where(exif > 0, _in_directory(file, exif + 4 + len(_EXIF)), 0)
    by_xmp = tf.where(xmp > 0, _in_packet(file.cut(xmp + 4 + len(_XMP), xmp_end)), 1)
    # An EXIF tag counts whatever its value; only where there is none does Pillow look into XMP.
    found = tf.where(by_exif > 0, by_exif, by_xmp)
    return tf.where((found >= 1) & (found <= 8), found, 1)


def _application_segments(file: File) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Where the markers of the EXIF and the XMP segment are, and where the latter ends; 0 where there is none."""

    def step(
        at: tf.Tensor, exif: tf.Tensor, xmp: tf.Tensor, xmp_end: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        lead, code, high, low = file.read(at, 4)
        filler = tf.equal(code, 0xFF)
        bare = tf.equal(code, 0x01) | ((code >= 0xD0) & (code <= 0xD8))
        end = at + 2 + high * 256 + low
        ours = tf.equal(code, 0xE1) & (end <= file.size)
        is_exif = ours & tf.equal(file.cut(at + 4, at + 4 + len(_EXIF)), _EXIF) & tf.equal(exif, 0)
        is_xmp = ours & tf.equal(file.cut(at + 4, at + 4 + len(_XMP)), _XMP)
        broken = tf.not_equal(lead, 0xFF) | tf.equal(code, 0xDA) | tf.equal(code, 0xD9) | (at >= file.size)
        following = tf.where(filler, at + 1, tf.where(bare, at + 2, end))
        return (
            tf.where(broken, file.size, following),
            tf.where(is_exif, at, exif),
            tf.where(is_xmp, at, xmp),
            tf.where(is_xmp, end, xmp_end),
        )

    start = tf.where(file.starts_with(b"\xff\xd8\xff"), 2, file.size)
    zero = tf.constant(0)
    _, exif, xmp, xmp_end = tf.while_loop(
        lambda at, *_: at < file.size, step, (start, zero, zero, zero), maximum_iterations=_MAX_SEGMENTS
    )
    return exif, xmp, xmp_end


def _in_directory(file: File, tiff: tf.Tensor) -> tf.Tensor:
    """The orientation in a TIFF header's first directory; 0 where there is no such entry."""
    first, second = file.read(tiff, 2)
    little = tf.equal(first, ord("I"))

    def whole(bytes_: list[tf.Tensor]) -> tf.Tensor:
        return tf.cast(tf.where(little, number(bytes_[::-1]), number(bytes_)), tf.int32)

    sound = tf.equal(first, second) & (little | tf.equal(first, ord("M"))) & tf.equal(whole(file.read(tiff + 2, 2)), 42)
    directory = tiff + whole(file.read(tiff + 4, 4))
    count = tf.clip_by_value(whole(file.read(directory, 2)), 0, _MAX_ENTRIES)
    starts = directory + 2 + _ENTRY_BYTES * tf.range(count)
    places = tf.clip_by_value(starts[:, None] + tf.range(_ENTRY_BYTES), 0, file.size)
    entries = tf.cast(tf.gather(file.padded, places), tf.int32)

    def column(at: int, length: int) -> tf.Tensor:
        return whole([entries[:, at + offset] for offset in range(length)])

    tag, kind, values = column(0, 2), column(2, 2), column(4, 4)
    value = tf.where(tf.reduce_any(tf.equal(kind[:, None], _SHORTS), 1), column(8, 2), column(8, 4))
    usable = tf.reduce_any(tf.equal(kind[:, None], (*_SHORTS, *_LONGS)), 1) & tf.equal(values, 1)
    # An entry of another kind counts as one that asks for nothing.
    value = tf.where(usable, tf.where(value > 0, value, _MAX_ENTRIES), _MAX_ENTRIES)
    matching = tf.where(tf.equal(tag, _ORIENTATION) & sound, tf.range(count), -1)
    last = tf.reduce_max(tf.concat([matching, [-1]], 0))
    return tf.where(last >= 0, tf.concat([value, [0]], 0)[last], 0)


def _in_packet(packet: tf.Tensor) -> tf.Tensor:
    """The orientation in an XMP packet; 1 where there is none."""
    digit = tf.strings.regex_replace(packet, r'(?s)\A.*?tiff:Orientation(?:="|>)([0-9]).*\z', r"\1")
    return tf.where(
        tf.strings.regex_full_match(digit, "[0-9]"),
        tf.strings.to_number(tf.where(tf.strings.regex_full_match(digit, "[0-9]"), digit, "1"), tf.int32),
        1,
    )
