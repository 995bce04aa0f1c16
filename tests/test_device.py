import pytest
import torch

from hardmil.device import Device, find_device
from hardmil.errors import TrainingError


@pytest.mark.parametrize("name", ["nosuch", "cuda:99", "meta:x"])
def test_devices_that_are_not_there(name: str):
    with pytest.raises(TrainingError, match=f"device {name}: not usable.* --device cpu"):
        find_device(name)


def test_precision_of_a_device(monkeypatch: pytest.MonkeyPatch):
    assert find_device("cpu", precision="float32") == Device("cpu", bfloat16=False)
    assert find_device("cpu", precision="bfloat16") == Device("cpu", bfloat16=True)
    for fast in (False, True):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda fast=fast: fast, raising=False)
        assert find_device("cpu") == Device("cpu", bfloat16=fast)


@pytest.mark.parametrize("name", ["meta", "meta:0", "gpu", "cuda:99"])
def test_a_device_that_cannot_train_is_refused(name: str):
    with pytest.raises(
        TrainingError, match=f"device {name}: not usable on this machine .*expected auto, cpu"
    ):
        find_device(name)
