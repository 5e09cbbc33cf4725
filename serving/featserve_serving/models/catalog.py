"""The models that were seen: requests take versions out of it, and the manager changes it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import InvalidArgument, NotFound, Unavailable
from .servable import Servable
from .state import Model, ModelRef, Version, VersionStatus


class Catalog:
    """The models by name, the version that each request means, and the calls that hold it.

    Attributes:
        models: the models by name, those that are served no more among them.
        changed: guards `models` and every version; told when no call holds a version any longer.
        starting: whether the first models are still being loaded.
    """

    def __init__(self) -> None:
        self.models: dict[str, Model] = {}
        self.changed = threading.Condition()
        self.starting = True

    @contextmanager
    def acquire(self, ref: ModelRef) -> Iterator[tuple[int, Servable]]:
        """Holds a version for the time of a call: `(number, servable)`.

        Raises:
            InvalidArgument: the request names no model, or an unknown label.
            NotFound: the model or the version is not available.
        """
        version = self._take(ref)
        try:
            if version.servable is None:
                raise Unavailable("The version is being unloaded.")
            yield version.number, version.servable
        finally:
            with self.changed:
                version.users -= 1
                if not version.users:
                    self.changed.notify_all()

    def _take(self, ref: ModelRef) -> Version:
        if not ref.name:
            raise InvalidArgument("ModelSpec has no name specified.")
        with self.changed:
            model = self.models.get(ref.name)
            number = ref.version
            if ref.label is not None:
                number = model.labels.get(ref.label) if model else None
                if number is None:
                    raise InvalidArgument(f"Unrecognized servable version label: {ref.label}")
            wanted = f"Latest({ref.name})" if number is None else f"Specific({ref.name}, {number})"
            available = model.available() if model else []
            if model and not available and self.starting and model.is_loading():
                raise Unavailable(f"Model {ref.name} is being loaded; ask again in a moment.")
            if model is None or not available or (number is not None and number not in available):
                raise NotFound(f"Servable not found for request: {wanted}")
            version = model.versions[available[0] if number is None else number]
            version.users += 1
            return version

    def statuses(self, name: str, version: int | None = None) -> list[VersionStatus]:
        """Returns the state of each version, newest first.

        Raises:
            NotFound: the model, or the version, was never seen.
        """
        with self.changed:
            versions = self.models[name].versions if name in self.models else {}
            if version is not None and version not in versions:
                raise NotFound(f"Could not find version {version} of model {name}")
            if not versions:
                raise NotFound(f"Could not find any versions of model {name}")
            return [each for each in self.models[name].statuses() if version in (None, each.version)]

    def every_status(self) -> dict[str, list[VersionStatus]]:
        """Returns the state of each version of each model, newest first."""
        with self.changed:
            return {name: model.statuses() for name, model in self.models.items() if model.config or model.versions}

    def available(self) -> dict[str, list[int]]:
        """Returns the available versions of each model, newest first."""
        with self.changed:
            return {name: model.available() for name, model in self.models.items()}

    def every_state(self) -> list[tuple[str, int, int]]:
        """Returns `(model, version, state)` of every version seen."""
        with self.changed:
            return [
                (name, number, int(version.state))
                for name, model in self.models.items()
                for number, version in model.versions.items()
            ]

    def executed_batches(self) -> list[tuple[str, int, list[int]]]:
        """Returns `(model, version, how many batches of each size)` of every available version that batches."""
        batches = []
        for name, numbers in self.available().items():
            for number in numbers:
                with contextlib.suppress(NotFound), self.acquire(ModelRef(name=name, version=number)) as held:
                    if counts := held[1].executed_batches():
                        batches.append((name, number, counts))
        return batches
