"""Proof: the reloaded SavedModel's activations beside the live Keras model's, on real and synthetic images."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import skimage
import tensorflow as tf
from PIL import Image, ImageOps

from ..pixels.spec import Pixels
from ..sources.live_model import LiveModel
from .closeness import Closeness, check, compare

GOLDEN_FILE = "assets.extra/golden.npz"
_PHOTOS = ("chelsea.png", "coffee.png")
_MOST_IMAGES = 4
# A layer's values that the served model carries of each image.
_MOST_CARRIED = 1024
_LYING = Image.Exif()
_LYING[0x0112] = 6
_Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Golden:
    """Inputs of every base signature and the live model's activations for them.

    Attributes:
        encoded: image files as bytes.
        images: `(N, H, W, 3)` uint8 RGB.
        float_images: `(N, height, width, 3)` float32 RGB 0..255.
        expected: base signature to layer to `(N, …)` float32.
    """

    encoded: list[bytes]
    images: _Array
    float_images: _Array
    expected: dict[str, dict[str, _Array]]

    def input(self, base: str) -> _Array:
        """The array that is fed to a base signature."""
        if base == "encoded":
            return np.array(self.encoded, object)
        return self.images if base == "serving_default" else self.float_images

    def carried(self) -> dict[str, _Array]:
        """The part that the signature `golden` answers: the smallest file of each format, and a sample.

        Returns:
            `image_bytes`, `(N,)` bytes; for each layer `positions/LAYER`, `(K,)` int32 ascending, places in the layer's
            flattened activations, and `expected/LAYER`, `(N, K)` float32, the live model's values there.
        """
        smallest = {data[:4]: data for data in sorted(self.encoded, key=len, reverse=True)}.values()
        rows = [row for row, data in enumerate(self.encoded) if data in smallest]
        arrays: dict[str, _Array] = {"image_bytes": np.array([self.encoded[row] for row in rows], object)}
        for layer, values in self.expected["encoded"].items():
            flat = values[rows].reshape(len(rows), -1)
            count = min(flat.shape[1], _MOST_CARRIED)
            drawn = np.random.default_rng(0).choice(flat.shape[1], count, replace=False)
            positions = np.sort(drawn).astype(np.int32)
            arrays |= {f"positions/{layer}": positions, f"expected/{layer}": flat[:, positions].astype(np.float32)}
        return arrays

    def save(self, directory: Path) -> None:
        """Writes `golden.npz` into a version's directory."""
        arrays: dict[str, Any] = {
            f"encoded_{index}": np.frombuffer(data, np.uint8) for index, data in enumerate(self.encoded)
        }
        arrays |= {"images": self.images, "float_images": self.float_images}
        arrays |= {
            f"{base}:{layer}": value for base, layers in self.expected.items() for layer, value in layers.items()
        }
        path = directory / GOLDEN_FILE
        path.parent.mkdir(exist_ok=True)
        np.savez_compressed(path, **arrays)


def make_golden(live: LiveModel, pixels: Pixels, photos: _Array | None = None) -> Golden:
    """Runs the live Keras model on a few images, each through `load_img`.

    Args:
        live: the model before anything was done to it.
        pixels: the resize that `load_img` is asked for.
        photos: `(N, H, W, 3)` RGB 0..255 to use; None for two photos and two synthetic images.
    """
    if photos is None:
        encoded = [*_photos(lying=pixels.apply_orientation), *_synthetic()]
    else:
        encoded = [_png(photo.astype(np.uint8)) for photo in photos[:_MOST_IMAGES]]
    images = np.stack([np.asarray(Image.open(io.BytesIO(data)).convert("RGB").resize((320, 240))) for data in encoded])
    loaded = np.stack([_load(data, pixels) for data in encoded])
    reloaded = np.stack([_load(_png(image), pixels) for image in images])
    expected = {
        base: live.reference(batch)
        for base, batch in (("encoded", loaded), ("serving_default", reloaded), ("float_images", loaded))
    }
    return Golden(encoded=encoded, images=images, float_images=loaded, expected=expected)


def _photos(*, lying: bool) -> list[bytes]:
    folder = Path(skimage.__file__).parent / "data"
    photos = []
    for name in _PHOTOS:
        file = io.BytesIO()
        Image.open(folder / name).convert("RGB").save(file, "JPEG", quality=90, exif=_LYING if lying else b"")
        photos.append(file.getvalue())
    return photos


def _synthetic() -> list[bytes]:
    noise = np.random.default_rng(0).integers(0, 256, (61, 97, 3), np.uint8)
    y, x = np.mgrid[0:150, 0:210]
    waves = np.stack([127 + 127 * np.sin(x / 9), 127 + 127 * np.cos(y / 7), (x + y) % 256], -1).astype(np.uint8)
    return [_png(noise), _png(waves)]


def _png(image: _Array) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def _load(data: bytes, pixels: Pixels) -> _Array:
    if pixels.apply_orientation:
        data = _png(np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))))
    image = keras.utils.load_img(
        io.BytesIO(data),
        color_mode="grayscale" if pixels.gray else "rgb",
        target_size=pixels.image_size,
        interpolation=pixels.interpolation,
        keep_aspect_ratio=pixels.crop_to_aspect_ratio,
    )
    return np.asarray(image.convert("RGB"), np.float32)


def verify(directory: Path, golden: Golden, precision: str) -> dict[str, Closeness]:
    """Loads a version as a server does and compares every signature, with one image and with all at once.

    Args:
        directory: the version's directory.
        golden: inputs and expected activations.
        precision: how close they must be.

    Returns:
        The closeness of each layer, the worst over signatures and batch sizes.

    Raises:
        VerificationError: a layer is further away than its precision allows.
    """
    worst: dict[str, Closeness] = {}
    for signature, layer, received, expected in _replay(directory, golden):
        closeness = compare(received, expected)
        check(closeness, layer, signature, precision)
        if layer not in worst or closeness.cosine < worst[layer].cosine:
            worst[layer] = closeness
    return worst


def _replay(directory: Path, golden: Golden) -> Iterator[tuple[str, str, _Array, _Array]]:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.loader.load(session, ["serve"], str(directory))
        for signature, description in loaded.signature_def.items():
            if not description.inputs:
                continue
            base = signature.split("/")[0]
            (feed,) = (info.name for info in description.inputs.values())
            fetches = {layer: info.name for layer, info in description.outputs.items()}
            batch = golden.input(base)
            for size in (1, len(batch)):
                received = session.run(fetches, {feed: batch[:size]})
                for layer, value in received.items():
                    yield signature, layer, value, golden.expected[base][layer][:size]
