"""Chooses between the table of backbones and a file."""

from __future__ import annotations

import keras

from ..errors import ExportError, InvalidOptionError
from ..options import ExportOptions
from .backbone import build_backbone
from .keras_file import explain
from .live_model import LiveModel
from .own_model import load_own_model


def load_live_model(options: ExportOptions) -> LiveModel:
    """Builds the backbone or loads the model file that the options name.

    Raises:
        InvalidOptionError: an option does not fit the network.
        WeightsError: the weights are missing or of another architecture, or the file cannot be loaded.
    """
    if keras.backend.backend() != "tensorflow":
        raise InvalidOptionError(
            f"expected Keras on the tensorflow backend, received {keras.backend.backend()}; "
            "set KERAS_BACKEND=tensorflow"
        )
    try:
        return load_own_model(options) if options.is_model_file else build_backbone(options)
    except ExportError:
        raise
    except Exception as error:  # whatever a network of the user's own raises
        raise InvalidOptionError(f"{options.backbone} cannot be used: {explain(error)}") from error
