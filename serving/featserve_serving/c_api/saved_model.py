"""A SavedModel, read and put into a session as TensorFlow's C++ loader does.

Reference: tensorflow/cc/saved_model/{reader,loader}.cc.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import message, text_format

from ..protos.generated import meta_graph_pb2, saved_model_pb2
from .library import OpError
from .session import Session

_NOT_FOUND, _FAILED_PRECONDITION, _DATA_LOSS = 5, 9, 15
_INIT_OP = "__saved_model_init_op"


def read(path: Path, tags: Collection[str]) -> Any:
    """Returns the `MetaGraphDef` that has these tags and no other.

    Raises:
        OpError: no graph has these tags, or the file holds no SavedModel.
        OSError: the file cannot be read.
    """
    for meta_graph in _read(path).meta_graphs:
        if set(meta_graph.meta_info_def.tags) == set(tags):
            return meta_graph
    raise OpError(
        _NOT_FOUND,
        f"Could not find meta graph def matching supplied tags: {{ {' '.join(tags)} }}. To inspect available tag-sets "
        "in the SavedModel, please use the SavedModel CLI: `saved_model_cli`",
    )


def load(meta_graph: Any, path: Path, session: Session) -> None:
    """Puts a graph into a session, restores its variables from the SavedModel's directory, and initializes it."""
    session.extend(meta_graph.graph_def)
    assets = _assets(meta_graph, path)
    if (path / "variables" / "variables.index").is_file():
        saver = meta_graph.saver_def
        feeds = assets | {saver.filename_tensor_name: _string(path / "variables" / "variables")}
        session.run(feeds, (), (saver.restore_op_name,))
    if init_op := _init_op(meta_graph):
        session.run(assets, (), (init_op,))


def _read(path: Path) -> Any:
    binary, text = path / "saved_model.pb", path / "saved_model.pbtxt"
    try:
        if binary.is_file():
            return saved_model_pb2.SavedModel.FromString(binary.read_bytes())
        if text.is_file():
            return text_format.Parse(text.read_text(encoding="utf-8"), saved_model_pb2.SavedModel())
    except (message.DecodeError, text_format.ParseError, UnicodeDecodeError) as exc:
        raise OpError(_DATA_LOSS, f"Can't parse the SavedModel in {path}: {exc}") from exc
    raise OpError(_NOT_FOUND, f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {path}")


def _assets(meta_graph: Any, path: Path) -> dict[str, np.ndarray[Any, Any]]:
    files = list(meta_graph.asset_file_def)
    if not files:
        for packed in meta_graph.collection_def["saved_model_assets"].any_list.value:
            file = meta_graph_pb2.AssetFileDef()
            packed.Unpack(file)
            files.append(file)
    return {file.tensor_info.name: _string(path / "assets" / file.filename) for file in files}


def _init_op(meta_graph: Any) -> str:
    """Returns the name of the operation that initializes the graph, such as one that fills its tables."""
    if _INIT_OP in meta_graph.signature_def:
        name: str = meta_graph.signature_def[_INIT_OP].outputs[_INIT_OP].name
        return name.partition(":")[0]
    for key in ("saved_model_main_op", "legacy_init_op"):
        if key in meta_graph.collection_def:
            names = meta_graph.collection_def[key].node_list.value
            if len(names) != 1:
                raise OpError(_FAILED_PRECONDITION, f"Expected exactly one {key}, found {len(names)}")
            return str(names[0])
    return ""


def _string(path: Path) -> np.ndarray[Any, Any]:
    return np.array(str(path).encode(), dtype=object)
