"""One look at a model of one server: every version that it serves, against its reference."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..client import FeatureClient
from ..exceptions import FeatserveError, ModelNotFound, TransportError
from ..model.metadata import ModelMetadata
from .closeness import sample_of
from .reference import CANARY, Probe, Reference, carried_probes, check_precision, identity_of
from .references import References

Answer = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Result:
    """The findings about one version of a model; about no version where the server names none."""

    model: str
    version: int | None = None
    #: The fault, as a sentence; empty if there is none.
    fault: str = ""
    #: The lowest cosine of any picture, by layer.
    cosines: Mapping[str, float] = field(default_factory=dict)
    #: Seconds in which a caller had the answer to the canary photo.
    latency_s: float | None = None
    #: Weights, precision, and the releases that exported the version.
    facts: Mapping[str, str] = field(default_factory=dict)
    #: What it was held against.
    against: str = ""

    @property
    def passed(self) -> bool:
        """Whether the version answers as it must."""
        return not self.fault


def check_model(client: FeatureClient, photo: bytes, references: References, server: str) -> list[Result]:
    """Returns the findings about each version of a model that a server has, or one result without a version.

    Args:
        client: asks the server for the model; one that remembers nothing of an earlier look.
        photo: the canary photo, an encoded image.
        references: the references of versions; versions seen for the first time are added.
        server: the server's name in sentences.

    Raises:
        TransportError: the server does not answer: nothing is known of any version.
    """
    try:
        statuses = client.status()
    except ModelNotFound as exc:
        return [Result(model=client.model, fault=str(exc))]
    versions = [status.version for status in statuses if status.available]
    if not versions:
        states = ", ".join(f"version {item.version} {item.state} {item.error}".rstrip() for item in statuses)
        return [Result(model=client.model, fault=f"no version is AVAILABLE: {states or 'there is none'}")]
    return [_check_version(client, version, photo, references, server) for version in versions]


def _check_version(client: FeatureClient, version: int, photo: bytes, references: References, server: str) -> Result:
    facts: dict[str, str] = {}
    try:
        with client.pinned(version) as pinned:
            known = pinned.metadata()
            facts = _facts(known)
            identity = identity_of(known)
            check_precision(identity["precision"])
            reference = references.get(client.model, version)
            if reference is None:
                reference = Reference(
                    identity=identity,
                    source=f"it was first seen at {server}",
                    precision=identity["precision"],
                    probes=carried_probes(pinned, known),
                )
            return _replay(pinned, version, photo, references, reference, identity, facts)
    except TransportError:
        raise
    except FeatserveError as exc:
        return Result(model=client.model, version=version, fault=str(exc), facts=facts)


def _replay(
    client: FeatureClient,
    version: int,
    photo: bytes,
    references: References,
    reference: Reference,
    identity: Mapping[str, str],
    facts: Mapping[str, str],
) -> Result:
    differs = _differs(reference, identity)
    faults: list[tuple[float, str]] = []
    cosines: dict[str, float] = {}
    for probe in (probe for probe in reference.probes if probe.name != CANARY):
        faults += _faults(probe, reference.precision, _ask(client, probe.image), cosines)
    started = time.monotonic()
    answer = _ask(client, photo)
    latency_s = time.monotonic() - started
    canary = reference.canary(photo)
    if canary is None and not differs and not faults:
        expected = {layer: sample_of(values) for layer, values in answer.items()}
        own = reference.with_canary(Probe(name=CANARY, image=photo, expected=expected))
        reference = references.keep(client.model, version, own)
        if reference is not own:  # another server, looked at in the same moment, came first
            differs, canary = _differs(reference, identity), reference.canary(photo)
    if canary is not None:
        faults += _faults(canary, reference.precision, answer, cosines)
    return Result(
        model=client.model,
        version=version,
        fault="; ".join(filter(None, (differs, _worst(faults)))),
        cosines=cosines,
        latency_s=latency_s,
        facts=facts,
        against="golden answers" if reference.golden else "its first answer",
    )


def _ask(client: FeatureClient, image: bytes) -> Answer:
    return client.predict({"image_bytes": np.array([image], object)}, signature="encoded")


def _facts(known: ModelMetadata) -> dict[str, str]:
    manifest = known.manifest or {}
    weights, versions = manifest.get("weights"), manifest.get("versions")
    releases = versions if isinstance(versions, dict) else {}
    return {
        "weights": str((weights or {}).get("sha256") or "unknown")[:12],
        "precision": str(manifest.get("precision", "unknown")),
        "featserve": str(releases.get("featserve", "unknown")),
        "tensorflow": str(releases.get("tensorflow", "unknown")),
    }


def _differs(reference: Reference, identity: Mapping[str, str]) -> str:
    differences = [
        f"{key} {identity[key]} instead of {value}"
        for key, value in reference.identity.items()
        if identity[key] != value
    ]
    if not differences:
        return ""
    return f"this is another model of the same name and version: {', '.join(differences)} as when {reference.source}"


def _worst(faults: Sequence[tuple[float, str]]) -> str:
    """Returns the sentence about the worst of the layers that are wrong; empty if there is none."""
    if not faults:
        return ""
    _, sentence = min(faults, key=lambda fault: -2.0 if math.isnan(fault[0]) else fault[0])
    return f"{sentence} (the worst of {len(faults)})" if len(faults) > 1 else sentence


def _faults(probe: Probe, precision: str, answer: Answer, cosines: dict[str, float]) -> Iterator[tuple[float, str]]:
    for layer, sample in probe.expected.items():
        cosine, norm = sample.compare(answer.get(layer))
        cosines[layer] = float(np.min([cosines.get(layer, 1.0), cosine]))  # a NaN stays one
        limit = sample.cosine_limit(precision)
        if math.isnan(cosine):
            shape = answer[layer].shape if layer in answer else None
            what = f"has the shape {shape}, or holds NaN" if shape else "is missing"
            yield cosine, f"{probe.name}: layer {layer} {what}"
        elif cosine < limit:
            yield (
                cosine,
                f"{probe.name}: layer {layer} has cosine {cosine:.5f} with what is expected (at least {limit:g})",
            )
        elif norm > sample.norm_limit:
            off = f"{norm:.0%} longer or shorter than expected (at most {sample.norm_limit:.0%})"
            yield cosine, f"{probe.name}: layer {layer} is {off}"
