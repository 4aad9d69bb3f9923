"""ComfyUI graphs, in API format, of ASUKA and of the baselines that share its base model."""

from dataclasses import dataclass
from typing import Literal

from ..engine.config import ConfigError


@dataclass(frozen=True)
class RePaint:
    """RePaint instead of DDIM: for a base model that is not for inpainting."""

    jump_length: int = 10
    resamples: int = 10


@dataclass(frozen=True)
class Guidance:
    """MAE Prior Guidance: the sampler is held to the low frequencies of an image, in the hole."""

    target: Literal["mae", "spl", "flat"] = "mae"  # what the MAE or SPL expects; flat: plain gray
    file: str | None = None  # with the MAE or SPL
    close_seam: bool = True
    strength: float = 1.0
    detail: float = 1.0
    until: float = 1.0

    def __post_init__(self):
        if (self.file is None) != (self.target == "flat"):
            raise ConfigError(
                f"guidance with target {self.target} and file {self.file}, expected a file for mae and spl and none for flat"
            )


@dataclass(frozen=True)
class Diffusion:
    """A base model, what it is told, and what decodes its latents; files are named as in ComfyUI's models folder."""

    checkpoint: str
    asuka: str | None = None  # told the aligned prior; None: a prompt
    alignment: str | None = None  # another file's alignment, for ablations and learned tokens
    strength: float = 1.0  # of the prior; 0: the empty prompt that is stored with the alignment
    prompt: str = ""
    negative: str = ""
    decoder: str | None = None  # file with a harmonizing decoder; None: the checkpoint's own VAE
    close_seam: bool = False  # with a harmonizing decoder: as its node does by default, and the paper does not
    repaint: RePaint | None = None
    guidance: Guidance | None = None
    steps: int = 50
    cfg: float = 1.0
    whole_cells: bool = True  # grow the hole that the model is told to whole latent cells, as Inpaint Prepare does
    noise_mask: bool = False  # put the known latents back after every step, as ComfyUI does by default and LDM does not

    def __post_init__(self):
        if self.repaint and (self.noise_mask or not self.whole_cells):
            raise ConfigError(
                f"repaint with whole_cells {self.whole_cells} and noise_mask {self.noise_mask}, expected true and false: "
                "it always samples whole cells, and puts the known latents back by itself; leave both out"
            )

    def files(self) -> dict[str, str]:
        """Weight file -> folder of models/."""
        guide = self.guidance and self.guidance.file
        asuka = {file: "asuka" for file in (self.asuka, self.alignment, self.decoder, guide) if file}
        return {self.checkpoint: "checkpoints", **asuka}


def inpaint(method: Diffusion, photo: str, size: int, seed: int) -> dict:
    """The graph that fills the transparent part of an input image, `size` at its longest, and shows it as node "result"."""
    image, mask, vae = ["prepared", 0], ["prepared", 1], ["checkpoint", 2]
    graph = {
        "checkpoint": node("CheckpointLoaderSimple", ckpt_name=method.checkpoint),
        "photo": node("LoadImage", image=photo),
        "prepared": node("ASUKA_InpaintPrepare", image=["photo", 0], mask=["photo", 1], resolution=size, context=1.0),
        **tell(method, image, mask),
        **(guide(method.guidance, image, mask) if method.guidance else {}),
        **(repaint(method, method.repaint, seed) if method.repaint else ddim(method, seed)),
    }
    if method.decoder:
        graph["decoder"] = node("ASUKA_Load", file=method.decoder)
        graph["decoded"] = node(
            "ASUKA_HarmonizingVAEDecode",
            decoder=["decoder", 2],
            samples=["sampled", 0],
            image=image,
            mask=mask,
            keep_known=method.close_seam,
            close_seam=method.close_seam,
        )
    else:
        graph["decoded"] = node("VAEDecode", samples=["sampled", 0], vae=vae)
    graph["result"] = node("PreviewImage", images=["decoded", 0])
    return graph


