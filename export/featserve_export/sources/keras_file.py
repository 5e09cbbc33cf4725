"""Loads a Keras model from a file, and says in a sentence why where Keras cannot."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import keras

from ..errors import ExportError, InvalidOptionError, WeightsError
from .keras2 import as_keras3
from .keras_archive import unpacked

_CAUSE = "Exception encountered: "
_LONGEST_CAUSE = 600
_IN_A_CALL = re.compile(r"Exception encountered when calling (\S+?)\.?\n\n(.*?)(?:\n\nArguments received|$)", re.DOTALL)
_IN_A_GRAPH = re.compile(r"Graph execution error:.*\n\s*([^\n]+)\n\s*\[\[\{\{node", re.DOTALL)
_ASIDES = re.compile(r" Full object config| Make sure custom classes| Please ensure you are using| See https?:")
_TERMINAL_CODES = re.compile(r"\x1b\[\d*m")
_UNKNOWN_CLASS = re.compile(r"Could not locate (?:class|function) '|Unknown (?:layer|\w+ function|\w+): '")
_LAMBDA = re.compile(r"safe_mode|unsafe_deserialization")
_ADVICE = (
    (
        _UNKNOWN_CLASS,
        "name the Python file that defines it with --custom-objects FILE.py, and the code of that file runs",
    ),
    (re.compile("NHWC tensor format"), "build the network with channels last, which every server's CPU runs"),
    (
        re.compile(r"Unrecognized keyword|deserializ|cannot contain character|quantization_mode"),
        "if another version of Keras wrote the file, load it there, save it with model.export('DIRECTORY') and export "
        "that directory",
    ),
)


def is_whole_model(path: Path) -> bool:
    """Whether a file holds a network and not weights alone."""
    if path.suffix == ".keras":
        return True
    if not h5py.is_hdf5(path):
        return False
    with h5py.File(path) as file:
        return "model_config" in file.attrs


def load_keras_file(path: Path, *, custom_objects: str | Path | None = None, allow_lambda: bool = False) -> keras.Model:
    """Loads a whole model.

    Args:
        path: a `.keras` file, or an `.h5` file of Keras 3 or 2.
        custom_objects: a Python file that defines what the model needs beside Keras. Its code runs.
        allow_lambda: load Lambda layers. The code that the file holds runs.

    Raises:
        InvalidOptionError: the file of custom objects cannot be used.
        WeightsError: the model cannot be loaded, and Keras' reason is quoted; or there is no room to unpack it.
    """
    if not path.is_file():
        raise WeightsError(f"expected the file of a Keras model, received {path}, which is not there")
    if path.suffix != ".keras" and h5py.is_hdf5(path) and not is_whole_model(path):
        raise WeightsError(
            f"expected a whole model in {path}, received weights alone; name their network, as in "
            f"featserve-export mobilenet_v2 --weights {path}"
        )
    objects = _objects_in(Path(custom_objects)) if custom_objects is not None else {}
    try:
        if path.suffix == ".keras":
            with unpacked(path) as folder:
                return keras.models.load_model(
                    folder, custom_objects=objects, compile=False, safe_mode=not allow_lambda
                )
        with as_keras3(path) as (file, legacy):
            return keras.models.load_model(
                file, custom_objects={**legacy, **objects}, compile=False, safe_mode=not allow_lambda
            )
    except ExportError:
        raise
    # Keras, h5py, zipfile and the file's own classes raise whatever they like.
    except Exception as error:
        raise WeightsError(f"expected a Keras model in {path}, received: {explain(error)}") from error


def explain(error: Exception) -> str:
    """The cause of an error of Keras, and what to do about it."""
    if _LAMBDA.search(str(error)):
        return (
            "a Lambda layer, whose code is in the file; if you trust the file, add --allow-lambda, and that code runs"
        )
    cause = first_sentences(error)
    for pattern, advice in _ADVICE:
        if pattern.search(str(error) if pattern is _UNKNOWN_CLASS else cause):
            return f"{cause.rstrip('.')}; {advice}"
    return cause


def first_sentences(error: Exception) -> str:
    """The innermost cause that an error of Keras quotes, in a few lines."""
    text = _TERMINAL_CODES.sub("", str(error))
    text = text.rpartition(_CAUSE)[2] or text
    if (raised := _IN_A_CALL.search(text)) is not None:
        text = f"{raised[1]}: {raised[2]}"
    elif (raised := _IN_A_GRAPH.search(text)) is not None:
        text = raised[1]
    text = _ASIDES.split(text)[0]
    text = " ".join(text.split())
    if isinstance(error, KeyError) or not text:
        text = f"{type(error).__name__} {text}".strip()
    return text if len(text) <= _LONGEST_CAUSE else f"{text[:_LONGEST_CAUSE]} …"


def _objects_in(path: Path) -> dict[str, Any]:
    """The classes and functions that a Python file defines, by name."""
    if not path.is_file():
        raise InvalidOptionError(f"expected a Python file with --custom-objects, received {path}, which is not there")
    try:
        spec = importlib.util.spec_from_loader(path.stem, loader=None)
        module = ModuleType(path.stem) if spec is None else importlib.util.module_from_spec(spec)
        module.__file__ = str(path)
        exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
    except ExportError:
        raise
    except (Exception, SystemExit) as error:
        raise InvalidOptionError(
            f"expected a Python file that runs with --custom-objects, received {path}, which fails with "
            f"{type(error).__name__}: {first_sentences(error) if isinstance(error, Exception) else error}"
        ) from error
    return {name: value for name, value in vars(module).items() if callable(value) and not name.startswith("__")}
