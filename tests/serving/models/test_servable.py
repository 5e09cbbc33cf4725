"""What becomes of the errors of TensorFlow's steps."""

import numpy as np
import pytest
from featserve_serving.c_api.library import OpError
from featserve_serving.errors import InvalidArgument, RequestError
from featserve_serving.models.servable import Servable
from featserve_serving.options import ModelOptions


def servable(saved_model, *told):
    """A version whose steps tell these errors, one after the other."""
    version = Servable(saved_model(1), ModelOptions())
    left = list(told)

    def run(feeds, fetches):
        raise left.pop(0)

    version._session.run = run
    return version, left


CANCELLED = OpError(1, "Loop execution was cancelled.")


def test_a_loop_that_was_cancelled_tells_why(saved_model):
    version, left = servable(saved_model, CANCELLED, CANCELLED, OpError(3, "no JPEG"))
    with pytest.raises(InvalidArgument, match="no JPEG"):
        version.run("", {"x": np.ones(1, np.float32)})
    assert not left


def test_a_step_that_is_always_cancelled_ends(saved_model):
    version, left = servable(saved_model, *[CANCELLED] * 100)
    with pytest.raises(RequestError):
        version.run("", {"x": np.ones(1, np.float32)})
    assert 90 < len(left) < 100
