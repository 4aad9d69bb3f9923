"""How much memory the nodes that take images need for a batch, beyond its images and masks: the peak.

COMFYUI_PATH=... python -m benchmarks.batches --beside OTHER_CHECKOUT --out benchmarks/results/batches.json

Every node of every checkout runs in a process of its own. The harmonizing decoder is replaced by nearest enlargement, so that only what the node itself takes counts; the MAE and SPL are
the miniature's.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from .machine import describe

HERE = Path(__file__).parents[1]
TARGETS = {"decode": 2.2, "prior": 2.5, "spl": 2.2}  # node -> at most so many times the images
BATCHES = ((16, 512, 512), (64, 512, 512), (1, 3000, 4000))
CHILD = """
import ctypes, hashlib, importlib, json, os, sys
from pathlib import Path
import torch
import torch.nn.functional as F

root, name, sizes = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
sys.path.insert(0, os.environ["COMFYUI_PATH"])
import comfy.cli_args
comfy.cli_args.args.cpu = True  # before comfy.model_management is imported
import folder_paths
spec = importlib.util.spec_from_file_location("asuka_extension", root / "__init__.py")
sys.modules["asuka_extension"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
file = "asuka-miniature-spl.safetensors" if name == "spl" else "asuka-miniature.safetensors"
part = {"decode": "decoder", "prior": "mae", "spl": "spl"}[name]
cpu = torch.device("cpu")
parts = sys.modules["asuka_extension.asuka_modules.checkpoints"].load(root / "demo" / file)
network = sys.modules["asuka_extension.nodes.networks"].Network(parts[part], cpu, cpu)
nodes = importlib.import_module(f"asuka_extension.nodes.{name}")

def high_water():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024

def call(image, mask):
    if name == "decode":
        network.patcher.model.forward = lambda latent, image, mask: F.interpolate(latent[:, :3], scale_factor=8).sigmoid()
        latent = {"samples": torch.randn(len(image), 4, *(side // 8 for side in image.shape[1:3]))}
        return nodes.ASUKA_HarmonizingVAEDecode.execute(network, latent, image, mask, True).args[0]
    if name == "prior":
        nodes.ui.PreviewImage = lambda *_, **__: None  # writes a file for every image
        return nodes.ASUKA_MAEPriorEncode.execute(network, image, mask).args[1]
    return nodes.ASUKA_InpaintSPL.execute(network, image, mask, 256).args[0]

def measure(n, h, w):
    torch.manual_seed(0)
    image, mask = torch.rand(n, h, w, 3), torch.zeros(n, h, w)
    mask[:, h // 3 : h // 2, w // 3 : w // 2] = 1
    call(image[:1], mask[:1])  # loads the network
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = high_water()
    torch.manual_seed(1)
    result = call(image, mask)
    peak = (high_water() - before) / (4 * image.numel())
    return {"times": peak, "sha256": hashlib.sha256(result.contiguous().numpy()).hexdigest()}

with torch.inference_mode():
    print(json.dumps([measure(*size) for size in sizes]))
"""


def measure(root: Path, name: str) -> list[dict]:
    command = [sys.executable, "-c", CHILD, str(root.resolve()), name, json.dumps(BATCHES)]
    child = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(child.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batches", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--beside", type=Path, help="another checkout to measure as well")
    arguments = parser.parse_args()
    checkouts = {"here": HERE} | ({"beside": arguments.beside} if arguments.beside else {})
    rows = []
    for name, target in TARGETS.items():
        found = {side: measure(root, name) for side, root in checkouts.items()}
        for i, size in enumerate(BATCHES):
            rows.append({"node": name, "batch": size, "at most": target} | {side: x[i] for side, x in found.items()})
    arguments.out.write_text(json.dumps({"rows": rows, **describe()}, indent=2) + "\n")


if __name__ == "__main__":
    main()
