"""Remakes all tables of the miniature: `bash scripts/results.sh --photos PHOTOS [PHOTOS ...] --masks MASKS --held-out PHOTOS`.

Trains the ablations on the committed weights, runs every benchmark on the held-out photos, and writes the tables with the
paired differences into runs/miniature/results.md. What is finished already is kept.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys

from scripts.comfy_server import ROOT

RUNS = ROOT / "runs" / "miniature"
COMMITTED = {  # what the ablations go on from
    "base/base.safetensors": "asuka-miniature-base.safetensors",
    "mae/mae.safetensors": "asuka-miniature.safetensors",
    "decoder/decoder.safetensors": "asuka-miniature.safetensors",
}
COMPARISONS = {  # benchmark -> A - B
    "benchmark": [
        ("ASUKA", "SD"),
        ("ASUKA", "SD-prompt"),
        ("ASUKA", "decoder stock"),
        ("ASUKA, seam closed", "ASUKA"),
        ("ASUKA, seam closed", "flat grey, seam closed"),
        ("ASUKA, seam closed", "Telea"),
        ("ASUKA, seam closed", "Navier-Stokes"),
        ("ASUKA, seam closed", "PatchMatch"),
    ],
    "benchmark-alignment": [("alignment self4", "alignment attn"), ("alignment attn", "alignment linear")],
    "benchmark-decoder": [
        ("decoder full", "decoder colour"),
        ("decoder colour", "decoder condition"),
        ("decoder condition", "decoder stock"),
    ],
}


def run(*command: str) -> str:
    return subprocess.run([sys.executable, *command], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def sets(settings: list[str]) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="bash scripts/results.sh", description="Remake all tables of the miniature.")
    parser.add_argument("--photos", nargs="+", required=True, help="folders of photos to train the ablations on")
    parser.add_argument("--masks", required=True, help="folder of object masks, white on black")
    parser.add_argument("--held-out", required=True, help="folder of photos that no training has seen")
    parser.add_argument("--count", type=int, help="of held-out photos (default: all)")
    arguments = parser.parse_args()

    for file, name in COMMITTED.items():
        if not (RUNS / file).exists():
            (RUNS / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / "demo" / name, RUNS / file)
    views = [f"data.folders={json.dumps(arguments.photos)}", f"masks.objects={json.dumps(arguments.masks)}"]
    run("-m", "training.base.words", "training/configs/miniature/words.yaml", *sets(views))  # some go on from them
    twins = ["training/configs/miniature/latent_augment.yaml", "--set", f"folders={json.dumps(arguments.photos)}"]
    run("-m", "training.latent_augment", *twins)
    run("-m", "training.ablations", "--photos", *arguments.photos, "--masks", arguments.masks)
    settings = [f"pairs.photos={json.dumps(arguments.held_out)}", f"pairs.masks.objects={json.dumps(arguments.masks)}"]
    settings = sets(settings + ([f"pairs.count={arguments.count}"] if arguments.count else []))
    tables = []
    for name in COMPARISONS:
        run("-m", "scripts.evaluate", name, *settings)
        tables.append((RUNS / name / "results.md").read_text())
        for pair in COMPARISONS[name]:
            config = f"training/configs/miniature/{name}.yaml"
            tables.append(run("-m", "training.evaluate", config, *settings, "--compare", *pair))
    (RUNS / "results.md").write_text("\n".join(tables))
    sys.stdout.write(f"{RUNS / 'results.md'}\n")


if __name__ == "__main__":
    main()
