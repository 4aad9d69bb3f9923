"""Counts the floating-point operations of what the nodes run at 512 px beside SD-1.5. No machine and no load changes them.

python -m benchmarks.flops --out benchmarks/results/flops.json

Multiplications and additions of convolutions, matrix products and attention, as torch counts them. Previews of the sampler and
closing the seam have none of these.
"""

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from asuka_modules.alignment import SELF4, Alignment
from asuka_modules.decoder import BASE, HarmonizingDecoder
from asuka_modules.mae import MAE, VIT_L
from asuka_modules.masking import hidden_patches
from training.weights.frozen import sd15_unet, sd15_vae

from .inference import SIZE, STEPS, hole, published_prior
from .machine import describe

SHARES = (0.02, 0.1, 0.4, 0.75)  # of the image that is hole
TEXT, PRIOR = 77, 256  # tokens of context


def gigaflops(function, *inputs: Tensor) -> float:
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        function(*inputs)
    return counter.get_total_flops() / 1e9


def count() -> dict[str, float]:
    with torch.device("meta"):
        mae, alignment, decoder = MAE(VIT_L).eval(), Alignment(SELF4).eval(), HarmonizingDecoder(BASE).eval()
        unet, vae = sd15_unet().eval(), sd15_vae().eval()
        image, mask = torch.rand(1, 3, SIZE, SIZE), torch.zeros(1, 1, SIZE, SIZE)
        latent, timestep = torch.rand(1, 4, SIZE // 8, SIZE // 8), torch.zeros(1)
        model_input = torch.rand(1, 9, SIZE // 8, SIZE // 8)
        contexts = {n: torch.rand(1, n, 768) for n in (TEXT, PRIOR)}
    counted = {"published prior": gigaflops(published_prior, mae, image, mask)}

    def prior_and_preview(hidden: Tensor) -> None:
        image_, mask_ = mae.preprocess(image, mask)
        tokens, indices, valid = mae.encode(
            image_, hidden
        )  # how many tokens there are depends on the values of `hidden`
        mae.reconstruct(mae.decode_prior(tokens, indices.to("meta"), valid, image_, mask_))

    for share in SHARES:
        hidden = hidden_patches(hole(share), mae.config.grid)
        counted[f"prior and preview, {share:.0%} hole"] = gigaflops(prior_and_preview, hidden)
    with torch.device("meta"):
        prior = torch.rand(1, PRIOR, 512)
    counted["alignment"] = gigaflops(alignment, prior)
    counted["harmonizing decode"] = gigaflops(decoder, latent, image, mask)
    counted["stock decode"] = gigaflops(vae.decode, latent)
    for n, context in contexts.items():
        counted[f"U-Net step, {n} tokens"] = gigaflops(unet, model_input, timestep, context)
    return counted


def summarize(counted: dict[str, float]) -> dict[str, float]:
    """Ratios, and whole runs: ASUKA at cfg 1 beside SD-1.5 with classifier-free guidance, which runs the U-Net twice a step."""
    step, longer = (counted[f"U-Net step, {n} tokens"] for n in (TEXT, PRIOR))
    stock, ours = counted["stock decode"], counted["harmonizing decode"]
    networks = counted["prior and preview, 40% hole"] + counted["alignment"] + ours - stock
    ratios = {
        f"published prior / ours, {share:.0%} hole": counted["published prior"]
        / counted[f"prior and preview, {share:.0%} hole"]
        for share in SHARES
    }
    return ratios | {
        "harmonizing decode / stock decode": ours / stock,
        "networks that ASUKA adds / 25 U-Net steps": networks / (STEPS * step),
        "the same with the longer context": (networks + STEPS * (longer - step)) / (STEPS * step),
        "whole run of ASUKA at cfg 1 / of SD-1.5 with cfg": (networks + stock + STEPS * longer)
        / (stock + 2 * STEPS * step),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flops", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    arguments = parser.parse_args()
    counted = count()
    result = {"GFLOP": counted, "ratios": summarize(counted), "steps": STEPS, "size": SIZE, **describe()}
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
