"""The paths of URLs, and the model that each names.

Reference: tensorflow_serving/model_servers/http_rest_api_util.cc.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from ..errors import InvalidArgument
from ..models.state import ModelRef

_CHOICE = r"(?:(?:/versions/(?P<version>\d+))|(?:/labels/(?P<label>[^/:]+)))?"
MODEL_CALL = re.compile(rf"/v1/models/(?P<name>[^/:]+){_CHOICE}:(?P<method>classify|regress|predict)", re.I | re.A)
MODEL_VIEW = re.compile(rf"/v1/models(?:/(?P<name>[^/:]+))?{_CHOICE}(?:/(?P<metadata>metadata))?", re.I | re.A)
API = re.compile(r"/v1/.*", re.I | re.S)


def model_ref(found: re.Match[str]) -> ModelRef:
    """Returns the model of a path that matches `MODEL_CALL` or `MODEL_VIEW`.

    Raises:
        InvalidArgument: the version is larger than a version can be; its text is empty, as TensorFlow Serving's answer.
    """
    version = found["version"]
    if version is not None and int(version) >= 2**63:
        raise InvalidArgument("")
    return ModelRef(
        name=unquote(found["name"] or ""),
        version=None if version is None else int(version),
        label=None if found["label"] is None else unquote(found["label"]),
    )
