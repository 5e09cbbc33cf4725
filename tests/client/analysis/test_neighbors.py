"""Nearest neighbors."""

import numpy as np
import pytest
from featserve_client import extras as extras
from featserve_client.analysis import neighbors as neighbours
from featserve_client.core.vectors import to_vectors


def test_nearest_is_exact_and_the_index_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = to_vectors(np.random.default_rng(0).normal(size=(2000, 16)).astype(np.float32))
    rows, cosines = neighbours.nearest(vectors, vectors[7], 5)
    assert rows[0] == 7 and cosines[0] == pytest.approx(1)
    np.testing.assert_array_equal(rows, np.argsort(-(vectors @ vectors[7]))[:5])
    monkeypatch.setattr(neighbours, "_INDEX_ROWS", 100)
    found, _ = neighbours.nearest(vectors, vectors[7], 5)
    assert len(set(found) & set(rows)) >= 4
