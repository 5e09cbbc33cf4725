import dataclasses
from pathlib import Path

import pytest
from featserve_export import InvalidOptionError, read_batching
from featserve_export.batching import default_batching

COMMITTED = Path(__file__).parents[2] / "serving/configs/batching.config"


def read(tmp_path, text):
    path = tmp_path / "batching.config"
    path.write_text(text)
    return read_batching(path)


def test_the_committed_file_is_read():
    batching = read_batching(COMMITTED)
    assert batching == dataclasses.replace(default_batching(), num_batch_threads=2)
    assert batching.max_request_images >= 2000


def test_what_the_file_lacks_keeps_its_default(tmp_path):
    assert read(tmp_path, "") == default_batching()
    expected = dataclasses.replace(default_batching(), max_batch_size=6, allowed_batch_sizes=(1, 2, 4, 6))
    assert read(tmp_path, "max_batch_size { value: 6 }") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_batch_size { value: 4 }\nmax_bath_size { value: 4 }", r"received 2:1 .*max_bath_size"),
        ("max_batch_size: 4", r"received 1:"),
        ("num_batch_threads { value: two }", r"received 1:28 .*two"),
        ("num_batch_threads { value: 0 }", "expected num_batch_threads of at least 1, received 0"),
        ("max_batch_size { value: 0 }", "expected max_batch_size from 1 to 65536, received 0"),
        ("batch_timeout_micros { value: -1 }", "batch_timeout_micros from 0"),
        ("max_enqueued_batches { value: 0 }", "max_enqueued_batches from 1"),
        ("allowed_batch_sizes: 4 allowed_batch_sizes: 2 allowed_batch_sizes: 8", r"increase .* received \[4, 2, 8\]"),
        ("allowed_batch_sizes: 1 allowed_batch_sizes: 4", r"last is max_batch_size, 8, received \[1, 4\]"),
    ],
)
def test_a_malformed_file_is_refused(tmp_path, text, message):
    with pytest.raises(InvalidOptionError, match=message):
        read(tmp_path, text)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InvalidOptionError, match=r"cannot read the batching file .*none\.config"):
        read_batching(tmp_path / "none.config")
