"""Packages that only some features need."""

from __future__ import annotations

import importlib
from typing import Any

from .exceptions import MissingExtraError


def require(module: str, extra: str, purpose: str) -> Any:
    """Imports and returns a module.

    Raises:
        MissingExtraError: the module is not installed; the text has the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as exc:
        package = module.partition(".")[0]
        raise MissingExtraError(f"{purpose} needs {package}: pip install 'featserve[{extra}]'") from exc
