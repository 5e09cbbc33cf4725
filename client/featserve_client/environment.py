"""Options out of the environment: FEATSERVE_SERVER, _MODEL, _CA and _TOKEN_FILE stand in where none is given."""

from __future__ import annotations

import os
from pathlib import Path

from .config import TLS
from .exceptions import ConfigError


def server() -> str:
    """Returns the server's address."""
    return os.environ.get("FEATSERVE_SERVER") or "localhost:8500"


def model() -> str:
    """Returns the model's name."""
    return os.environ.get("FEATSERVE_MODEL") or "efficientnet_lite0"


def tls() -> TLS | None:
    """Returns TLS with the authority that the environment names; None if it names none."""
    ca = os.environ.get("FEATSERVE_CA")
    return TLS(ca=ca) if ca else None


def token() -> str | None:
    """Returns the bearer token in the file that the environment names; None if it names none.

    Raises:
        ConfigError: the file cannot be read.
    """
    path = os.environ.get("FEATSERVE_TOKEN_FILE")
    return read_token(path, "FEATSERVE_TOKEN_FILE") if path else None


def read_token(path: str, option: str) -> str:
    """Returns the bearer token in a file.

    Raises:
        ConfigError: the file cannot be read; the text names the option that names the file.
    """
    try:
        return Path(path).read_text().strip()
    except (OSError, ValueError) as exc:
        raise ConfigError(f"{option}: {exc}") from exc
