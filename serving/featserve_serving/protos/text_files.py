"""Configuration files: text protos, with errors that name file, line and field."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from google.protobuf import message, text_format

from ..errors import SetupError

M = TypeVar("M", bound=message.Message)


def read(path: Path, into: M) -> M:
    """Reads a file into a message.

    Raises:
        SetupError: the file cannot be read, or does not hold such a message.
    """
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), into)
    except OSError as exc:
        raise SetupError(f"{path}: {exc.strerror}") from exc
    except text_format.ParseError as exc:
        where = ":".join(str(number) for number in (exc.GetLine(), exc.GetColumn()) if number)
        reason = str(exc).removeprefix(f"{where} : ")
        raise SetupError(f"{path}:{where}: expected a text proto of {into.DESCRIPTOR.name}: {reason}") from exc
    except UnicodeDecodeError as exc:
        raise SetupError(
            f"{path}: expected a text proto of {into.DESCRIPTOR.name}, received bytes that are no text"
        ) from exc
