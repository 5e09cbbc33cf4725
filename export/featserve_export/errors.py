"""The exporter's refusals.

ExportError
├── InvalidOptionError   an option's value: expected, received, remedy
├── WeightsError         the weights are missing, damaged or of another architecture
└── VerificationError    the exported graph does not give the live model's activations
"""


class ExportError(Exception):
    """Base of every error of this package; nothing was left behind on disk."""


class InvalidOptionError(ExportError):
    """An option has a value that cannot be exported."""


class WeightsError(ExportError):
    """The weights are missing, damaged or belong to another architecture."""


class VerificationError(ExportError):
    """The reloaded SavedModel's activations differ from the live Keras model's."""
