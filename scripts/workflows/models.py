"""The model files that the workflows name, with where the page downloads what is missing."""

from __future__ import annotations

HUGGINGFACE = "https://huggingface.co/"
DEMO = "https://github.com/asuka-inpaint/ComfyUI-ASUKA/raw/main/demo/"


def model(directory: str, name: str, url: str, sha256: str | None = None) -> dict:
    """An entry of a node's `models`; the page offers what is missing for download."""
    found = {"name": name, "url": url, "directory": directory}
    return found | ({"hash": sha256, "hash_type": "SHA256"} if sha256 else {})


MINIATURE_BASE = model("checkpoints", "asuka-miniature-base.safetensors", DEMO + "asuka-miniature-base.safetensors")
MINIATURE_SPL = model("asuka", "asuka-miniature-spl.safetensors", DEMO + "asuka-miniature-spl.safetensors")
MINIATURE = model("asuka", "asuka-miniature.safetensors", DEMO + "asuka-miniature.safetensors")
SD15_INPAINTING = model(
    "checkpoints",
    "sd-v1-5-inpainting.ckpt",
    HUGGINGFACE + "stable-diffusion-v1-5/stable-diffusion-inpainting/resolve/main/sd-v1-5-inpainting.ckpt",
    "c6bbc15e3224e6973459ba78de4998b80b50112b0ae5b5c67113d56b4e366b19",
)
SD15 = model(
    "checkpoints",
    "v1-5-pruned-emaonly-fp16.safetensors",
    HUGGINGFACE + "Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/v1-5-pruned-emaonly-fp16.safetensors",
)
ASYMMETRIC = model(
    "asuka", "asymmetric-vqgan-x1.5.safetensors", "https://hf.co/cross-attention/asymmetric-autoencoder-kl-x-1-5"
)
VIT_MAE = model("asuka", "model.safetensors", HUGGINGFACE + "facebook/vit-mae-base/resolve/main/model.safetensors")
FLUX = model(
    "diffusion_models",
    "flux1-fill-dev.safetensors",
    HUGGINGFACE + "Comfy-Org/flux1-dev/resolve/main/split_files/diffusion_models/flux1-fill-dev.safetensors",
)
FLUX_VAE = model(
    "vae",
    "ae.safetensors",
    HUGGINGFACE + "Comfy-Org/Lumina_Image_2.0_Repackaged/resolve/main/split_files/vae/ae.safetensors",
)
CLIP_L, T5 = (
    model("text_encoders", name, HUGGINGFACE + "comfyanonymous/flux_text_encoders/resolve/main/" + name)
    for name in ("clip_l.safetensors", "t5xxl_fp16.safetensors")
)
ASUKA_SD15 = model(
    "asuka",
    "asuka-sd15.safetensors",
    "https://github.com/asuka-inpaint/ComfyUI-ASUKA/blob/main/training/README.md",
)
ASUKA_FLUX = model("asuka", "asuka-flux-fill.safetensors", "https://hf.co/yikaiwang/ASUKA-FLUX.1-Fill")
