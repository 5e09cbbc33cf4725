"""An engine with the kit, for the tests that need containers."""

from __future__ import annotations

import pytest

from .engine import Engine
from .kit import Kit, export


@pytest.fixture(scope="session")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """The kit and the model `first`; skips where no engine is."""
    engine = Engine.find()
    if isinstance(engine, str):
        pytest.skip(engine)
    models = tmp_path_factory.mktemp("kit") / "models"
    export("first", models)
    return Kit.of(engine, models)
