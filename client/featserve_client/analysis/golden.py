"""Whether a running server gives what the live Keras model gave when the model was exported."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..client import FeatureClient
from ..exceptions import ConfigError, InvalidRequest, OutputError
from ..model.metadata import BASES

#: The least cosine of any image, by the precision in the manifest.
THRESHOLDS = {"float32": 0.99999, "bfloat16": 0.999, "int8": 0.99}


@dataclass(frozen=True, kw_only=True)
class Check:
    """How close one layer of one signature came."""

    signature: str
    layer: str
    images: int
    cosine: float
    max_relative_error: float
    threshold: float

    @property
    def passed(self) -> bool:
        """Whether it is close enough; NaN is not."""
        return self.cosine >= self.threshold


def verify(client: FeatureClient, model_dir: Path) -> Iterator[Check]:
    """Send the golden inputs of an exported version to a server and compare, each signature and layer.

    Args:
        client: Whom to ask.
        model_dir: `<model_root>/<name>/<version>`, with `assets.extra/golden.npz` and `manifest.json`.

    Raises:
        OutputError: The directory lacks them, or they cannot be read.
        ConfigError: The server has another version or model.
        FeatserveError: As for `FeatureClient.predict`.
    """
    manifest, golden = _read(model_dir)
    served = client.metadata().manifest or {}
    for key in ("model", "version", "weights"):
        if served.get(key) != manifest.get(key):
            raise ConfigError(
                f"the server has another model: {key} is {served.get(key)!r}, and {manifest.get(key)!r} in {model_dir}"
            )
    precision = manifest.get("precision", "float32")
    if precision not in THRESHOLDS:
        raise OutputError(f"{model_dir}: unknown precision {precision!r}; expected one of {', '.join(THRESHOLDS)}")
    encoded = [golden[key].tobytes() for key in sorted(_numbered(golden), key=lambda key: int(key[8:]))]
    inputs: dict[str, tuple[str, Any]] = {
        BASES["encoded"]: ("image_bytes", np.array([*encoded, None], object)[:-1]),
        BASES["uint8"]: ("images", golden.get("images")),
        BASES["float"]: ("images", golden.get("float_images")),
    }
    known = client.metadata()
    for base, (name, value) in inputs.items():
        expected = {key.partition(":")[2]: array for key, array in golden.items() if key.startswith(f"{base}:")}
        if not expected or value is None:
            raise OutputError(f"{model_dir}: golden.npz has nothing for signature {base!r}")
        wanted = [base, *(f"{base}/{layer}" for layer in expected if len(expected) > 1)]
        for signature in wanted:
            if signature not in known.signatures:
                raise InvalidRequest(f"the server's model lacks signature {signature!r}", model=client.model)
            outputs = client.predict({name: value}, signature=signature)
            for layer in [signature.partition("/")[2]] if "/" in signature else expected:
                yield _compare(signature, layer, outputs.get(layer), expected[layer], THRESHOLDS[precision])


def _read(model_dir: Path) -> tuple[Mapping[str, Any], Mapping[str, npt.NDArray[Any]]]:
    extra = model_dir / "assets.extra"
    try:
        manifest = json.loads((extra / "manifest.json").read_text())
        with np.load(extra / "golden.npz", allow_pickle=False) as archive:
            return manifest, dict(archive)
    except (OSError, ValueError) as exc:
        raise OutputError(f"{model_dir} is no exported version: {exc}") from exc


def _numbered(golden: Mapping[str, Any]) -> list[str]:
    return [key for key in golden if key.startswith("encoded_") and key[8:].isdigit()]


def _compare(
    signature: str,
    layer: str,
    got: npt.NDArray[Any] | None,
    expected: npt.NDArray[np.float32],
    threshold: float,
) -> Check:
    cosine, error = float("nan"), float("nan")
    if got is not None and got.shape == expected.shape:
        a, b = (array.reshape(len(array), -1).astype(np.float64) for array in (got, expected))
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        dots = np.einsum("ij,ij->i", a, b)
        # Two images without any activation are equal, though they have no direction.
        cosines = np.where(lengths > 0, dots / np.where(lengths > 0, lengths, 1), (a == b).all(axis=1))
        cosine = float(cosines.min())
        error = float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-12))
    return Check(
        signature=signature,
        layer=layer,
        images=len(expected),
        cosine=cosine,
        max_relative_error=error,
        threshold=threshold,
    )
