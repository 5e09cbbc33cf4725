"""Fixtures shared by every part's tests."""

import os
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

with warnings.catch_warnings():
    # TensorFlow's own import warns; its users cannot mend that.
    warnings.simplefilter("ignore")
    import tensorflow  # noqa: F401
