"""The tuner's configurations and what a trial makes of failed requests."""

import featserve_export
import pytest
from featserve_load import tune
from featserve_load.generator import Generator
from featserve_load.payload import Payload
from featserve_load.server import ROOT

CONFIGURED = ROOT / "serving" / "configs" / "batching.config"
SETTINGS = {"threads": 3, "largest": 8, "timeout_micros": 1000, "intra_op": 1, "inter_op": 2, "precision": "float32"}


@pytest.mark.parametrize(("padded_to", "sizes"), [("powers", (1, 2, 4, 8)), ("largest", (8,))])
def test_a_configuration_is_a_batching_file_of_the_export(tmp_path, padded_to, sizes):
    file = tmp_path / "batching.config"
    file.write_text(tune.Settings(**SETTINGS, padded_to=padded_to).config())
    batching = featserve_export.read_batching(file)
    assert batching.allowed_batch_sizes == sizes
    assert (batching.num_batch_threads, batching.max_batch_size, batching.batch_timeout_micros) == (3, 8, 1000)
    assert batching.max_enqueued_batches == featserve_export.read_batching(CONFIGURED).max_enqueued_batches


def test_a_configuration_that_fails_requests_has_no_capacity(sleeping):
    garbage = Payload(model="m", signature="s", input="encoded", images_per_request=1, requests=[b"GARBAGE"])
    with Generator([sleeping().target], garbage, processes=1) as generator:
        row = tune._row(generator, tune.Settings(**SETTINGS, padded_to="powers"), 100.0, 0.0, 1)
    assert row.capacity == 0
    assert "INVALID_ARGUMENT" in row.note
