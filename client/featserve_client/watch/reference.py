"""References, against which versions of models are held: the identity, and answers for golden pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..analysis.golden import THRESHOLDS, read_golden
from ..client import FeatureClient
from ..exceptions import OutputError, ResponseError
from ..model.manifest import Manifest
from ..model.metadata import ModelMetadata
from ..model.selection import select_signature
from ..model.signatures import GOLDEN
from .closeness import Sample

CANARY = "the canary photo"


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A picture, and what is expected of it by layer."""

    name: str
    image: bytes
    expected: Mapping[str, Sample]


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The identity and the answers that every server's copy of a version must have."""

    #: Facts that may not differ: weights, precision, layers, preprocessing.
    identity: Mapping[str, str]
    #: Where it comes from, as in "it was first seen at 10.0.0.7:8500".
    source: str
    precision: str
    #: Golden pictures; the canary photo comes last, once its first answer is known.
    probes: tuple[Probe, ...] = ()

    @property
    def golden(self) -> bool:
        """Whether it holds answers of the live Keras model."""
        return any(probe.name != CANARY for probe in self.probes)

    def canary(self, photo: bytes) -> Probe | None:
        """Returns the probe of the canary photo, None while it is another or has no answer yet."""
        return next((probe for probe in self.probes if probe.name == CANARY and probe.image == photo), None)

    def with_canary(self, probe: Probe) -> Reference:
        """Returns the same with the canary's first answer."""
        return replace(self, probes=(*(old for old in self.probes if old.name != CANARY), probe))


def identity_of(known: ModelMetadata) -> dict[str, str]:
    """Returns the text that tells a model from another of the same name and version.

    Raises:
        InvalidRequest: the model takes no encoded images.
    """
    manifest = Manifest.parse(known.manifest or {})
    layers = {name: str(spec) for name, spec in select_signature(known, "encoded", None).layers.items()}
    preprocessing = (known.manifest or {}).get("preprocessing")
    return {
        "weights": (manifest.weights.sha256 or "unknown")[:12],
        "precision": manifest.precision,
        "layers": json.dumps(layers, sort_keys=True),
        "preprocessing": json.dumps(preprocessing, sort_keys=True),
    }


def check_precision(precision: str) -> str:
    """Returns a precision of which it is known how close its answers must be.

    Raises:
        ResponseError: the version is another.
    """
    if precision not in THRESHOLDS:
        raise ResponseError(f"unknown precision {precision!r}; expected one of {', '.join(THRESHOLDS)}")
    return precision


def carried_probes(client: FeatureClient, known: ModelMetadata) -> tuple[Probe, ...]:
    """Returns the golden pictures that a model carries behind its signature `golden`; none from older exports.

    Raises:
        ResponseError: the signature's answer cannot be read.
        FeatserveError: the call fails as `FeatureClient.predict` lists.
    """
    if GOLDEN not in known.signatures:
        return ()
    answer = client.predict({}, signature=GOLDEN)
    try:
        images = [bytes(image) for image in answer["image_bytes"]]
        layers = [key.removeprefix("expected/") for key in answer if key.startswith("expected/")]
        expected = {layer: np.asarray(answer[f"expected/{layer}"], np.float32) for layer in layers}
        positions = {layer: np.asarray(answer[f"positions/{layer}"], np.int32) for layer in layers}
        if not images or not layers:
            raise ValueError("it is empty")
        if any(expected[layer].shape != (len(images), positions[layer].size) for layer in layers):
            raise ValueError("its shapes do not fit")
    except (KeyError, TypeError, ValueError) as exc:
        raise ResponseError(f"the golden answers of model {known.model!r} cannot be read: {exc}") from exc
    return tuple(
        Probe(
            name=f"golden picture {row + 1}",
            image=image,
            expected={layer: Sample(values=expected[layer][row], positions=positions[layer]) for layer in layers},
        )
        for row, image in enumerate(images)
    )


def exported_reference(model_dir: Path) -> tuple[tuple[str, int], Reference]:
    """Returns model and version of an exported directory, and what it must answer.

    Raises:
        OutputError: the directory is no exported version, or its files cannot be read.
    """
    raw, golden = read_golden(model_dir)
    manifest = Manifest.parse(raw)
    if manifest.model is None or manifest.version is None:
        raise OutputError(f"{model_dir}: the manifest names no model and version")
    layers = [key.removeprefix("encoded:") for key in golden if key.startswith("encoded:")]
    images = [golden[f"encoded_{row}"].tobytes() for row in range(sum(key.startswith("encoded_") for key in golden))]
    if not layers or not images or any(len(golden[f"encoded:{layer}"]) != len(images) for layer in layers):
        raise OutputError(f"{model_dir}: golden.npz has nothing for signature 'encoded'")
    probes = tuple(
        Probe(
            name=f"golden picture {row + 1}",
            image=image,
            expected={
                layer: Sample(values=golden[f"encoded:{layer}"][row].reshape(-1), positions=None) for layer in layers
            },
        )
        for row, image in enumerate(images)
    )
    try:
        precision = check_precision(manifest.precision)
    except ResponseError as exc:
        raise OutputError(f"{model_dir}: {exc}") from exc
    identity: dict[str, Any] = {
        "weights": (manifest.weights.sha256 or "unknown")[:12],
        "precision": precision,
        "preprocessing": json.dumps(raw.get("preprocessing"), sort_keys=True),
    }
    reference = Reference(
        identity=identity, source=f"it was exported to {model_dir}", precision=precision, probes=probes
    )
    return (manifest.model, manifest.version), reference
