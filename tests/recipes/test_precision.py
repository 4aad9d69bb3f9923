"""bf16 where it is fast, and where it was asked for."""

import pytest
import torch

from training.base.unet import ConditionedUNet
from training.engine.precision import bf16_where_fast, has_bf16, run_device
from training.sd import LatentDiffusion


@pytest.mark.parametrize("supported", [True, False])
def test_cpus_compute_in_bf16_where_they_can(monkeypatch, supported):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
    assert has_bf16(torch.device("cpu")) == supported
    assert has_bf16(torch.device("cuda"))
    with bf16_where_fast(torch.device("cpu")):
        assert torch.is_autocast_enabled("cpu") == supported


def test_run_stays_on_the_cpu_where_accelerate_is_told_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert run_device() == torch.device("cpu")


@pytest.mark.parametrize("held", [torch.bfloat16, torch.float32])
def test_autocast_leaves_a_unet_alone_that_is_held_in_bf16(held):
    model = ConditionedUNet()
    base = LatentDiffusion(model.unet.to(held), torch.nn.Identity(), model.description.empty_context)
    with torch.autocast("cpu", torch.bfloat16), base.own_precision():
        assert torch.is_autocast_enabled("cpu") == (held is torch.float32)
