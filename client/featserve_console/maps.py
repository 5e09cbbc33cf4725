"""Activations as the page draws them: the strongest maps as bytes, and one vector."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import numpy.typing as npt

#: Maps sent at most, beside the one that was asked for.
_STRONGEST = 12
#: The shares of a map's values that become black and white.
_LOW, _HIGH = 2, 99


def draw_maps(activations: npt.NDArray[np.float32], channel: int | None) -> dict[str, Any] | None:
    """Returns the maps of one image: the energy of all channels, the strongest channels, and one that was asked for.

    Args:
        activations: `(h, w, channels)` float32; anything else has no maps.
        channel: a channel wanted, strong or not.

    Returns:
        JSON: `height`, `width`, `channels`, and `maps`, each with its `channel` (null for all together), its `low` and
        `high` value, and `levels`: `height * width` bytes in base64, 0 for its low values and 255 for its high ones.
    """
    if activations.ndim != 3 or not activations.size:
        return None
    height, width, channels = activations.shape
    energy = np.square(activations, dtype=np.float64)
    strongest = np.argsort(-energy.mean(axis=(0, 1)), kind="stable")[:_STRONGEST].tolist()
    if channel is not None and channel < channels and channel not in strongest:
        strongest.append(channel)
    return {
        "height": height,
        "width": width,
        "channels": channels,
        "maps": [
            _map(None, np.sqrt(energy.mean(axis=-1))),
            *(_map(each, activations[..., each].astype(np.float64)) for each in strongest),
        ],
    }


def to_vector(activations: npt.NDArray[np.float32]) -> dict[str, Any]:
    """Returns the vector of one image: the mean over height and width, or all values; with its length and norm.

    Args:
        activations: `(h, w, channels)`, or any other shape; float32.

    Returns:
        JSON: `size`, `norm`, and `unit`, the float32 values in base64 of the vector brought to length 1, as
        `FeatureClient.embed` gives it.
    """
    vector = (activations.mean(axis=(0, 1)) if activations.ndim == 3 else activations).ravel()
    norm = float(np.linalg.norm(vector))
    unit = (vector / max(norm, 1e-12)).astype("<f4")
    return {"size": vector.size, "norm": norm, "unit": _base64(unit.tobytes())}


def _map(channel: int | None, heat: npt.NDArray[np.float64]) -> dict[str, Any]:
    low, high = np.percentile(heat, (_LOW, _HIGH))
    levels = np.clip((heat - low) / max(high - low, 1e-12), 0, 1)
    return {
        "channel": channel,
        "low": float(heat.min()),
        "high": float(heat.max()),
        "levels": _base64(np.rint(255 * levels).astype(np.uint8).tobytes()),
    }


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
