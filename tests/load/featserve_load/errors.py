"""The one error of these tools."""


class LoadError(Exception):
    """What was asked for cannot be measured; the text says why and what to change."""
