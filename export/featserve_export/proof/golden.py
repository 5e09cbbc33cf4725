"""Proof: the reloaded SavedModel's activations beside the live Keras model's, on real and synthetic images."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import skimage
import tensorflow as tf
from PIL import Image

from ..errors import VerificationError
from ..saved_model.signatures import Pixels
from ..sources.live_model import LiveModel

GOLDEN_FILE = "assets.extra/golden.npz"
MINIMUM_COSINE = {"float32": 0.99999, "bfloat16": 0.999, "int8": 0.99}
# The cosine is blind to a factor. Rounding in another order stays below this.
_MAXIMUM_RELATIVE_DIFFERENCE = {"float32": 1e-3}
# Nor do lower precisions make all activations of an image larger or smaller.
_MAXIMUM_NORM_DIFFERENCE = 0.05
_PHOTOS = ("chelsea.png", "coffee.png")
_MOST_IMAGES = 4
_Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Closeness:
    """How far a layer's activations are from the live Keras model's.

    Attributes:
        cosine: the smallest over the golden images, -1..1.
        max_abs_difference: the largest of any activation, in its unit.
        max_relative_difference: the same, divided by the layer's largest activation.
        norm_difference: the largest `||received| / |expected| - 1|` of the golden images.
    """

    cosine: float
    max_abs_difference: float
    max_relative_difference: float
    norm_difference: float


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


def load_golden(directory: Path) -> Golden:
    """Reads what `Golden.save` wrote."""
    with np.load(directory / GOLDEN_FILE) as arrays:
        expected: dict[str, dict[str, _Array]] = {}
        for key in arrays.files:
            if ":" in key:
                base, layer = key.split(":", 1)
                expected.setdefault(base, {})[layer] = arrays[key]
        count = sum(key.startswith("encoded_") for key in arrays.files)
        return Golden(
            encoded=[arrays[f"encoded_{index}"].tobytes() for index in range(count)],
            images=arrays["images"],
            float_images=arrays["float_images"],
            expected=expected,
        )


def make_golden(live: LiveModel, pixels: Pixels, photos: _Array | None = None) -> Golden:
    """Runs the live Keras model on a few images, each through `load_img`.

    Args:
        live: the model before anything was done to it.
        pixels: the resize that `load_img` is asked for.
        photos: `(N, H, W, 3)` RGB 0..255 to use; None for two photos and two synthetic images.
    """
    if photos is None:
        encoded = [*_photos(), *_synthetic()]
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


def _photos() -> list[bytes]:
    folder = Path(skimage.__file__).parent / "data"
    photos = []
    for name in _PHOTOS:
        file = io.BytesIO()
        Image.open(folder / name).convert("RGB").save(file, "JPEG", quality=90)
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
    image = keras.utils.load_img(
        io.BytesIO(data),
        target_size=pixels.image_size,
        interpolation=pixels.interpolation,
        keep_aspect_ratio=pixels.crop_to_aspect_ratio,
    )
    return np.asarray(image, np.float32)


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
        if not closeness.cosine >= MINIMUM_COSINE[precision]:
            raise VerificationError(
                f"expected activations of {layer} within cosine {MINIMUM_COSINE[precision]} of Keras for {precision}, "
                f"received {closeness.cosine:.6f} from signature {signature}; "
                "if another precision was asked for, export with --precision float32"
            )
        allowed = _MAXIMUM_RELATIVE_DIFFERENCE.get(precision, float("inf"))
        if closeness.max_relative_difference > allowed:
            raise VerificationError(
                f"expected activations of {layer} within {allowed} of Keras, relative to the largest, for {precision}, "
                f"received {closeness.max_relative_difference:.1e} from signature {signature}"
            )
        if not closeness.norm_difference <= _MAXIMUM_NORM_DIFFERENCE:
            raise VerificationError(
                f"expected activations of {layer} whose length is within {_MAXIMUM_NORM_DIFFERENCE} of Keras', "
                f"received a difference of {closeness.norm_difference:.3f} from signature {signature}; "
                "if another precision was asked for, export with --precision float32"
            )
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


def compare(received: _Array, expected: _Array) -> Closeness:
    """Compares activations of the same images; both are `(N, …)`."""
    if received.shape != expected.shape:
        raise VerificationError(f"expected activations of shape {expected.shape}, received {received.shape}")
    a, b = (array.reshape(len(array), -1).astype(np.float64) for array in (received, expected))
    difference = float(np.abs(a - b).max())
    return Closeness(
        # Not `min`, which may pass over a NaN.
        cosine=float(np.min([_cosine(x, y) for x, y in zip(a, b, strict=True)])),
        max_abs_difference=difference,
        max_relative_difference=difference / max(float(np.abs(b).max()), float(np.finfo(np.float32).tiny)),
        norm_difference=float(np.max([_norm_difference(x, y) for x, y in zip(a, b, strict=True)])),
    )


def _cosine(a: _Array, b: _Array) -> float:
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / lengths if lengths else float(np.array_equal(a, b))


def _norm_difference(a: _Array, b: _Array) -> float:
    expected = float(np.linalg.norm(b))
    received = float(np.linalg.norm(a))
    return abs(received / expected - 1.0) if expected else received


def closeness_report(worst: Mapping[str, Closeness]) -> dict[str, dict[str, float]]:
    """Closeness as JSON values."""
    return {layer: vars(closeness) for layer, closeness in worst.items()}
