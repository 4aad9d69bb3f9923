"""The command lines of what is no recipe. Nothing here imports torch, which takes seconds: a command reads its own before its
imports."""

import argparse
from pathlib import Path

STAGES = ("base", "mae", "words", "align", "latent_augment", "latent_sample", "decoder", "spl")  # of the miniature
PARTS = ("mae", "alignment", "alignment_pooled", "decoder", "spl")  # of a weight file
DTYPES = {"fp16": "float16", "fp32": "float32"}  # with torch's names


def miniature() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.miniature", description="Train the whole miniature stack."
    )
    parser.add_argument("--photos", nargs="+", required=True, help="folders of photos, of 256 pixels or more")
    parser.add_argument("--masks", required=True, help="folder of object masks, white on black")
    parser.add_argument("--only", nargs="+", default=list(STAGES), choices=STAGES, help="train these stages alone")
    parser.add_argument("--plan", action="store_true", help="tell what each stage takes and how far it is, and stop")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="where the weights go (default: %(default)s)")
    return parser


def ablations() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.ablations", description="Train the miniature's ablations."
    )
    parser.add_argument("--photos", nargs="+", required=True, help="folders of photos, of 256 pixels or more")
    parser.add_argument("--masks", required=True, help="folder of object masks, white on black")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="of these alone, e.g. align-linear")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/miniature/models"), help="where the weights go (default: %(default)s)"
    )
    return parser


def export() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.export", description="Join trained parts into one file for Load ASUKA."
    )
    for name in PARTS:
        parser.add_argument(f"--{name}", type=Path, help=f"file with the trained {name}")
    parser.add_argument("--out", type=Path, required=True, help="the bundle to write")
    parser.add_argument("--dtype", choices=DTYPES, default="fp16", help="default: %(default)s")
    parser.add_argument(
        "--info", action="append", default=[], metavar="KEY=VALUE", help="free metadata, e.g. license=Apache-2.0"
    )
    return parser


def convert() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Convert published weights (.pth, .ckpt, .pt, .bin, diffusers and Hugging Face folders) for Load ASUKA.",
    )
    parser.add_argument("src", type=Path, nargs="+", help="files, or folders whose weight files belong together")
    parser.add_argument("dst", type=Path, help="the .safetensors file to write, in models/asuka")
    parser.add_argument("--dtype", choices=DTYPES, help="default: as in the source")
    return parser


def evaluate() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate",
        description="Evaluate ASUKA against its base model, simple fills and other methods, by the field's protocols "
        "(training.evaluation).",
    )
    parser.add_argument("config", help="miniature, or a YAML file; see training/configs/")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override one value, e.g. seeds=1"
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="METHOD", help="take these methods alone")
    parser.add_argument(
        "--compare", nargs="+", metavar=("A", "B"), help="print how methods of a finished run differ: A - B for each B"
    )
    return parser
