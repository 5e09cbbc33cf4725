"""Paths of models as people give them: which of them this machine can read, and which one was meant."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

from ..errors import SetupError
from .versions import is_saved_model, scan_versions

# A path object keeps one of a URI's two slashes.
_URI = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):/{1,2}(?P<rest>.*)")
_SHOWN = 5


def local_path(text: str | Path) -> Path:
    """Returns the path of a directory of this machine, given as a path or as a `file://` URI.

    Raises:
        SetupError: the text is the URI of another place.
    """
    found = _URI.fullmatch(str(text))
    if found is None:
        return Path(text)
    if found["scheme"].lower() != "file":
        raise SetupError(
            f"expected a directory of this machine, or file://, received {found['scheme']}://{found['rest']}: mount or "
            "copy it here; a TensorFlow Serving that was built with that file system takes it as base_path in a "
            "--model_config_file"
        )
    rest = unquote(found["rest"]).removeprefix("localhost/")
    return Path("/" + rest.lstrip("/"))


def check_base_path(path: Path) -> Path:
    """Returns the directory of a model's versions, unless it is plain that another was meant.

    Raises:
        SetupError: the directory is a version, or holds models; the text has the flag that serves it.
    """
    if not scan_versions(path) and (hint := meant(path)):
        raise SetupError(
            f"--model_base_path {path}: expected MODEL_ROOT/NAME, which holds VERSION/ directories; {hint}"
        )
    return path


def meant(path: Path) -> str | None:
    """Returns which flag serves what is in a directory, or `None` where no model is near."""
    if path.is_dir() and is_saved_model(path):
        model = path.absolute().parent
        return f"this is a version: --model_base_path={model} serves its model, --model_root={model.parent} all there"
    if scan_versions(path):
        return f"this is one model: serve it with --model_base_path={path}, or all with --model_root={path.parent}"
    if models := _models(path):
        names = ", ".join(each.name for each in models[:_SHOWN])
        return (
            f"this holds models ({names}): serve all with --model_root={path}, one with --model_base_path={models[0]}"
        )
    for child in _folders(path):
        if _models(child):
            return f"models are one level below: --model_root={child}"
    return None


def _models(path: Path) -> list[Path]:
    return [child for child in _folders(path) if scan_versions(child)]


def _folders(path: Path) -> list[Path]:
    try:
        return sorted(child for child in path.iterdir() if child.is_dir() and child.name[0] not in "._")
    except OSError:
        return []
