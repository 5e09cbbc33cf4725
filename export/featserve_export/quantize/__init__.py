"""Static post-training quantisation of a frozen graph into TensorFlow's oneDNN operations."""

from ._errors import QuantizationError
from ._guard import computes_eight_bits
from ._photos import CalibrationPhotos, read_photos
from ._quantize import LayerReport, QuantizationReport, QuantizedGraph, held_out_photos, quantize_graph

__all__ = [
    "CalibrationPhotos",
    "LayerReport",
    "QuantizationError",
    "QuantizationReport",
    "QuantizedGraph",
    "computes_eight_bits",
    "held_out_photos",
    "quantize_graph",
    "read_photos",
]
