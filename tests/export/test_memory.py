"""What a version needs in memory, as its manifest says it, and the limits that are shipped."""

import re
from pathlib import Path

import keras
import pytest
import yaml
from featserve_export.batching import read_batching
from featserve_export.graph.freeze import freeze
from featserve_export.memory import EMBEDDED_SERVER_MIB, SERVER_MIB, describe_memory, estimate, needed_mib

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
SERVING = Path(__file__).resolve().parents[2] / "serving"
MIB = 1 << 20


@pytest.fixture(scope="module")
def vgg16():
    model = keras.applications.VGG16(weights=None, include_top=False, input_shape=(224, 224, 3))
    return freeze(lambda images: [model(images)], ["block5_pool"], (224, 224))


def test_the_rule_by_hand():
    found = {
        "memory": {"version_mib": 100, "image_mib": 2.5},
        "batching": {"num_batch_threads": 2, "max_batch_size": 8},
    }
    assert needed_mib(found, server=350, versions=3) == 350 + 3 * 100 + 2 * 8 * 2.5
    assert "about 100 MiB a version and 40 MiB for 16 images in batches" in describe_memory(found)


def test_an_estimate_counts_weights_and_the_widest_operation(vgg16):
    # 14,714,688 parameters; block1_conv2 reads and writes 64 channels of 224 x 224.
    weights = 14_714_688 * 4 / MIB
    memory = estimate([vgg16], "float32", 3)
    assert memory["version_mib"] == pytest.approx(weights + 100 + 3 * 30, abs=2)
    assert memory["image_mib"] == pytest.approx(1.5 * 2 * 224 * 224 * 64 * 4 / MIB, rel=0.01)


def test_weights_that_graphs_share_count_once(vgg16):
    assert estimate([vgg16, vgg16], "float32", 3) == estimate([vgg16], "float32", 3)


def test_eight_bit_kernels_keep_copies(vgg16):
    weights = sum(value.nbytes for value in vgg16.weights.values()) / MIB
    more = estimate([vgg16], "int8", 3)["version_mib"] - estimate([vgg16], "float32", 3)["version_mib"]
    assert more == pytest.approx(3 * weights, abs=2)


def test_the_rule_of_the_readme_has_the_same_servers():
    text = (SERVING / "README.md").read_text()
    sentence = rf"without a model takes {SERVER_MIB} MiB, the embedded server {EMBEDDED_SERVER_MIB} MiB\b"
    assert re.search(sentence, text)


def test_the_shipped_limit_holds_three_versions_of_vgg16(vgg16):
    deployment = yaml.safe_load((SERVING / "kubernetes" / "server" / "deployment.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    limit = re.fullmatch(r"(\d+)Gi", container["resources"]["limits"]["memory"])
    batching = read_batching(SERVING / "configs" / "batching.config").as_dict()
    manifest = {"memory": estimate([vgg16], "float32", 3), "batching": batching}
    assert needed_mib(manifest) <= int(limit[1]) * 1024
