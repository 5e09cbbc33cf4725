"""What is an image, and what is not."""

import io
import os
import pathlib
import sys
import types

import numpy as np
import pytest
from featserve_client import (
    ConfigError,
    FeatureClient,
    InvalidImageError,
)
from featserve_client.images.inputs import header_size
from PIL import Image

from ..fake_server import FakeServer, features, jpeg


def test_every_kind_of_image_in_one_list(client: FeatureClient, server: FakeServer, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "ü\nn.jpg"
    path.write_bytes(jpeg(1))
    array = np.random.default_rng(2).integers(0, 256, (5, 7, 3), np.uint8)
    floats = np.random.default_rng(3).random((2, 8, 8, 3), np.float32) * 255
    inputs = [path, str(path), jpeg(4), bytearray(jpeg(5)), io.BytesIO(jpeg(6)), Image.fromarray(array), array, floats]
    expected = [path.read_bytes()] * 2 + [jpeg(4), jpeg(5), jpeg(6), array, array, floats[0], floats[1]]
    got = client.extract(iter(inputs))
    assert set(got) == {"early", "late"}
    assert got["early"].shape == (9, 2, 2, 3) and got["late"].shape == (9, 4)
    for layer, rows in got.items():
        assert rows.dtype == np.float32 and rows.flags.writeable
        np.testing.assert_array_equal(rows, np.stack([features(item)[layer] for item in expected]))
    used = sorted(request.model_spec.signature_name for request in server.predicts)
    assert used == ["encoded", "float_images", "serving_default"]


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 1), (6, 5, 4), (1, 6, 5, 4)])
def test_channels_as_keras_treats_them(client: FeatureClient, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    mode = "L" if shape[-1] in (5, 1) else "RGBA"
    by_pillow = np.asarray(Image.fromarray(array.reshape((6, 5) if mode == "L" else (6, 5, 4)), mode).convert("RGB"))
    np.testing.assert_array_equal(client.extract(array)["early"][0], features(by_pillow)["early"])


def test_pictures_the_server_cannot_read_are_decoded_here(client: FeatureClient) -> None:
    array = np.random.default_rng(1).integers(0, 256, (6, 5, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(array).save(out, "TIFF")
    np.testing.assert_array_equal(client.extract(out.getvalue())["early"][0], features(array)["early"])


@pytest.mark.parametrize(
    ("image", "text"),
    [
        ("/no/such.jpg", "/no/such.jpg: no such file"),
        ("/tmp", "/tmp: is a directory"),
        (b"", "image 0: is empty"),
        (b"hello there", "image 0: not an image"),
        (np.zeros((4, 4, 3), np.int64), "dtype int64"),
        (np.zeros((4, 4, 2), np.uint8), "shape"),
        (np.zeros((0, 4, 3), np.uint8), "empty"),
        (np.full((8, 8, 3), np.nan, np.float32), "NaN"),
        (np.full((8, 8, 3), 1e300), "NaN or infinite"),
        (
            np.full((8, 8, 3), 0.5, np.float32),
            r"float values up to 0.5; expected 0..255: multiply values of 0..1 by 255",
        ),
        (np.ones((2, 8, 8, 3)), "float values up to 1"),
        (np.full((8, 8, 3), -0.5), "float values of -0.5 to -0.5; expected 0..255, as they were before"),
        (np.linspace(-1, 1, 192).reshape(8, 8, 3), "float values of -1 to 1; expected 0..255"),
        (np.linspace(-2.1, 2.6, 192).reshape(8, 8, 3), "float values of -2.1 to 2.6; expected 0..255"),
        (np.linspace(-124, 151, 192).reshape(8, 8, 3), "float values of -124 to 151; expected 0..255"),
        (np.linspace(0, 65535, 192).reshape(8, 8, 3), "float values of 0 to 6.55e+04; expected 0..255"),
        (np.array("a.jpg"), "not ndarray"),
        (io.StringIO("text"), "'rb'"),
        (3, "int"),
        ([{"a": 1}], "dict"),
        ("nul\0byte.jpg", "cannot be read"),
    ],
)
def test_unusable_images(client: FeatureClient, server: FakeServer, image: object, text: str) -> None:
    with pytest.raises(InvalidImageError, match=text.replace("(", r"\(").replace("+", r"\+")):
        client.extract(image)  # type: ignore[arg-type]
    assert not server.predicts


def test_files_are_read_from_their_beginning_as_pillow_does(client: FeatureClient) -> None:
    file = io.BytesIO(jpeg(0))
    Image.open(file).load()
    rows = client.extract([file, file])["late"]
    np.testing.assert_array_equal(rows, np.stack([features(jpeg(0))["late"]] * 2))
    file.close()
    with pytest.raises(InvalidImageError, match="image 0: cannot be read: I/O operation on closed file"):
        client.extract(file)


def test_columns_of_names_are_many_images(client: FeatureClient, tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(0))
    names = np.array([str(tmp_path / "a.jpg")] * 2)
    for column in (names, names.astype(object)):
        assert client.extract(column)["late"].shape == (2, 4)


def test_while_another_thread_imports_pillow(client: FeatureClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", types.ModuleType("PIL.Image"))
    assert client.extract(io.BytesIO(jpeg(0)))["late"].shape == (1, 4)


def test_whatever_pillow_raises_is_the_images_error(server: FakeServer) -> None:
    out = io.BytesIO()
    Image.new("RGB", (40, 30)).save(out, "PNG")
    data = bytearray(out.getvalue())
    data[data.index(b"IDAT") : data.index(b"IDAT") + 4] = b"\x01\x02\x03\x04"  # a SyntaxError of Pillow's
    with FeatureClient(server.target, model="toy", decode="client") as client:
        with pytest.raises(InvalidImageError, match="image 0: "):
            client.extract(bytes(data))


def test_what_a_resize_leaves_beyond_the_range_is_no_mistake(client: FeatureClient) -> None:
    assert client.extract(np.linspace(-20, 280, 192).reshape(8, 8, 3))["late"].shape == (1, 4)
    assert client.extract(np.linspace(0, 3, 192).reshape(8, 8, 3))["late"].shape == (1, 4)  # a dark photo


def test_a_pipe_in_a_folder_is_refused_and_that_of_a_shell_is_read(
    client: FeatureClient, tmp_path: pathlib.Path
) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(InvalidImageError, match="a.jpg: is a pipe, socket or device, not an image"):
        client.extract(tmp_path / "a.jpg")
    reading, writing = os.pipe()
    os.write(writing, jpeg(0))
    os.close(writing)
    try:
        assert client.extract(f"/dev/fd/{reading}")["late"].shape == (1, 4)
    finally:
        os.close(reading)


@pytest.mark.parametrize("layers", [5, [["late"]], "", []])
def test_layers_that_are_no_names(client: FeatureClient, layers: object) -> None:
    with pytest.raises(ConfigError, match="layers must be names"):
        client.extract(jpeg(0), layers)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="layer must be the name of one layer"):
        client.embed(jpeg(0), layers)  # type: ignore[arg-type]


def test_black_is_the_same_in_every_range(client: FeatureClient) -> None:
    assert client.extract(np.zeros((8, 8, 3), np.float32))["late"].shape == (1, 4)


def test_the_size_of_an_encoded_image_is_pillows() -> None:
    gradient = Image.linear_gradient("L").resize((37, 23))
    files = []
    for mode in ("L", "RGB", "CMYK"):
        for options in ({}, {"progressive": True}, {"comment": b"x" * 60_000, "exif": b"Exif\0\0" + bytes(500)}):
            buffer = io.BytesIO()
            gradient.convert(mode).save(buffer, "JPEG", **options)
            files.append(buffer.getvalue())
    filled = files[0][:2] + b"\xff\xff" + files[0][2:]  # markers may have bytes of 0xff before them
    files += [filled, files[0][:-30], jpeg(1)]
    for kind in ("PNG", "GIF", "WEBP"):
        buffer = io.BytesIO()
        gradient.save(buffer, kind)
        files.append(buffer.getvalue())
    for data in files:
        with Image.open(io.BytesIO(data)) as image:
            assert header_size("photo", data) == image.size
    for cut in (files[0][:3], files[0][:40], b"\xff\xd8\xff\xe0\xff\xff" + bytes(20)):
        with pytest.raises(InvalidImageError, match="not an image in a known format"):
            header_size("photo", cut)
