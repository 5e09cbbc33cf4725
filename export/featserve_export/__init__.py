"""Exports image backbones as SavedModels that hold everything from image bytes to activations."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .errors import ExportError, InvalidOptionError, VerificationError, WeightsError

if TYPE_CHECKING:
    from ._batching import Batching, read_batching
    from ._rebatch import rebatch
    from .options import ExportOptions
    from .pipeline import ExportReport, export_backbone
    from .sources.backbones import Backbone, list_backbones

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
    "Backbone": "sources.backbones",
    "Batching": "_batching",
    "ExportOptions": "options",
    "ExportReport": "pipeline",
    "export_backbone": "pipeline",
    "list_backbones": "sources.backbones",
    "read_batching": "_batching",
    "rebatch": "_rebatch",
}


def __getattr__(name: str) -> Any:
    # TensorFlow takes seconds to import: only what needs it does.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error.name} is not installed; pip install 'featserve[export]'") from error
