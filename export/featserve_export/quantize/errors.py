"""The refusal of quantisation."""

from ..errors import ExportError


class QuantizationError(ExportError):
    """The graph cannot be served in eight bits: no photos, operations without a kernel, or features that drift."""