def tell(method: Diffusion, image: list, mask: list) -> dict:
    """Nodes "positive" and, for prompts, "negative"; the prior's has both as its outputs."""
    if not method.asuka:
        clip = ["checkpoint", 1]
        return {
            "positive": node("CLIPTextEncode", clip=clip, text=method.prompt),
            "negative": node("CLIPTextEncode", clip=clip, text=method.negative),
        }
    return {
        "asuka": node("ASUKA_Load", file=method.asuka),
        "alignment": node("ASUKA_Load", file=method.alignment or method.asuka),
        "prior": node("ASUKA_MAEPriorEncode", mae=["asuka", 0], image=image, mask=mask),
        "positive": node(
            "ASUKA_AlignConditioning", alignment=["alignment", 1], prior=["prior", 0], strength=method.strength
        ),
    }


def guide(guidance: Guidance, image: list, mask: list) -> dict:
    """Node "guided", the model, and before it what makes the target."""
    graph, target = {}, image  # which is gray in the hole
    if guidance.file:
        graph["target file"] = node("ASUKA_Load", file=guidance.file)
    if guidance.target == "mae":
        graph["target"] = node("ASUKA_MAEPriorEncode", mae=["target file", 0], image=image, mask=mask)
        target = ["target", 1]
    elif guidance.target == "spl":
        graph["target"] = node("ASUKA_InpaintSPL", spl=["target file", 3], image=image, mask=mask, resolution=256)
        target = ["target", 0]
    graph["guided"] = node(
        "ASUKA_MAEPriorGuidance",
        model=["checkpoint", 0],
        vae=["checkpoint", 2],
        image=image,
        mask=mask,
        prior_image=target,
        strength=guidance.strength,
        detail=guidance.detail,
        until=guidance.until,
        close_seam=guidance.close_seam,
    )
    return graph


def ddim(method: Diffusion, seed: int) -> dict:
    """An inpainting model, which is shown the known pixels."""
    conditioned = node(
        "InpaintModelConditioning",
        positive=["positive", 0],
        negative=negative(method),
        vae=["checkpoint", 2],
        pixels=["prepared", 0],
        mask=["prepared", 2 if method.whole_cells else 1],
        noise_mask=method.noise_mask,
    )
    sampled = node(
        "KSampler",
        model=model(method),
        seed=seed,
        steps=method.steps,
        cfg=method.cfg,
        sampler_name="ddim",
        scheduler="ddim_uniform",
        positive=["conditioned", 0],
        negative=["conditioned", 1],
        latent_image=["conditioned", 2],
        denoise=1.0,
    )
    return {"conditioned": conditioned, "sampled": sampled}


def repaint(method: Diffusion, schedule: RePaint, seed: int) -> dict:
    """Any model; the sampler puts the known latents back."""
    return {
        "encoded": node("VAEEncode", pixels=["prepared", 0], vae=["checkpoint", 2]),
        "masked": node("SetLatentNoiseMask", samples=["encoded", 0], mask=["prepared", 2]),
        "sampler": node("ASUKA_RePaint", jump_length=schedule.jump_length, resamples=schedule.resamples),
        "sigmas": node(
            "BasicScheduler", model=model(method), scheduler="ddim_uniform", steps=method.steps, denoise=1.0
        ),
        "sampled": node(
            "SamplerCustom",
            model=model(method),
            add_noise=True,
            noise_seed=seed,
            cfg=method.cfg,
            positive=["positive", 0],
            negative=negative(method),
            sampler=["sampler", 0],
            sigmas=["sigmas", 0],
            latent_image=["masked", 0],
        ),
    }


def model(method: Diffusion) -> list:
    return ["guided" if method.guidance else "checkpoint", 0]


def negative(method: Diffusion) -> list:
    return ["positive", 1] if method.asuka else ["negative", 0]


def node(kind: str, **inputs) -> dict:
    return {"class_type": kind, "inputs": inputs}
