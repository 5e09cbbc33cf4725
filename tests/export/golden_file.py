"""Reads the golden file of an exported version."""

from pathlib import Path

import numpy as np
from featserve_export.proof.golden import GOLDEN_FILE, Golden


def load_golden(directory: Path) -> Golden:
    """Reads what `Golden.save` wrote."""
    with np.load(directory / GOLDEN_FILE) as arrays:
        expected: dict[str, dict[str, np.ndarray]] = {}
        for key in arrays.files:
            if ":" in key:
                base, layer = key.split(":", 1)
                expected.setdefault(base, {})[layer] = arrays[key]
        count = sum(key.startswith("encoded_") for key in arrays.files)
        return Golden(
            encoded=[arrays[f"encoded_{index}"].tobytes() for index in range(count)],
            images=arrays["images"],
            float_images=arrays["float_images"],
            expected=expected,
        )
