"""Classes by the names that the model carries."""

import asyncio
import json
import pathlib

import numpy as np
import pytest
from featserve_client import AsyncFeatureClient, ClassScore, ConfigError, FeatureClient, ResponseError

from ..command import featserve
from ..fake_server import MANIFEST, FakeServer, features, jpeg

NAMES = ["ant", "bee", "cat", "dog"]


@pytest.fixture
def classifier(server: FakeServer) -> FakeServer:
    server.manifest = MANIFEST | {"labels": {"late": NAMES}, "backbone": "vgg16"}
    return server


def test_each_image_has_its_classes_best_first(classifier: FakeServer, client: FeatureClient) -> None:
    photos = [jpeg(seed) for seed in range(3)]
    found = client.classify(photos, top=2)
    for photo, classes in zip(photos, found, strict=True):
        scores = features(photo)["late"]
        order = np.argsort(-scores, kind="stable")[:2]
        assert classes == [ClassScore(index=int(i), label=NAMES[i], score=float(scores[i])) for i in order]
    assert len(client.classify(photos[0])[0]) == 4  # as many as there are

    async def ask() -> list[list[ClassScore]]:
        async with AsyncFeatureClient(classifier.target, model="toy") as other:
            return await other.classify(photos, 2)

    assert asyncio.run(ask()) == found


def test_without_names_the_error_has_the_command(server: FakeServer, client: FeatureClient) -> None:
    server.manifest = MANIFEST | {"backbone": "vgg16"}
    with pytest.raises(ConfigError, match=r"no output has names of classes \(it outputs early, late\)") as caught:
        client.classify(jpeg(0))
    assert "`featserve-export vgg16 --layers early,late,predictions`" in str(caught.value)
    assert "--labels FILE" in str(caught.value)
    with pytest.raises(ConfigError, match="output 'late' has no names"):
        client.classify(jpeg(0), layer="late")
    for top in (0, -1, 1.5, "5", None):
        with pytest.raises(ConfigError, match="top must be at least 1, a whole number, not"):
            client.classify(jpeg(0), top)  # type: ignore[arg-type]
    del server.signatures.signature_def["manifest"]
    with FeatureClient(server.target, model="toy") as other, pytest.raises(ConfigError, match="featserve-export"):
        other.classify(jpeg(0))


def test_names_that_are_not_the_outputs_are_no_answer(server: FakeServer, client: FeatureClient) -> None:
    server.manifest = MANIFEST | {"labels": {"late": ["one", "two"]}}
    with pytest.raises(ResponseError, match="names 2 classes"):
        client.classify(jpeg(0))


def test_the_command(classifier: FakeServer, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "a.jpg", tmp_path / "b.jpg"
    good.write_bytes(jpeg(0))
    bad.write_bytes(b"no image")
    assert featserve(classifier, "classify", good, "--top", 1) == 0
    scores = features(jpeg(0))["late"]
    assert capsys.readouterr().out == f"{scores.max():.4f}  {NAMES[int(scores.argmax())]}\n"
    assert featserve(classifier, "classify", tmp_path, "--top", 1, "--json") == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["classes"][0]["label"] == NAMES[int(scores.argmax())]
    assert f"left out: {bad}: not an image" in err
    assert featserve(classifier, "classify", bad) == 2
    assert featserve(classifier, "metadata") == 0
    assert 'labels: {"late": "4 classes"}' in capsys.readouterr().out
