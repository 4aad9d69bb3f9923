"""Imports the pack at argv[1] as ComfyUI (argv[2]) does, and prints what that took and touched, as JSON."""

import asyncio
import importlib.util
import json
import os
import sys
import time
from types import ModuleType

pack, comfyui = sys.argv[1:]
sys.path.insert(0, comfyui)
import comfy.cli_args  # noqa: E402

comfy.cli_args.args.cpu = True
import comfy_api.latest  # noqa: E402, F401
import comfy_extras.nodes_mask  # noqa: E402, F401
import folder_paths  # noqa: E402
import latent_preview  # noqa: E402, F401
import torch  # noqa: E402, F401

import nodes  # noqa: E402, F401

for absent in ("accelerate", "cv2", "diffusers", "lpips", "skimage", "sklearn", "timm"):
    sys.modules[absent] = None  # importing it fails, as where it is not installed
INSTALLED = tuple(os.path.realpath(path) for path in (sys.prefix, sys.base_prefix, comfyui, pack))
touched, patched, watching = [], [], True


def audit(event: str, arguments: tuple) -> None:
    if not watching:
        return
    if event == "open":
        path, mode, flags = arguments
        writes = set(mode or "") & set("wax+") or flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes or not os.path.realpath(path).startswith(INSTALLED):
            touched.append(f"{event} {path}")
    elif event.startswith(
        ("socket.", "urllib.", "subprocess.", "os.system", "os.mkdir", "os.remove", "os.rename", "shutil.")
    ):
        touched.append(f"{event} {arguments}")


def state() -> dict[str, int]:
    """Identities of all that ComfyUI's modules and their classes hold, and of its model folders."""
    held = {}
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in ("comfy", "comfy_extras", "comfy_api", "folder_paths", "nodes", "latent_preview"):
            for key, value in vars(module).items():
                held[f"{name}.{key}"] = value
                if isinstance(value, type) and value.__module__ == name:
                    held |= {f"{name}.{key}.{attribute}": v for attribute, v in vars(value).items()}
    held |= {f"folder {name}": value for name, value in folder_paths.folder_names_and_paths.items()}
    return {key: id(value) for key, value in held.items() if not isinstance(value, ModuleType) and "__" not in key}


loop = asyncio.new_event_loop()
before = state()
sys.addaudithook(audit)
started = time.process_time()
spec = importlib.util.spec_from_file_location("pack under test", os.path.join(pack, "__init__.py"))
module = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = module
spec.loader.exec_module(module)
extension = loop.run_until_complete(module.comfy_entrypoint())
found = loop.run_until_complete(extension.get_node_list())
seconds = time.process_time() - started
watching = False
loop.run_until_complete(extension.on_load())
after = state()
patched = sorted(key for key in before | after if before.get(key) != after.get(key))
sys.stdout.write(json.dumps({"seconds": seconds, "touched": touched, "patched": patched, "nodes": len(found)}))
