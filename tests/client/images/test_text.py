"""Texts given as images that are no paths."""

import base64

import numpy as np
import pytest
from featserve_client import FeatureClient, InvalidImageError

from ..command import featserve
from ..fake_server import FakeServer, features, jpeg

BASE64 = base64.b64encode(jpeg(0, (400, 300))).decode()


@pytest.mark.parametrize("head", ["data:image/jpeg;base64,", "data:;base64,", "DATA:image/jpeg;x=y;base64,"])
def test_data_uris_are_decoded(client: FeatureClient, head: str) -> None:
    photo = jpeg(1)
    uri = head + base64.b64encode(photo).decode()
    np.testing.assert_array_equal(client.extract(uri)["late"][0], features(photo)["late"])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("https://example.org/cat.jpg", "is a URL, not a path: fetch the file"),
        ("s3://bucket/cat.jpg", "is a URL"),
        (BASE64, r"is base64, not a path: pass the bytes, base64.b64decode"),
        ("data:image/png;base64,@@@", "base64 cannot be decoded"),
        ("x" * 100_000, "longer than any path"),
    ],
)
def test_other_texts_are_named_in_short(client: FeatureClient, server: FakeServer, text: str, told: str) -> None:
    with pytest.raises(InvalidImageError, match=told) as caught:
        client.extract(text)
    assert len(str(caught.value)) < 250 and not server.predicts


@pytest.mark.parametrize("text", ["https://example.org/cat.jpg", BASE64, f"data:image/jpeg;base64,{BASE64}"])
def test_the_command_tells_them_from_paths(server: FakeServer, capsys: pytest.CaptureFixture[str], text: str) -> None:
    assert featserve(server, "extract", text) == 2
    err = capsys.readouterr().err
    assert len(err) < 250 and any(word in err for word in ("URL", "base64", "data URI"))
