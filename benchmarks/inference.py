"""What ASUKA costs at 512 px beside SD-1.5, with networks of full size and random weights.

python -m benchmarks.inference --out benchmarks/results/inference-cpu.json
"""

import argparse
import json
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from asuka_modules.alignment import SELF4, Alignment
from asuka_modules.decoder import BASE, HarmonizingDecoder
from asuka_modules.layers import Block, merge_heads, split_heads
from asuka_modules.mae import MAE, VIT_L
from asuka_modules.masking import hidden_patches
from training.weights.frozen import sd15_unet, sd15_vae

from .machine import describe
from .timing import medians

SIZE, STEPS = 512, 25
TARGETS = {  # ratio -> (bound, "at least" or "at most")
    "prior at 40 % hole: published / ours": (1.4, "at least"),
    "prior at 75 % hole: published / ours": (2.0, "at least"),
    "harmonizing decode / stock decode": (1.25, "at most"),
    "all that ASUKA adds / 25 U-Net steps": (0.04, "at most"),
}


def hole(share: float) -> Tensor:
    """A centered square hole of about that share of the patches, (1, 1, SIZE, SIZE)."""
    mask = torch.zeros(1, 1, SIZE, SIZE)
    side = round(share**0.5 * 16) * 16
    start = (SIZE - 2 * side) // 2 // 32 * 32
    mask[..., start : start + 2 * side, start : start + 2 * side] = 1
    return mask


def published_block(block: Block, x: Tensor, bias: Tensor) -> Tensor:
    """The release's attention: explicit softmax over all keys, hidden ones at -inf."""
    attention = block.attn
    q, k, v = (split_heads(part, attention.num_heads) for part in attention.qkv(block.norm1(x)).chunk(3, dim=-1))
    scores = (q @ k.mT) * q.shape[-1] ** -0.5 + bias
    x = x + attention.proj(merge_heads(scores.softmax(-1) @ v))
    return x + block.mlp(block.norm2(x))


def published_prior(mae: MAE, image: Tensor, mask: Tensor) -> Tensor:
    """All 256 tokens through the encoder, all eight decoder blocks, the prior taken on the way."""
    image, mask = mae.preprocess(image, mask)
    hidden = hidden_patches(mask, mae.config.grid)
    bias = torch.zeros_like(hidden, dtype=image.dtype).masked_fill(hidden, -torch.inf)[:, None, None, :]
    x = mae.patch_embed(image) + mae.pos_embed
    for block in mae.blocks:
        x = published_block(block, x, bias)
    x = mae.decoder_embed(mae.norm(x))
    x = torch.where(hidden[..., None], mae.mask_token, x) + mae.decoder_pos_embed
    for i, block in enumerate(mae.decoder_blocks):
        if i == mae.config.prior_depth:
            prior = x
        x = published_block(block, x, torch.zeros_like(bias))
    mae.decoder_pred(mae.decoder_norm(x))
    return prior


def measure_prior(image: Tensor, repeats: int) -> dict[str, float]:
    mae = MAE(VIT_L).to(image).eval()
    alignment = Alignment(SELF4).to(image).eval()
    seconds = {}
    for share in (0.4, 0.75):
        mask = hole(share).to(image)
        prior = mae.prior(image, mask)
        torch.testing.assert_close(prior, published_prior(mae, image, mask), atol=2e-2, rtol=2e-2)
        calls = {
            f"prior at {share:.0%} hole, ours": partial(mae.prior, image, mask),
            f"prior at {share:.0%} hole, published": partial(published_prior, mae, image, mask),
        }
        seconds |= medians(calls, image.device, repeats)
    return seconds | medians({"alignment": partial(alignment, prior)}, image.device, repeats)


def measure_decode(image: Tensor, repeats: int) -> dict[str, float]:
    decoder = HarmonizingDecoder(BASE).to(image).eval()
    decoder.to(memory_format=torch.channels_last)  # as checkpoints.Part.build does
    vae = sd15_vae().to(image).eval()
    vae.to(memory_format=torch.channels_last)  # so that both run in the same one
    latent = torch.randn(1, 4, SIZE // 8, SIZE // 8).to(image)
    calls = {
        "harmonizing decode": partial(decoder, latent, image, hole(0.4).to(image)),
        "stock decode": partial(vae.decode, latent),
    }
    return medians(calls, image.device, repeats)


def measure_unet(image: Tensor, repeats: int) -> dict[str, float]:
    unet = sd15_unet().to(image).eval()
    model_input = torch.randn(1, 9, SIZE // 8, SIZE // 8).to(image)
    context, timestep = torch.randn(1, 256, 768).to(image), torch.tensor([500], device=image.device)
    return medians({"U-Net step": partial(unet, model_input, timestep, context)}, image.device, repeats)


def ratios(seconds: dict[str, float]) -> dict[str, float]:
    added = (
        seconds["prior at 40% hole, ours"]
        + seconds["alignment"]
        + seconds["harmonizing decode"]
        - seconds["stock decode"]
    )
    values = (
        seconds["prior at 40% hole, published"] / seconds["prior at 40% hole, ours"],
        seconds["prior at 75% hole, published"] / seconds["prior at 75% hole, ours"],
        seconds["harmonizing decode"] / seconds["stock decode"],
        added / (STEPS * seconds["U-Net step"]),
    )
    return dict(zip(TARGETS, values, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inference", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, default=10, help="default: %(default)s")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    # What ComfyUI's nodes ask for.
    cuda = device.type == "cuda"
    dtypes = {
        measure_prior: torch.float32,
        measure_decode: torch.bfloat16 if cuda else torch.float32,
        measure_unet: torch.float16 if cuda else torch.float32,
    }
    torch.manual_seed(0)
    image = torch.rand(1, 3, SIZE, SIZE).to(device)
    seconds = {}
    with torch.inference_mode():
        for measure, dtype in dtypes.items():
            seconds |= measure(image.to(dtype), arguments.repeats)
    result = {
        "seconds": seconds,
        "ratios": ratios(seconds),
        "dtypes": {measure.__name__: str(dtype).removeprefix("torch.") for measure, dtype in dtypes.items()},
        "size": SIZE,
        "repeats": arguments.repeats,
        **describe(),
    }
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
