"""Exports image backbones as SavedModels that hold everything from image bytes to activations."""

from __future__ import annotations

import importlib
from importlib import metadata
from typing import TYPE_CHECKING, Any

from .errors import ExportError, InvalidOptionError, VerificationError, WeightsError

if TYPE_CHECKING:
    from .backbones import Backbone, list_backbones
    from .batching import Batching, read_batching
    from .options import ExportOptions
    from .pipeline import ExportReport, export_backbone
    from .saved_model.rebatch import rebatch

__all__ = [
    "Backbone",
    "Batching",
    "ExportError",
    "ExportOptions",
    "ExportReport",
    "InvalidOptionError",
    "VerificationError",
    "WeightsError",
    "export_backbone",
    "list_backbones",
    "read_batching",
    "rebatch",
]

_MODULES = {
    "Backbone": "backbones",
    "Batching": "batching",
    "ExportOptions": "options",
    "ExportReport": "pipeline",
    "export_backbone": "pipeline",
    "list_backbones": "backbones",
    "read_batching": "batching",
    "rebatch": "saved_model.rebatch",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return metadata.version("featserve")
    # TensorFlow takes seconds to import: only what needs it does.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error.name} is not installed; pip install 'featserve[export]'") from error
