"""Archives of Keras, unpacked before Keras reads them."""

import errno
import shutil
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from featserve_export.errors import WeightsError
from featserve_export.sources.keras_archive import unpacked
from featserve_export.sources.keras_file import load_keras_file
from keras.src.saving import saving_lib

MEMBERS = {"config.json", "metadata.json", "model.weights.h5"}


@pytest.fixture(scope="module")
def model():
    images = keras.Input((8, 8, 3))
    return keras.Model(images, keras.layers.Conv2D(4, 3, name="convolution")(images))


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("archive") / "own.keras"
    model.save(path)
    return path


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def rewritten(source, path, change):
    """Copies an archive; `change` maps each name to what is written under it, or None."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            if (content := change(name, old.read(name))) is not None:
                new.writestr(name, content)
    return path


def test_the_model_is_the_one_that_was_saved_and_nothing_stays_behind(model, saved, temporary):
    loaded = load_keras_file(saved)
    for received, expected in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(received, expected)
    assert not list(temporary.iterdir())


def test_weights_are_never_in_memory_as_a_whole(saved, temporary, monkeypatch):
    opened = []

    class Store(saving_lib.H5IOStore):
        def __init__(self, place, *rest, **options):
            opened.append(place)
            super().__init__(place, *rest, **options)

    monkeypatch.setattr(saving_lib, "H5IOStore", Store)
    load_keras_file(saved)
    (place,) = opened
    assert Path(place).is_relative_to(temporary)


@pytest.mark.parametrize("name", sorted(MEMBERS))
def test_an_archive_without_a_member_is_refused(saved, tmp_path, name):
    path = rewritten(saved, tmp_path / "less.keras", lambda each, content: None if each == name else content)
    with pytest.raises(WeightsError, match=f"received: an archive without {name}"):
        load_keras_file(path)


def test_damaged_weights_are_refused_with_h5pys_reason(saved, tmp_path):
    path = rewritten(
        saved, tmp_path / "cut.keras", lambda name, content: content[:2000] if name.endswith(".h5") else content
    )
    with pytest.raises(WeightsError, match="received: .*truncated file"):
        load_keras_file(path)


def test_names_that_climb_stay_inside_the_directory(saved, tmp_path, temporary):
    path = shutil.copy(saved, tmp_path / "climbing.keras")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("assets/../../climbed", "x")
        archive.writestr("../climbed", "x")
        archive.writestr("/climbed", "x")
    with unpacked(path) as folder:
        written = {str(file.relative_to(temporary)) for file in tmp_path.rglob("*climbed")}
        assert written == {f"{folder.name}/assets/climbed"}
        assert {file.name for file in folder.iterdir()} == {*MEMBERS, "assets"}


def test_a_decompression_bomb_is_refused(saved, tmp_path, temporary):
    path = shutil.copy(saved, tmp_path / "bomb.keras")
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open("assets/zeros", "w", force_zip64=True) as member,
    ):
        for _ in range(257):
            member.write(bytes(1 << 20))
    with pytest.raises(WeightsError, match="assets/zeros would grow from .* bytes, as a decompression bomb does"):
        load_keras_file(path)
    assert not list(temporary.iterdir())


def test_members_that_share_their_bytes_are_refused(saved, tmp_path):
    path = tmp_path / "overlapping.keras"
    with zipfile.ZipFile(saved) as archive:
        size = max(info.compress_size for info in archive.infolist())
    shutil.copy(saved, path)
    with zipfile.ZipFile(path, "a") as archive:
        weights = archive.getinfo("model.weights.h5")
        for index in range(3):
            twin = zipfile.ZipInfo(f"assets/{index}")
            twin.header_offset, twin.CRC = weights.header_offset, weights.CRC
            twin.compress_size = twin.file_size = size
            archive.filelist.append(twin)
        archive._didModify = True
    with pytest.raises(WeightsError, match="an archive whose members overlap"):
        load_keras_file(path)


def test_a_full_disk_is_named_with_what_is_needed(saved, temporary, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "extract", full)
    with pytest.raises(WeightsError, match=f"no space left in {temporary}, where .*own.keras takes 0 MB .*TMPDIR"):
        load_keras_file(saved)
    assert not list(temporary.iterdir())
