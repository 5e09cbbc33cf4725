"""The tree of errors."""

import inspect
import pickle

import featserve_client
from featserve_client import (
    ConnectError,
    DeadlineExceeded,
    FeatserveError,
    InvalidImageError,
    InvalidRequest,
    MessageTooLarge,
    ModelNotFound,
    ServerError,
    ServerOverloaded,
    TransportError,
)


def test_the_tree_is_as_drawn() -> None:
    tree = inspect.getdoc(featserve_client.exceptions)
    for name in featserve_client.__all__:
        kind = getattr(featserve_client, name)
        if isinstance(kind, type) and issubclass(kind, FeatserveError):
            assert name in tree
    assert all(issubclass(kind, TransportError) for kind in (ConnectError, DeadlineExceeded, MessageTooLarge))
    assert all(issubclass(kind, ServerError) for kind in (ModelNotFound, InvalidRequest, ServerOverloaded))
    error = pickle.loads(pickle.dumps(InvalidImageError("a.jpg", "is empty")))
    assert (error.source, str(error)) == ("a.jpg", "a.jpg: is empty")
