"""Models and versions, as the manager keeps them and as requests and answers name them."""

from __future__ import annotations

import enum
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .servable import Servable
from .versions import Fingerprint


class State(enum.IntEnum):
    """A version's state, numbered as in `get_model_status.proto`."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True, kw_only=True)
class ModelRef:
    """The model that a request names: a version, or a label, or else the latest."""

    name: str
    version: int | None = None
    label: str | None = None


@dataclass(frozen=True, kw_only=True)
class VersionStatus:
    """One line of a model's status; `error_code` is a canonical status number, 0 where nothing failed."""

    version: int
    state: State
    error_code: int = 0
    error_message: str = ""
    #: When the version came into this state: seconds since 1970.
    since: float = 0.0
    labels: tuple[str, ...] = ()


@dataclass
class Version:
    """A version that was seen: its directory, how far it got, and how many calls hold it."""

    name: str
    number: int
    path: Path
    state: State = State.START
    error_code: int = 0
    error_message: str = ""
    fingerprint: Fingerprint = ()
    servable: Servable | None = None
    users: int = 0
    since: float = field(default_factory=time.time)

    def enter(self, state: State) -> None:
        """Changes the state, and notes when."""
        self.state, self.since = state, time.time()


@dataclass
class Model:
    """A model that was seen, with its versions by number and the labels that name them."""

    config: Any | None  # None once a reload has left the model out
    versions: dict[int, Version] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    unreadable: bool = False  # so that it is said once, not at each poll

    def available(self) -> list[int]:
        """Returns the numbers of the versions that can be called, newest first."""
        return sorted((n for n, v in self.versions.items() if v.state is State.AVAILABLE), reverse=True)

    def statuses(self) -> list[VersionStatus]:
        """Returns each version's line of a status, newest first."""
        return [
            VersionStatus(
                version=number,
                state=version.state,
                error_code=version.error_code,
                error_message=version.error_message,
                since=version.since,
                labels=tuple(sorted(label for label, named in self.labels.items() if named == number)),
            )
            for number, version in sorted(self.versions.items(), reverse=True)
        ]

    def is_loading(self) -> bool:
        """Whether the model is configured and each of its versions is still on its way."""
        return self.config is not None and all(v.state in (State.START, State.LOADING) for v in self.versions.values())
