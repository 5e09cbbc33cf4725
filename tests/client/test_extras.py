"""Packages that are not installed."""

import pytest
from featserve_client import MissingExtraError
from featserve_client import extras as extras


def test_a_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras.importlib, "import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
    with pytest.raises(MissingExtraError, match=r"needs matplotlib: pip install 'featserve\[pictures\]'"):
        extras.require("matplotlib.figure", "pictures", "a picture")
