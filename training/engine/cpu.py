"""What makes training steps fast on a CPU. A GPU has kernels and an allocator of its own and is left alone."""

import ctypes
import sys
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

MMAP_MAX, TRIM_THRESHOLD = -4, -1  # glibc's numbers of what mallopt sets
MAX_SCORES = 2**20  # of a head


def fast_steps(device: torch.device) -> AbstractContextManager:
    """Context for the forward pass of training steps."""
    if device.type != "cpu":
        return nullcontext()
    keep_memory()
    return WrittenOutAttention()


def keep_memory() -> None:
    """Lets the allocator keep what one step frees for the next. Otherwise every large tensor is mapped anew and its pages
    are faulted in one by one, which takes up to a fifth of a step."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.mallopt(MMAP_MAX, 0)
        libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)


class WrittenOutAttention(TorchFunctionMode):
    """Computes `scaled_dot_product_attention` in bf16 as softmax(q k^T / sqrt(d)) v: with its backward pass that takes a
    CPU half as long as torch's fused kernel. In float32 the fused kernel is the faster one."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        options = [value for name, value in kwargs.items() if name != "attn_mask"]
        if function is F.scaled_dot_product_attention and len(args) == 3 and not any(options) and gains(*args[:2]):
            query, key, value = args
            return attend(query, key, value, kwargs.get("attn_mask"))
        return function(*args, **kwargs)


def gains(query: Tensor, key: Tensor) -> bool:
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query.dtype
    return dtype is torch.bfloat16 and query.shape[-2] * key.shape[-2] <= MAX_SCORES


def attend(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None) -> Tensor:
    """(B, heads, N, d), (B, heads, M, d) twice and what may be attended to, bool, or what is added to the scores."""
    scores = query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)
    if attn_mask is not None and attn_mask.dtype is torch.bool:
        scores = scores.masked_fill(~attn_mask, torch.finfo(scores.dtype).min)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return scores.softmax(-1) @ value
