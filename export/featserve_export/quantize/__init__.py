"""Static post-training quantisation of a frozen graph into TensorFlow's oneDNN operations."""

from .errors import QuantizationError
from .photos import CalibrationPhotos, read_photos
from .report import LayerReport, QuantizationReport, QuantizedGraph
from .search import held_out_photos, quantize_graph
from .vnni_check import computes_eight_bits
from .writer import kernel_magnitudes

__all__ = [
    "CalibrationPhotos",
    "LayerReport",
    "QuantizationError",
    "QuantizationReport",
    "QuantizedGraph",
    "computes_eight_bits",
    "held_out_photos",
    "kernel_magnitudes",
    "quantize_graph",
    "read_photos",
]
