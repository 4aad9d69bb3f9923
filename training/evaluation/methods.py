"""The compared ways to fill a hole, by their names in a config."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from glob import escape, glob
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from spandrel import MaskedImageModelDescriptor, ModelLoader, UnsupportedModelError

from asuka_modules.texture import transfer_texture

from ..data import SUFFIXES
from ..engine.config import ConfigError
from .comfyui import ComfyUI, ComfyUIConfig
from .fills import FILLS
from .graphs import Diffusion, inpaint
from .hashes import sha256
from .inpaint_input import InpaintInput, Method
from .pairs import read_image
from .pytorch import PlainPyTorch, PyTorchConfig, Stack


@dataclass(frozen=True)
class MethodConfig:
    """One of the compared methods, by exactly one of the ways below."""

    name: str  # one of the paper's (training.evaluation.paper) gets its numbers beside ours
    diffusion: Diffusion | None = None  # on a ComfyUI server
    pytorch: PyTorchConfig | None = None  # without one
    spandrel: str | None = (
        None  # weights of an inpainting model that spandrel knows: LaMa, or MAT with its extra models
    )
    fill: Literal["flat", "telea", "navier-stokes", "patchmatch"] | None = None  # without any network
    folder: str | None = None  # finished results, named like the photos; or results/{name}-{seed}.png, seeds from 0
    texture: float = 0.0  # above 0: the result gets the texture of the known pixels, as by Inpaint Stitch's `texture`


def make_method(
    config: MethodConfig,
    comfyui: ComfyUIConfig | None = None,
    stack: Stack | None = None,
    names: Sequence[str] = (),
    seeds: int = 1,
) -> Method:
    """The method of a config, with `texture` if it is set.

    `stack`: the networks of `pytorch` methods. `names`: the images that it will fill, each with that many seeds.

    Raises ConfigError for a config that does not say how, FileNotFoundError or ComfyUIError for what is missing.
    """
    method = make_plain_method(config, comfyui, stack, names, seeds)
    return Textured(method, config.texture) if config.texture else method


def make_plain_method(
    config: MethodConfig, comfyui: ComfyUIConfig | None, stack: Stack | None, names: Sequence[str], seeds: int
) -> Method:
    ways = (config.diffusion, config.pytorch, config.spandrel, config.fill, config.folder)
    if sum(way is not None for way in ways) != 1:
        raise ConfigError(
            f"methods: {config.name!r} needs exactly one of diffusion, pytorch, spandrel, fill and folder"
        )
    if config.pytorch:
        if stack is None:
            raise ConfigError(f"methods: {config.name!r} needs weights; give pytorch.base and pytorch.bundle")
        return PlainPyTorch(config.pytorch, stack)
    if config.fill:
        return FILLS[config.fill]()
    if config.folder:
        return PrecomputedMethod(config.folder, names, seeds)
    if config.spandrel:
        return SpandrelMethod(Path(config.spandrel))
    assert config.diffusion is not None  # the only way left
    if comfyui is None:
        raise ConfigError(f"methods: {config.name!r} needs a ComfyUI; give comfyui.url")
    return ComfyUIMethod(config.diffusion, comfyui)


class Textured:
    """Another method, whose fill gets the texture of the known pixels (asuka_modules.texture)."""

    def __init__(self, method: Method, scale: float):
        self.method, self.scale = method, scale
        self.uses_seed, self.weights = method.uses_seed, method.weights

    def __call__(self, inputs: InpaintInput) -> np.ndarray:
        hole = inputs.hole[..., None]
        composite = np.where(hole, self.method(inputs), inputs.image)
        image = torch.from_numpy(composite).movedim(-1, 0)[None] / 255  # (1, 3, H, W)
        textured = transfer_texture(image, torch.from_numpy(inputs.hole)[None, None].float(), self.scale)
        return (textured[0].movedim(0, -1).clamp(0, 1) * 255).round().byte().numpy()


class ComfyUIMethod:
    """A diffusion model, in ComfyUI."""

    uses_seed = True

    def __init__(self, config: Diffusion, comfyui: ComfyUIConfig):
        self.config, self.server = config, ComfyUI(comfyui)
        self.weights = self.server.weights(config.files())

    def __call__(self, inputs: InpaintInput) -> np.ndarray:
        photo = self.server.upload(inputs.image, inputs.hole)
        size = max(inputs.hole.shape)
        return self.server.image(inpaint(self.config, photo, size, inputs.seed), "result")


class SpandrelMethod:
    """An inpainting network that spandrel loads. MAT draws its style and a dropout; those come from the seed."""

    def __init__(self, path: Path):
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file")
        add_extra_models()
        try:
            model = ModelLoader().load_from_file(path)
        except UnsupportedModelError as error:
            raise ConfigError(f"{path}: not a model that spandrel knows; LaMa or MAT was expected") from error
        if not isinstance(model, MaskedImageModelDescriptor):
            raise ConfigError(f"{path}: {model.architecture.name} takes no mask; an inpainting model was expected")
        self.model = model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
        self.uses_seed = hasattr(self.model.model, "z")  # MAT's style
        self.weights = {path.name: sha256(path)}

    @torch.inference_mode()
    def __call__(self, inputs: InpaintInput) -> np.ndarray:
        image = torch.from_numpy(inputs.image).movedim(-1, 0)[None].float() / 255
        mask = torch.from_numpy(inputs.hole)[None, None].float()
        with torch.random.fork_rng():
            torch.manual_seed(inputs.seed)
            if self.uses_seed:
                self.model.model.z = torch.randn_like(self.model.model.z)
            result = self.model(image.to(self.model.device), mask.to(self.model.device))[0].clamp(0, 1)
        return (result * 255).round().byte().movedim(0, -1).cpu().numpy()


class PrecomputedMethod:
    """Results that were made elsewhere: images in a folder, named like the photos, or as a template with {name} and
    {seed} says, of any of the suffixes."""

    def __init__(self, folder: str, names: Sequence[str], seeds: int):
        self.template = Path(folder if "{name}" in folder else f"{folder}/{{name}}")
        if self.template.suffix.lower() in SUFFIXES:
            self.template = self.template.with_suffix("")
        self.uses_seed = "{seed}" in folder
        self.files = find_pictures(str(self.template))
        turns = range(seeds if self.uses_seed else 1)
        wanted = [self.stem(name, turn) for name in names for turn in turns]
        if missing := [stem for stem in wanted if stem not in self.files]:
            raise FileNotFoundError(f"{folder}: {len(missing)} results are missing, such as {missing[0]}.png")
        self.weights = {str(Path(folder)): fingerprint(self.files.values())}

    def __call__(self, inputs: InpaintInput) -> np.ndarray:
        return read_image(self.files[self.stem(inputs.name, inputs.seed_index)])

    def stem(self, name: str, seed_index: int) -> Path:
        return Path(str(self.template).replace("{name}", name).replace("{seed}", str(seed_index)))


def find_pictures(template: str) -> dict[Path, Path]:
    """Path without suffix -> image, of all that a template without suffix stands for. Raises ConfigError for two images of
    one name."""
    pattern = escape(template).replace("{name}", "*").replace("{seed}", "*") + ".*"
    found: dict[Path, Path] = {}
    for path in sorted(path for path in map(Path, glob(pattern)) if path.suffix.lower() in SUFFIXES):
        if (other := found.setdefault(path.with_suffix(""), path)) != path:
            raise ConfigError(f"{other} and {path.name} are of the same name; remove one of them")
    return found


def fingerprint(files: Iterable[Path]) -> str:
    """Of names, sizes and times of change: files that were made anew have another one."""
    states = [(path.name, (stat := path.stat()).st_size, stat.st_mtime_ns) for path in files]
    return hashlib.sha256(repr(states).encode()).hexdigest()


def add_extra_models() -> None:
    """MAT is among spandrel's extra models, whose licenses are not free; it can be used where they are installed."""
    try:
        import spandrel_extra_arches
    except ImportError:
        return
    spandrel_extra_arches.install(ignore_duplicates=True)
