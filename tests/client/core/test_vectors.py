"""One vector per image: pooled, of length 1, the same by every way."""

import asyncio
import pathlib

import numpy as np
import pytest
from featserve_client import AsyncFeatureClient, ConfigError, FeatureClient
from featserve_client.core.vectors import to_vectors

from ..command import featserve
from ..fake_server import MANIFEST, FakeServer, features, jpeg


def test_feature_maps_are_averaged_and_vectors_have_length_1(client: FeatureClient) -> None:
    photos = [jpeg(seed) for seed in range(5)]
    vectors = client.embed(photos, "early")
    assert vectors.shape == (5, 3) and vectors.dtype == np.float32
    pooled = np.stack([features(photo)["early"].mean(axis=(0, 1)) for photo in photos])
    np.testing.assert_allclose(vectors, pooled / np.linalg.norm(pooled, axis=1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(client.embed(photos, "early", normalize=False), pooled, rtol=1e-5)


def test_the_layer_taken_is_the_last_that_is_no_classifier(client: FeatureClient, server: FakeServer) -> None:
    assert client.embed(jpeg(0)).shape == (1, 4)  # late
    server.manifest = MANIFEST | {"labels": {"late": ["a", "b", "c", "d"]}}
    with FeatureClient(server.target, model="toy") as other:
        assert other.embed(jpeg(0)).shape == (1, 3)  # early
    server.predicts.clear()
    client.embed([jpeg(0), jpeg(1)], "early")
    assert [request.model_spec.signature_name for request in server.predicts] == ["encoded/early"]


def test_awaited_it_gives_the_same(client: FeatureClient, server: FakeServer) -> None:
    async def ask() -> np.ndarray:
        async with AsyncFeatureClient(server.target, model="toy") as other:
            return await other.embed([jpeg(0), jpeg(1)], normalize=False)

    np.testing.assert_array_equal(asyncio.run(ask()), client.embed([jpeg(0), jpeg(1)], normalize=False))


def test_a_vector_of_zeros_stays() -> None:
    assert not to_vectors(np.zeros((2, 3, 3, 4), np.float32)).any()
    with pytest.raises(ConfigError, match="'l1'"):
        to_vectors(np.zeros((2, 4), np.float32), "l1")  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_the_command_writes_what_the_call_returns(
    client: FeatureClient, server: FakeServer, tmp_path: pathlib.Path, suffix: str
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for seed in range(4):
        (photos / f"{seed}.jpg").write_bytes(jpeg(seed))
    for options, normalize in (([], True), (["--no-normalize"], False)):
        output = tmp_path / f"{normalize}{suffix}"
        assert featserve(server, "embed", photos, "--layer", "early", "--output", output, *options) == 0
        wanted = client.embed([jpeg(seed) for seed in range(4)], "early", normalize=normalize)
        if suffix == ".npz":
            found = np.load(output)["early"]
        else:
            parquet = pytest.importorskip("pyarrow.parquet")
            found = parquet.read_table(output)["early"].combine_chunks().to_numpy_ndarray()
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
        assert featserve(server, "extract", photos, "--layers", "early", "--output", output, "--resume") == 2
