"""Prints, as Markdown, how far the graph's pixels are from Pillow's for each kind of file."""

import collections

import corpus
import numpy as np
import tensorflow as tf
from featserve_export.pixels.decode import decode_image
from PIL import Image

SIZES = [(1, 1), (2, 3), (7, 8), (16, 16), (17, 31), (64, 64), (121, 90), (375, 500)]
SEEDS = range(5)


def other_images(rng: np.random.Generator, height: int, width: int) -> dict[str, bytes]:
    """Kinds of files that the graph leaves to the client."""
    rgb, other = (Image.fromarray(corpus.photo(rng, height, width)) for _ in range(2))
    several = {"save_all": True, "append_images": [other]}
    cmyk = corpus.encode(rgb.convert("CMYK"), format="JPEG")
    return {
        "jpeg cmyk without an Adobe marker": cmyk.replace(b"Adobe", b"Azobe"),
        "png animated": corpus.encode(rgb, format="PNG", **several),
        "webp animated": corpus.encode(rgb, format="WEBP", **several),
        "tiff": corpus.encode(rgb, format="TIFF"),
        "avif": corpus.encode(rgb, format="AVIF"),
        "jpeg 2000": corpus.encode(rgb, format="JPEG2000"),
    }


def main() -> None:
    """Measures and prints."""
    decode = tf.function(
        lambda contents: decode_image(contents, max_pixels=10_000_000), input_signature=[tf.TensorSpec((), tf.string)]
    )
    rows: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for height, width in SIZES:
        for seed in SEEDS:
            rng = np.random.default_rng(seed)
            for kind, contents in {**corpus.images(rng, height, width), **other_images(rng, height, width)}.items():
                expected = corpus.pillow_pixels(contents)
                if expected is None:
                    continue
                try:
                    difference = np.abs(decode(contents).numpy().astype(int) - expected).max()
                except tf.errors.InvalidArgumentError:
                    rows[kind]["refused"] += 1
                else:
                    rows[kind]["exact" if difference == 0 else f"at most {difference} of 255 levels off"] += 1
    print("| file | files tried | pixels against Pillow's |")
    print("|---|---|---|")
    for kind, outcomes in sorted(rows.items()):
        result = ", ".join(outcomes) if len(outcomes) == 1 else ", ".join(f"{n} {o}" for o, n in outcomes.items())
        print(f"| {kind} | {outcomes.total()} | {result} |")


if __name__ == "__main__":
    main()
