"""Reads the bytes of an encoded file, and refuses it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

import tensorflow as tf

from ..checks import first_problem, refuse

_T = TypeVar("_T")

ON_THE_CLIENT = "decode it in the client (decode=client) or convert it to PNG"
RESEND = "check that the file is whole and send it again"
# Longer than every fixed header read below: reading one never passes the end, whatever was sent.
_PADDING = b"\0" * 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class File:
    """An encoded file; what is read behind its end is zeros."""

    contents: tf.Tensor  # scalar string
    head: tf.Tensor  # its first 16 bytes, scalar string, zeros beyond the end
    padded: tf.Tensor  # its bytes, uint8, and the padding
    size: tf.Tensor  # scalar int32, without the padding

    @classmethod
    def of(cls, contents: tf.Tensor) -> File:
        """Takes the file's bytes, a scalar string."""
        padded = tf.io.decode_raw(tf.strings.join([contents, _PADDING]), tf.uint8)
        head = tf.strings.substr(tf.strings.join([tf.strings.substr(contents, 0, 16), _PADDING]), 0, 16)
        return cls(contents=contents, head=head, padded=padded, size=tf.strings.length(contents))

    def read(self, at: tf.Tensor | int, count: int) -> list[tf.Tensor]:
        """`count` bytes as scalars int32; zeros beyond the end."""
        at = tf.clip_by_value(at, 0, self.size)
        return tf.unstack(tf.cast(tf.ensure_shape(self.padded[at : at + count], (count,)), tf.int32))  # type: ignore[no-any-return]

    def big(self, at: tf.Tensor | int, count: int) -> tf.Tensor:
        """An unsigned big-endian number of at most 4 bytes, int64."""
        return number(self.read(at, count))

    def little(self, at: tf.Tensor | int, count: int) -> tf.Tensor:
        """An unsigned little-endian number of at most 4 bytes, int64."""
        return number(self.read(at, count)[::-1])

    def starts_with(self, magic: bytes, at: int = 0) -> tf.Tensor:
        """Whether these bytes stand `at` a place within the first 16."""
        return tf.equal(tf.strings.substr(self.head, at, len(magic)), magic)

    def cut(self, start: tf.Tensor | int, end: tf.Tensor | int) -> tf.Tensor:
        """Bytes `start` to `end` as a scalar string."""
        start = tf.clip_by_value(start, 0, self.size)
        return tf.strings.substr(self.contents, start, tf.maximum(end - start, 0))


def number(digits: Sequence[tf.Tensor]) -> tf.Tensor:
    """An unsigned number from its bytes, the highest first, int64."""
    value = tf.constant(0, tf.int64)
    for digit in digits:
        value = value * 256 + tf.cast(digit, tf.int64)
    return value


def checked(value: _T, checks: Sequence[tuple[tf.Tensor, tf.Tensor]]) -> _T:
    """The tensors of `value`, once all checks hold."""
    with tf.control_dependencies([refuse(first_problem(checks))]):
        return tf.nest.map_structure(tf.identity, value)  # type: ignore[no-any-return]


def any_of(value: tf.Tensor, choices: Sequence[int]) -> tf.Tensor:
    """Whether a scalar is one of some integers."""
    return tf.reduce_any(tf.equal(value, choices))


def four(name: bytes) -> int:
    """The number that the four letters of a chunk's name make, as `File.big` reads them."""
    return int.from_bytes(name, "big")
