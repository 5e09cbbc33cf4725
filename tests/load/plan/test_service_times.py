"""What is made of timed calls, and of what is timed."""

import dataclasses
import json

import pytest
from featserve_client.wire import serving_pb2 as wire
from featserve_client.wire.tensors import encode_predict_request, encode_strings
from featserve_load.payload import Payload
from featserve_load.plan import service_times
from featserve_load.plan.service_times import ServiceTimes

#: Milliseconds: a call as such, two images decoded, batches of 1, 2 and 4.
OVERHEAD, DECODING, BATCHES, OUTSIDE = 1.0, (4.0, 10.0), {1: 20.0, 2: 36.0, 4: 64.0}, 0.25
PAYLOAD = Payload(model="m", signature="s", input="encoded", images_per_request=1, requests=[b"a", b"b"])


def solved(cores=1, speedup=1.0, warm=1.0, waking=0.0, cold=0.0):
    work = {"bad": OVERHEAD} | {f"batch {size}": OVERHEAD + ms for size, ms in BATCHES.items()}
    work |= {f"request {place}": OVERHEAD + ms + BATCHES[1] for place, ms in enumerate(DECODING)}
    work["together 0"] = OVERHEAD + warm * sum(DECODING) + BATCHES[4]
    took = {name: ms / (1.0 if name == "bad" else speedup) + OUTSIDE for name, ms in work.items()}
    took |= {f"paused {name}": ms + waking for name, ms in took.items()}
    took |= {name: ms + cold for name, ms in took.items() if name.startswith("paused request")}
    return service_times._solved(took, work, PAYLOAD, list(BATCHES), cores, known=True)


@pytest.mark.parametrize(("cores", "speedup"), [(1, 1.0), (2, 1.6)])
def test_what_a_request_costs_is_told_from_what_its_batch_costs(cores, speedup):
    found = solved(cores, speedup)
    assert found.request_ms == pytest.approx([OVERHEAD + ms for ms in DECODING])
    assert found.batch_ms == pytest.approx(BATCHES)
    assert (found.cores, found.parallel, found.outside_ms) == (cores, pytest.approx(speedup), OUTSIDE)


def test_a_caller_who_wakes_takes_time_of_its_own():
    assert solved(waking=0.5).outside_ms == pytest.approx(OUTSIDE + 0.5)
    assert solved(waking=0.5).request_ms == solved().request_ms
    assert solved(waking=0.5).alone_ms == (0.0, 0.0)


@pytest.mark.parametrize(("cores", "speedup"), [(1, 1.0), (2, 1.6)])
def test_a_server_that_was_idle_takes_longer(cores, speedup):
    found = solved(cores, speedup, waking=0.5, cold=2.0)
    assert found.alone_ms == pytest.approx((2.0 * speedup, 2.0 * speedup))
    assert found.request_ms == solved(cores, speedup).request_ms


def test_decoding_among_others_is_told_from_decoding_alone():
    found = solved(warm=0.75)
    assert found.request_ms == pytest.approx([OVERHEAD + 0.75 * ms for ms in DECODING])
    assert found.alone_request_ms == pytest.approx([OVERHEAD + ms for ms in DECODING])
    assert solved(warm=1.1).alone_ms == (0.0, 0.0)


def test_the_files_of_several_requests_go_into_one():
    spec = wire.ModelSpec(name="m", signature_name="s")
    requests = [encode_predict_request(spec, {"b": encode_strings([file], (1,))}, ["y"]) for file in (b"1", b"2", b"3")]
    [together] = dataclasses.replace(PAYLOAD, requests=requests).together(2)
    received = wire.PredictRequest.FromString(together)
    assert list(received.inputs["b"].string_val) == [b"1", b"2"]
    assert (received.model_spec, list(received.output_filter)) == (spec, ["y"])


def test_full_load_takes_the_largest_batches():
    assert solved().image_ms(1) == pytest.approx(OVERHEAD + 7.0 + 64.0 / 4)
    varied = dataclasses.replace(solved(), variation=(0.5, 2.5))
    assert varied.image_ms(1) == pytest.approx(1.5 * solved().image_ms(1))


def test_times_survive_json():
    found = solved(warm=0.75)
    assert ServiceTimes.of(json.loads(json.dumps(found.as_dict()))) == found


def test_a_slower_server_takes_longer_for_all_of_its_work():
    found, slow = solved(warm=0.75), solved(warm=0.75).slowed(2.0)
    assert slow.image_ms(1) == pytest.approx(2 * found.image_ms(1))
    assert slow.alone_request_ms == pytest.approx([2 * ms for ms in found.alone_request_ms])
    assert slow.outside_ms == found.outside_ms
