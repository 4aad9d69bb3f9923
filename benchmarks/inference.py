"""What ASUKA costs at 512 px beside SD-1.5, with networks of full size and random weights.

python -m benchmarks.inference --out benchmarks/results/inference-cpu.json
"""

import argparse
import json
import platform
import subprocess
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor

from asuka_modules.alignment import SELF4, Alignment
from asuka_modules.decoder import BASE, HarmonizingDecoder
from asuka_modules.layers import Block, merge_heads, split_heads
from asuka_modules.mae import MAE, VIT_L
from asuka_modules.masking import hidden_patches

from .timing import medians

SIZE, STEPS = 512, 25
TARGETS = {  # ratio -> (bound, "at least" or "at most")
    "prior at 40 % hole: published / ours": (1.4, "at least"),
    "prior at 75 % hole: published / ours": (2.0, "at least"),
    "harmonizing decode / stock decode": (1.25, "at most"),
    "all that ASUKA adds / 25 U-Net steps": (0.04, "at most"),
}


def hole(share: float) -> Tensor:
    """A centred square hole of about that share of the patches, (1, 1, SIZE, SIZE)."""
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


def measure(device: torch.device, dtype: torch.dtype, repeats: int) -> dict:
    torch.manual_seed(0)

    def put(network: torch.nn.Module) -> torch.nn.Module:
        return network.to(device, dtype).eval()

    image = torch.rand(1, 3, SIZE, SIZE).to(device, dtype)
    seconds: dict[str, float] = {}
    mae = put(MAE(VIT_L))
    for share in (0.4, 0.75):
        mask = hole(share).to(device, dtype)
        torch.testing.assert_close(mae.prior(image, mask), published_prior(mae, image, mask), atol=2e-2, rtol=2e-2)
        calls = {
            f"prior at {share:.0%} hole, ours": lambda mask=mask: mae.prior(image, mask),
            f"prior at {share:.0%} hole, published": lambda mask=mask: published_prior(mae, image, mask),
        }
        seconds |= medians(calls, device, repeats)
    prior = mae.prior(image, mask)
    del mae
    alignment = put(Alignment(SELF4))
    seconds |= medians({"alignment": lambda: alignment(prior)}, device, repeats)
    context = alignment(prior)
    del alignment

    latent = torch.randn(1, 4, SIZE // 8, SIZE // 8).to(device, dtype)
    decoder = put(HarmonizingDecoder(BASE))
    vae = put(
        AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=4,
        )
    )
    calls = {
        "harmonizing decode": lambda: decoder(latent, image, mask),
        "stock decode": lambda: vae.decode(latent).sample,
    }
    seconds |= medians(calls, device, repeats)
    del decoder, vae

    unet = put(UNet2DConditionModel(sample_size=64, in_channels=9, cross_attention_dim=768))
    model_input = F.pad(latent, (0, 0, 0, 0, 0, 5))
    timestep = torch.tensor([500], device=device)
    seconds |= medians({"U-Net step": lambda: unet(model_input, timestep, context)}, device, repeats)
    return {"seconds": seconds, "ratios": ratios(seconds)}


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
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    with torch.inference_mode():
        result = measure(device, dtype, arguments.repeats)
    result |= {
        "device": torch.cuda.get_device_name()
        if device.type == "cuda"
        else f"{platform.machine()} CPU, {torch.get_num_threads()} threads",
        "dtype": str(dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "size": SIZE,
        "repeats": arguments.repeats,
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip(),
    }
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
