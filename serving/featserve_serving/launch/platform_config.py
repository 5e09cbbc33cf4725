"""The file that lets TensorFlow Serving tell its models apart in the metrics of batches: a template, filled with flags.

The container's entrypoint fills the same template.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from .flags import Flags, as_text

#: Flags about sessions that are files, or more than a field: with one of them TensorFlow Serving goes by its flags.
NOT_IN_FILE = frozenset(
    """
    batching_parameters_file enable_batching enable_per_model_batching_parameters tensorflow_session_config_file
    xla_cpu_compilation_enabled xla_gpu_compilation_enabled
    """.split()
)
_PLACE = re.compile(r"@([a-z_]+)=[^@]*@")


def filled(template: Path, flags: Flags) -> str:
    """Returns the `PlatformConfigMap` text proto that says what the flags about sessions say."""
    if both := flags.tensorflow_session_parallelism:
        flags = replace(flags, tensorflow_intra_op_parallelism=both, tensorflow_inter_op_parallelism=both)

    def value(place: re.Match[str]) -> str:
        return as_text(getattr(flags, place[1])).replace(",", '", "')

    return _PLACE.sub(value, template.read_text())
