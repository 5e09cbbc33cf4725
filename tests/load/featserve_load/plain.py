"""Writes a network the usual way: `model.export()`, with its preprocessing, for float pixels."""

from __future__ import annotations

import sys


def main(backbone: str, weights: str, directory: str) -> None:
    """Writes a SavedModel."""
    import keras
    from featserve_export import ExportOptions
    from featserve_export.sources.load import load_live_model

    live = load_live_model(ExportOptions(backbone, weights=weights))
    images = keras.Input((*live.image_size, 3))
    keras.Model(images, live.model(live.preprocess(images))).export(directory, verbose=False)


if __name__ == "__main__":
    main(*sys.argv[1:4])
