"""Whether a running server gives what the live Keras model gave when the model was exported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..client import FeatureClient
from ..exceptions import ConfigError, InvalidRequest, OutputError
from ..model.manifest import Manifest, parse_json
from ..model.signatures import IMAGE_SIGNATURES, InputKind

#: The least cosine of any image, by the precision in the manifest.
THRESHOLDS = {"float32": 0.99999, "bfloat16": 0.999, "int8": 0.99}


@dataclass(frozen=True, kw_only=True)
class GoldenCheck:
    """How close one layer of one signature came to the live model."""

    signature: str
    layer: str
    images: int
    cosine: float
    max_relative_error: float
    threshold: float

    @property
    def passed(self) -> bool:
        """Whether the layer is close enough; a cosine of NaN is not."""
        return self.cosine >= self.threshold


def compare_with_golden(client: FeatureClient, model_dir: Path) -> Iterator[GoldenCheck]:
    """Sends the golden inputs of an exported version to a server and compares, each signature and layer.

    Args:
        client: the client that asks.
        model_dir: `<model_root>/<name>/<version>`, with `assets.extra/golden.npz` and `manifest.json`.

    Raises:
        OutputError: the directory lacks these files, or they cannot be read.
        ConfigError: the server has another version or model.
        FeatserveError: a call fails as `FeatureClient.predict` lists.
    """
    raw, golden = read_golden(model_dir)
    manifest = Manifest.parse(raw)
    known = client.metadata()
    served = Manifest.parse(known.manifest or {})
    for key in ("model", "version", "weights"):
        there, here = getattr(served, key), getattr(manifest, key)
        if there != here:
            raise ConfigError(f"the server has another model: {key} is {there!r}, and {here!r} in {model_dir}")
    if manifest.precision not in THRESHOLDS:
        raise OutputError(
            f"{model_dir}: unknown precision {manifest.precision!r}; expected one of {', '.join(THRESHOLDS)}"
        )
    threshold = THRESHOLDS[manifest.precision]
    encoded = [golden[key].tobytes() for key in sorted(_numbered(golden), key=lambda key: int(key[8:]))]
    inputs: dict[InputKind, Any] = {
        "encoded": np.array([*encoded, None], object)[:-1],
        "uint8": golden.get("images"),
        "float": golden.get("float_images"),
    }
    for kind, value in inputs.items():
        signature = IMAGE_SIGNATURES[kind]
        prefix = f"{signature.name}:"
        expected = {key.removeprefix(prefix): array for key, array in golden.items() if key.startswith(prefix)}
        if not expected or value is None:
            raise OutputError(f"{model_dir}: golden.npz has nothing for signature {signature.name!r}")
        names = {signature.name: list(expected)}
        if len(expected) > 1:
            names |= {signature.alone(layer): [layer] for layer in expected}
        for name, layers in names.items():
            if name not in known.signatures:
                raise InvalidRequest(f"the server's model lacks signature {name!r}", model=client.model)
            outputs = client.predict({signature.input: value}, signature=name)
            for layer in layers:
                yield _compare(name, layer, outputs.get(layer), expected[layer], threshold)


def read_golden(model_dir: Path) -> tuple[dict[str, Any], Mapping[str, npt.NDArray[Any]]]:
    """Returns the manifest of an exported version, which `Manifest.parse` takes, and the arrays of its golden file.

    Raises:
        OutputError: the directory lacks these files, or they cannot be read.
    """
    extra = model_dir / "assets.extra"
    try:
        manifest = parse_json((extra / "manifest.json").read_text())
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
) -> GoldenCheck:
    cosine, error = float("nan"), float("nan")
    if got is not None and got.shape == expected.shape:
        a, b = (array.reshape(len(array), -1).astype(np.float64) for array in (got, expected))
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        dots = np.einsum("ij,ij->i", a, b)
        # Two images without any activation are equal, though they have no direction.
        cosines = np.where(lengths > 0, dots / np.where(lengths > 0, lengths, 1), (a == b).all(axis=1))
        cosine = float(cosines.min())
        error = float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-12))
    return GoldenCheck(
        signature=signature,
        layer=layer,
        images=len(expected),
        cosine=cosine,
        max_relative_error=error,
        threshold=threshold,
    )
