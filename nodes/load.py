"""Load ASUKA: loads weight files from models/asuka."""

import logging
import os
import shutil
from pathlib import Path

import comfy.model_management
import folder_paths
from comfy_api.latest import io

from ..asuka_modules import checkpoints
from ..asuka_modules.atomic import atomic_write, remove_leftovers
from . import sockets
from .checks import checked
from .networks import Missing, Network

log = logging.getLogger(__name__)
FOLDER = "asuka"
SUFFIXES = {".safetensors", ".sft"}
SOURCES = "https://github.com/asuka-inpaint/ComfyUI-ASUKA/blob/main/docs/weights.md"
NONE_FOUND = "(put asuka-*.safetensors into models/asuka)"


def register_model_folder() -> None:
    """Register models/asuka with ComfyUI, in addition to extra_model_paths.yaml, and create it with a README."""
    folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, FOLDER), is_default=True)
    paths, suffixes = folder_paths.folder_names_and_paths[FOLDER]
    folder_paths.folder_names_and_paths[FOLDER] = (paths, set(suffixes) | SUFFIXES)
    readme = Path(paths[0]) / "README.md"
    try:
        for path in paths:
            remove_leftovers(Path(path))
        readme.parent.mkdir(parents=True, exist_ok=True)
        if not readme.exists():
            with atomic_write(readme) as partial:
                shutil.copyfile(Path(__file__).with_name("model_folder.md"), partial)
    except OSError as error:  # a folder shared by several machines may be read-only
        log.warning("could not prepare %s: %s", readme.parent, error)


class ASUKA_Load(io.ComfyNode):
    """Loads the networks of a weight file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASUKA_Load",
            display_name="Load ASUKA",
            category="ASUKA",
            description="Loads ASUKA weights with all networks or one of them, and published weights of Asymmetric VQGAN decoders, MAEs and SPL.",
            search_aliases=["asuka loader", "inpaint model", "object removal", "mae", "remove object", "load spl"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=folder_paths.get_filename_list(FOLDER) or [NONE_FOUND],
                    tooltip="A .safetensors file in models/asuka. After adding one, press R.",
                ),
            ],
            outputs=[
                sockets.MAE.Output("mae", tooltip="For MAE Prior Encode."),
                sockets.Alignment.Output("alignment", tooltip="For ASUKA Align Conditioning."),
                sockets.Decoder.Output("decoder", tooltip="For Harmonizing VAE Decode."),
                sockets.SPL.Output("spl", tooltip="For Inpaint (SPL)."),
            ],
        )

    @classmethod
    def validate_inputs(cls, file: str | None) -> bool | str:
        """Return True, or the reason why `file` cannot be loaded and what to do."""
        if file is None:  # linked: the value is known, and checked again, only when the node runs
            return True
        if not isinstance(file, str):
            return f"file is {file!r:.40}, expected the name of a file in models/asuka; choose one"
        if folder_paths.get_full_path(FOLDER, file) is None:
            folders = " or ".join(folder_paths.get_folder_paths(FOLDER))
            found = f"{folders} contains no weights" if file == NONE_FOUND else f"{file} is not in {folders}"
            return f"{found}; download the file ({SOURCES}), put it there and press R"
        return True

    @classmethod
    def fingerprint_inputs(cls, file: str | None) -> str | None:
        """Return a string that changes with the file on disk, so that ComfyUI loads it again."""
        path = folder_paths.get_full_path(FOLDER, file) if file else None
        return f"{os.stat(path).st_mtime_ns}, {os.stat(path).st_size} bytes" if path else None

    @classmethod
    @checked
    def execute(cls, file: str) -> io.NodeOutput:
        found = cls.validate_inputs(file)
        if found is not True:
            raise ValueError(found)
        mm = comfy.model_management
        parts = checkpoints.load(folder_paths.get_full_path(FOLDER, file))
        devices = dict.fromkeys(checkpoints.PARTS, (mm.get_torch_device(), mm.unet_offload_device()))
        devices["decoder"] = devices["spl"] = mm.vae_device(), mm.vae_offload_device()
        networks = {name: Network(part, *devices[name]) for name, part in parts.items()}
        if "alignment" in networks:
            networks["alignment"].pooled = networks.get("alignment_pooled")
        found = " and ".join(networks)
        return io.NodeOutput(
            *(networks.get(name) or Missing(name, file, found) for name in ("mae", "alignment", "decoder", "spl"))
        )
