"""Paths of models as people give them."""

from pathlib import Path

import pytest
from featserve_serving import SetupError, create_server
from featserve_serving.launch.cli import main
from featserve_serving.models.paths import check_base_path, local_path, meant


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("build/models", "build/models"),
        ("/srv/models", "/srv/models"),
        ("file:///srv/my%20models", "/srv/my models"),
        ("file://localhost/srv", "/srv"),
        (Path("file:///srv"), "/srv"),
    ],
)
def test_a_path_or_a_file_uri_is_of_this_machine(text, path):
    assert local_path(text) == Path(path)


@pytest.mark.parametrize("flag", ["--model_root", "--model_base_path"])
@pytest.mark.parametrize("uri", ["s3://bucket/models", "gs://bucket/models", "hdfs://host/models"])
def test_a_bucket_is_refused_with_what_can_be_read(flag, uri, capsys):
    assert main([f"{flag}={uri}", "--runtime=embedded"]) == 2
    error = capsys.readouterr().err
    assert f"received {uri}" in error and "a directory of this machine, or file://" in error


def test_a_bucket_in_a_configuration_is_refused(tmp_path):
    file = tmp_path / "models.config"
    file.write_text(
        'model_config_list { config { name: "m" base_path: "gs://bucket/m" model_platform: "tensorflow" } }'
    )
    with (
        pytest.raises(SetupError, match="model m: expected a directory of this machine"),
        create_server(model_config_file=file),
    ):
        pass


def test_a_file_uri_is_served(publish, base_path, tmp_path, caller):
    publish(1)
    file = tmp_path / "models.config"
    file.write_text(
        f'model_config_list {{ config {{ name: "adder" base_path: "file://{base_path}" '
        'model_platform: "tensorflow" } }'
    )
    for source in ({"model_root": f"file://{base_path.parent}"}, {"model_config_file": file}):
        with create_server(**source) as server:
            assert caller(server).predict(1) == (2, 1)


def test_a_directory_one_level_off_says_which_was_meant(publish, base_path):
    publish(1)
    root = base_path.parent
    with pytest.raises(SetupError, match=rf"holds models \(adder\): serve all with --model_root={root}, one with "):
        check_base_path(root)
    with pytest.raises(SetupError, match=f"this is a version: --model_base_path={base_path} serves its model"):
        check_base_path(base_path / "1")
    with pytest.raises(SetupError, match=f"this is one model: serve it with --model_base_path={base_path}"):
        create_server(model_root=base_path)
    with pytest.raises(SetupError, match=f"one level below: --model_root={root}"):
        create_server(model_root=root.parent)
    assert check_base_path(base_path) == base_path
    assert meant(base_path / "nothing") is None
