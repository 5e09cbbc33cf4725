"""Labels: names of versions, such as `stable` and `canary`, that move from one version to another without a load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import FailedPrecondition
from .state import Model


class Labels:
    """Decides which version a label may name.

    Args:
        allow_unavailable: let a label that is not in use name a version that is not loaded.
    """

    def __init__(self, *, allow_unavailable: bool) -> None:
        self._allow_unavailable = allow_unavailable

    def check_before_load(self, model: Model | None, name: str, config: Any, chosen: set[int]) -> None:
        """Refuses labels that no load could make right.

        Args:
            model: the model as it is, if it was seen.
            name: its name.
            config: its new `ModelConfig`.
            chosen: the versions that the new policy asks for.

        Raises:
            FailedPrecondition: a label's version will not be loaded.
        """
        available = set(model.available()) if model else set()
        for label, version in config.version_labels.items():
            moves = model is not None and model.labels.get(label, version) != version
            if version not in available | chosen and (moves or not self._allow_unavailable):
                raise _refusal(name, version)

    def check(self, models: Mapping[str, Model], configs: Mapping[str, Any]) -> None:
        """Refuses labels of versions that are not available.

        Raises:
            FailedPrecondition: a label names a version that is not available.
        """
        for name, config in configs.items():
            for label, version in config.version_labels.items():
                if not self._may_name(models[name], label, version):
                    raise _refusal(name, version)

    def move(self, model: Model, name: str, config: Any) -> None:
        """Lets labels name the versions that the configuration says; labels that cannot move stay where they are.

        Raises:
            FailedPrecondition: a label cannot move; the text names the first such label's version.
        """
        error, labels = None, {}
        for label, version in config.version_labels.items():
            if self._may_name(model, label, version):
                labels[label] = version
                continue
            error = error or _refusal(name, version)
            if label in model.labels:
                labels[label] = model.labels[label]
        model.labels = labels
        if error:
            raise error

    def _may_name(self, model: Model, label: str, version: int) -> bool:
        if version in model.available():
            return True
        return self._allow_unavailable and model.labels.get(label, version) == version


def _refusal(name: str, version: int) -> FailedPrecondition:
    return FailedPrecondition(
        f"Request to assign label to version {version} of model {name}, which is not currently available for inference"
    )
