"""Exports image backbones as SavedModels that hold everything from image bytes to activations."""

from ._backbones import Backbone, list_backbones
from ._batching import Batching, read_batching
from ._errors import ExportError, InvalidOptionError, VerificationError, WeightsError
from ._export import ExportReport, export_backbone
from ._rebatch import rebatch

__all__ = [
    "Backbone",
    "Batching",
    "ExportError",
    "ExportReport",
    "InvalidOptionError",
    "VerificationError",
    "WeightsError",
    "export_backbone",
    "list_backbones",
    "read_batching",
    "rebatch",
]
