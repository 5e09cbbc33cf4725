"""The networks that are measured, exported once."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from . import deployment, photos
from .deployment import say
from .errors import LoadError
from .server import ROOT

#: Name, and how it is exported.
MODELS: dict[str, list[str]] = {
    "efficientnet_lite0": [],
    "mobilenet": ["--alpha", "0.25", "--weights", "random"],
    "resnet50": ["--weights", "random"],
    "inception_v3": ["--weights", "random"],
    "vgg16": ["--weights", "random"],
    "convnext_base": ["--weights", "random"],
}
DEFAULT = "efficientnet_lite0"


def exported(options: argparse.Namespace, model: str, name: str | None = None, extra: Sequence[str] = ()) -> Path:
    """Returns the versions' directory of a network, exported if it is not there yet."""
    base_path: Path = options.model_root / (name or model)
    if not (base_path / "1" / "saved_model.pb").exists():
        deployment.export(model, "--model-root", str(options.model_root), "--version", "1", *MODELS[model], *extra)
    return base_path


def exported_in(options: argparse.Namespace, model: str, precision: str) -> tuple[str, Path]:
    """Returns the name and versions' directory of a network in a precision; `winograd` is float32 with such kernels.

    Raises:
        LoadError: the export refuses the precision.
    """
    if precision == "float32":
        return model, exported(options, model)
    name = f"{model}_{precision}"
    kind = "--convolutions" if precision == "winograd" else "--precision"
    extra = [kind, precision, "--model-name", name]
    if precision == "int8":
        extra += ["--calibrate", str(photos.folder())]
    return name, exported(options, model, name, extra)


def exported_by_keras(options: argparse.Namespace, model: str) -> Path:
    """Returns the versions' directory of the network written by `model.export()`, preprocessing included."""
    base_path: Path = options.model_root / f"{model}_keras" / "plain"
    if not (base_path / "1" / "saved_model.pb").exists():
        say(f"model.export() of {model}")
        weights = "random" if "random" in MODELS[model] else "imagenet"
        command = [sys.executable, "-m", "featserve_load.plain", model, weights, str(base_path / "1")]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests/load"), "TF_CPP_MIN_LOG_LEVEL": "3"}
        if subprocess.run(command, stdout=subprocess.DEVNULL, env=environment, timeout=900).returncode:
            raise LoadError(f"model.export() of {model} failed; its errors are above")
    return base_path
