"""What makes steps fast on a CPU gives what they would give without."""

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from training.engine.cpu import WrittenOutAttention

ROOT = Path(__file__).parents[2]


class Recorder(TorchDispatchMode):
    """The names of all operators that are called."""

    def __init__(self):
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.add(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


def attended(dtype: torch.dtype, mask: torch.Tensor | None, mode) -> tuple[list[torch.Tensor], bool]:
    """Attention and its gradients in float32, and whether torch's fused kernel was called."""
    generator = torch.Generator().manual_seed(0)
    leaves = [torch.randn(2, 3, n, 16, generator=generator, requires_grad=True) for n in (7, 9, 9)]
    with Recorder() as recorder, mode:
        found = F.scaled_dot_product_attention(*(leaf.to(dtype) for leaf in leaves), attn_mask=mask, dropout_p=0.0)
    found.float().square().sum().backward()
    return [found.float(), *(leaf.grad for leaf in leaves)], any("flash" in name for name in recorder.names)


MASKS = {
    "none": None,
    "of keys": (torch.arange(9) < torch.tensor([9, 4])[:, None])[:, None, None, :],
    "added": torch.randn(2, 1, 7, 9, generator=torch.Generator().manual_seed(1)),
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_attention_is_written_out_in_bf16(mask):
    expected, fused = attended(torch.float32, mask, nullcontext())
    assert fused
    if mask is not None and mask.is_floating_point():
        mask = mask.bfloat16()
    found, fused = attended(torch.bfloat16, mask, WrittenOutAttention())
    assert not fused
    for a, b in zip(found, expected, strict=True):
        assert (a - b).norm() < 0.02 * b.norm()


def test_attention_stays_fused_where_that_is_faster():
    expected, _ = attended(torch.float32, None, nullcontext())
    found, fused = attended(torch.float32, None, WrittenOutAttention())
    assert fused
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    query = torch.zeros(1, 1, 2048, 16, dtype=torch.bfloat16)
    with Recorder() as recorder, WrittenOutAttention():  # their scores may not fit
        F.scaled_dot_product_attention(query, query, query)
    assert any("flash" in name for name in recorder.names)


def test_attention_is_written_out_under_autocast():
    query = torch.randn(1, 2, 8, 16)
    with Recorder() as recorder, torch.autocast("cpu", torch.bfloat16), WrittenOutAttention():
        F.scaled_dot_product_attention(query, query, query)
    assert "bmm" in recorder.names
    assert not any("flash" in name for name in recorder.names)


FAULTS = """
import resource, sys, torch
from training.engine.cpu import fast_steps
fast_steps(torch.device(sys.argv[1]))
for step in range(40):
    if step == 20:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_freed_memory_serves_the_next_tensor():
    """Page faults of twenty tensors of 64 MiB, after twenty before them. A GPU's allocator is its own."""

    def faults(device: str) -> int:
        command = [sys.executable, "-c", FAULTS, device]
        return int(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)

    assert faults("cpu") < 500 < faults("cuda")
