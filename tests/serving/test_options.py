"""One definition of each option: the API, its documentation, and the flags agree with it."""

import dataclasses
import doctest
import inspect
import pickle
import re
import shutil

import featserve_serving
import pytest
from featserve_serving import create_server
from featserve_serving.launch.cli import parse
from featserve_serving.launch.embedded import options
from featserve_serving.options import ModelOptions, ServerOptions, describe

SOURCES = {"model_root", "model_base_path", "model_name", "model_config_file"}
FIELDS = {field.name: field for kind in (ModelOptions, ServerOptions) for field in dataclasses.fields(kind)}


def arguments():
    return {name: value for name, value in inspect.signature(create_server).parameters.items() if name not in SOURCES}


def test_the_api_has_the_options_defaults():
    assert {name: value.default for name, value in arguments().items()} == {
        name: FIELDS[name].default for name in arguments()
    }


def test_the_documentation_has_the_options_words():
    words = " ".join(inspect.getdoc(create_server).split())
    for name in arguments():
        assert f"{name}: {describe(name)}" in words


def test_no_option_is_unknown_to_the_help():
    with pytest.raises(KeyError):
        describe("no such option")
    assert all(describe(name) for name in FIELDS if name != "models")


def test_no_flags_mean_the_defaults():
    assert options(parse([])) == ServerOptions(
        address="127.0.0.1:8500", rest_address="127.0.0.1:8501", config_poll_interval_s=1
    )


def test_flags_become_options_in_their_units():
    given = options(
        parse(
            "--rest_api_timeout_in_ms=1500 --load_retry_interval_micros=2500000 --max_message_mb=3 "
            "--saved_model_tags=a,b --stop_grace_seconds=4.5 --host=::1 --rest_api_port=-1 --grpc_max_threads=5 "
            "--tensorflow_session_parallelism=2 --tensorflow_inter_op_parallelism=7 "
            "--grpc_channel_arguments=grpc.x=1,grpc.y=z "
            "--model_config_file=f --model_config_file_poll_wait_seconds=9".split()
        )
    )
    assert (given.rest_timeout_s, given.max_message_bytes, given.stop_grace_s) == (1.5, 3 << 20, 4.5)
    assert (given.address, given.rest_address, given.max_threads) == ("[::1]:8500", None, 5)
    assert (given.grpc_arguments, given.config_poll_interval_s) == ((("grpc.x", 1), ("grpc.y", "z")), 9)
    assert (given.models.load_retry_interval_s, given.models.tags) == (2.5, ("a", "b"))
    assert (given.models.intra_op_threads, given.models.inter_op_threads) == (2, 7)
    assert options(parse(["--grpc_channel_arguments=grpc.max_receive_message_length=7"])).max_message_bytes == 7


def test_options_pickle():
    assert pickle.loads(pickle.dumps(ServerOptions(max_threads=3))) == ServerOptions(max_threads=3)


def test_the_examples_run(publish, tmp_path, monkeypatch):
    publish(1)
    (tmp_path / "build").mkdir()
    shutil.move(tmp_path / "models", tmp_path / "build" / "models")
    monkeypatch.chdir(tmp_path)
    examples = doctest.DocTestFinder().find(create_server, "create_server", globs={})
    results = [doctest.DocTestRunner().run(example) for example in examples]
    assert sum(result.attempted for result in results) == 2 and not any(result.failed for result in results)
    public = [getattr(featserve_serving, name) for name in featserve_serving.__all__]
    assert all(re.search(r">>> ", inspect.getdoc(each)) for each in public if inspect.isfunction(each))
