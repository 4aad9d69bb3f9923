"""What MAE Prior Guidance costs at 512 px beside SD-1.5's U-Net and VAE, of full size with random weights.

python -m benchmarks.guidance --out benchmarks/results/guidance-cpu.json
"""

import argparse
import json
from functools import partial
from pathlib import Path

import torch

from asuka_modules.guidance import guide
from asuka_modules.masking import reduce_mask
from asuka_modules.seams import close_seam
from training.weights.frozen import sd15_unet, sd15_vae

from .inference import SIZE, hole
from .machine import describe
from .timing import medians

TARGETS = {"guidance / U-Net step": (0.01, "at most")}  # ratio -> (bound, "at least" or "at most")


def measure(device: torch.device, repeats: int) -> dict[str, float]:
    """Seconds of one step's guidance, with the target's way to the device, and of what it stands beside; of the target's
    making, once for all steps."""
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    unet, vae = (network.to(device, dtype).eval() for network in (sd15_unet(), sd15_vae()))
    x0, target = torch.randn(2, 1, 4, SIZE // 8, SIZE // 8)
    mask = reduce_mask(hole(0.4), (SIZE // 8, SIZE // 8), "area")
    image, prior_image = torch.rand(2, 1, 3, SIZE, SIZE)
    x0 = x0.to(device)  # samplers work in float32
    model_input = torch.randn(1, 9, SIZE // 8, SIZE // 8).to(device, dtype)
    context, timestep = torch.randn(1, 77, 768).to(device, dtype), torch.tensor([500], device=device)
    calls = {
        "guidance": lambda: guide(x0, target.to(x0), mask.to(x0), 1.0, 1.0),
        "U-Net step": partial(unet, model_input, timestep, context),
        "closing the target's seam": partial(close_seam, prior_image, image, hole(0.4)),
        "VAE encode": partial(vae.encode, image.to(device, dtype)),
    }
    return medians(calls, device, repeats)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guidance", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, default=10, help="default: %(default)s")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    seconds = measure(torch.device(arguments.device), arguments.repeats)
    ratios = {"guidance / U-Net step": seconds["guidance"] / seconds["U-Net step"]}
    result = {"seconds": seconds, "ratios": ratios, "size": SIZE, "repeats": arguments.repeats, **describe()}
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
