"""The manifest, typed: of today's exporter, of older ones, and of none."""

import json

import pytest
from featserve_client import FeatureClient, InvalidRequest, ResponseError
from featserve_client.model.manifest import Manifest, Preprocessing, Weights, parse_json

from ..fake_server import MANIFEST, FakeServer, jpeg


def test_what_an_export_writes_is_read() -> None:
    newer = {
        "version": 3,
        "precision": "int8",
        "formats": ["jpeg", "png"],
        "alpha": 0.25,
        "layers": {"early": {"shape": [2, 2, 3]}, "late": {"shape": [4], "source": "layer late"}},
        "closeness": {"late": 0.9999},
        "labels": {"late": ["cat", "dog"], "odd": 3},
        "of a later release": [1],
    }
    found = Manifest.parse(MANIFEST | newer)
    assert (found.model, found.version, found.precision) == ("toy", 3, "int8")
    assert found.layers == {"early": (2, 2, 3), "late": (4,)} and list(found.layers) == ["early", "late"]
    assert found.weights == Weights(source="random", sha256="0" * 64)
    assert found.preprocessing == Preprocessing(
        height=8, width=8, interpolation="bilinear", crop_to_aspect_ratio=False, max_pixels=1_000_000
    )
    assert (found.formats, found.alpha, found.labels) == (("jpeg", "png"), 0.25, {"late": ("cat", "dog")})
    assert found.sources == {"late": "layer late"}
    assert found.closeness == newer["closeness"]


def test_all_that_older_exports_lack_is_absent() -> None:
    found = Manifest.parse({})
    assert found == Manifest()
    assert found.preprocessing is None and found.labels == {} and found.precision == "float32"


@pytest.mark.parametrize("kind", [1, "text", ["a"], {"a": 1}])
def test_what_the_client_does_not_act_on_stops_nothing(kind: object) -> None:
    Manifest.parse(dict.fromkeys(("formats", "alpha", "outputs", "closeness", "labels"), kind))


@pytest.mark.parametrize(
    ("manifest", "text"),
    [
        ([], "expected an object, received list"),
        ({"version": "1"}, "'version' is '1'"),
        ({"layers": {"late": [4]}}, "layer 'late' is"),
        ({"weights": "random"}, "'weights' is 'random'"),
        ({"preprocessing": {"image_size": [8, 8]}}, "'preprocessing' lacks 'interpolation'"),
    ],
)
def test_what_is_none_is_refused_by_its_key(server: FakeServer, manifest: object, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        parse_json(json.dumps(manifest))
    server.manifest = manifest  # type: ignore[assignment]
    with FeatureClient(server.target, model="toy") as client:
        with pytest.raises(ResponseError, match=f"model 'toy' has a manifest that cannot be read: {text}"):
            client.metadata()
        assert client.extract(jpeg(0))["late"].shape == (1, 4)


@pytest.mark.parametrize(
    ("preprocessing", "text"),
    [
        (None, "its manifest has no preprocessing"),
        ({"interpolation": "area"}, "that this client does not know: .*area"),
    ],
)
def test_decoding_here_needs_a_preprocessing_that_is_known(
    server: FakeServer, preprocessing: dict[str, str] | None, text: str
) -> None:
    server.manifest = MANIFEST | {"preprocessing": preprocessing and MANIFEST["preprocessing"] | preprocessing}
    with FeatureClient(server.target, model="toy", decode="client") as client:
        with pytest.raises(InvalidRequest, match=text):
            client.extract(jpeg(0))
