"""Prints, as Markdown, what becomes of damaged files: `fuzz_table.py [COUNT [SEED]]`."""

import collections
import sys

import corpus
import numpy as np
import tensorflow as tf
from featserve_export.pixels.decode import decode_image

OUTCOMES = ("Pillow's pixels", "1 level off", "other pixels", "refused by both", "refused here", "refused by Pillow")


def outcome(decode, contents: bytes) -> str:
    """One of `OUTCOMES`."""
    expected = corpus.pillow_pixels(contents)
    try:
        pixels = decode(contents).numpy()
    except tf.errors.InvalidArgumentError:
        return "refused by both" if expected is None else "refused here"
    if expected is None:
        return "refused by Pillow"
    if pixels.shape != expected.shape:
        return "other pixels"
    difference = np.abs(pixels.astype(int) - expected).max()
    return {0: "Pillow's pixels", 1: "1 level off"}.get(int(difference), "other pixels")


def main(count: int = 20_000, seed: int = 1) -> None:
    """Measures and prints."""
    decode = tf.function(
        lambda contents: decode_image(contents, max_pixels=1_000_000), input_signature=[tf.TensorSpec((), tf.string)]
    )
    rows: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for name, contents in corpus.damaged(count, seed):
        kind = "jpeg cmyk" if name in {"jpeg cmyk", "jpeg ycck"} else name.split()[0]
        rows[kind][outcome(decode, contents)] += 1
    print("| damaged | files |", " | ".join(OUTCOMES), "|")
    print("|---|---|" + "---|" * len(OUTCOMES))
    for kind, counts in sorted(rows.items()):
        print(f"| {kind} | {counts.total()} |", " | ".join(str(counts[name]) for name in OUTCOMES), "|")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
