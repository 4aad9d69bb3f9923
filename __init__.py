"""ComfyUI-ASUKA: context-stable, seamless inpainting for ComfyUI (ASUKA, arXiv 2312.04831)."""

from .nodes import comfy_entrypoint

WEB_DIRECTORY = "./web"

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
