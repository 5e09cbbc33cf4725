"""A page that shows what a model server serves, and lets one try it. Needs no TensorFlow.

`featserve console` shows any server, through the client; `console_app` makes the page of any `Source`.
"""

from .app import console_app
from .source import Address, Answer, Description, Signature, Source, SourceError, Tensor, VersionState

__all__ = [
    "Address",
    "Answer",
    "Description",
    "Signature",
    "Source",
    "SourceError",
    "Tensor",
    "VersionState",
    "console_app",
]
