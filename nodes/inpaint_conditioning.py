"""Inpaint Conditioning: what InpaintModelConditioning gives, from one VAE encode instead of two."""

import node_helpers
from comfy_api.latest import io
from torch import Tensor

from .checks import checked
from .diffusion import encode_image
from .tensors import inpaint_inputs
from .window import Window


class ASUKA_InpaintConditioning(io.ComfyNode):
    """Adds the masked image and the mask to the conditioning of an inpainting model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASUKA_InpaintConditioning",
            display_name="Inpaint Conditioning",
            category="ASUKA",
            description="Does what InpaintModelConditioning does, with one VAE encode instead of two: after Inpaint Prepare both would encode nearly the same image.",
            search_aliases=["asuka", "inpaint model conditioning", "inpainting model", "concat latent"],
            inputs=[
                io.Conditioning.Input("positive", tooltip="From ASUKA Align Conditioning, or any other."),
                io.Conditioning.Input("negative", tooltip="From ASUKA Align Conditioning, or any other."),
                io.Vae.Input("vae", tooltip="The model's own VAE."),
                io.Image.Input("image", tooltip="From Inpaint Prepare. The masked content is ignored."),
                io.Mask.Input(
                    "mask", tooltip="The sampling_mask of Inpaint Prepare. White (above 0.5) marks the hole."
                ),
                io.Boolean.Input(
                    "noise_mask",
                    default=False,
                    tooltip="Keep the known latent pixels while sampling, by a noise mask. Not needed with Harmonizing VAE Decode and Inpaint Stitch, which keep the known pixels themselves.",
                ),
            ],
            outputs=[
                io.Conditioning.Output("positive", tooltip="For KSampler."),
                io.Conditioning.Output("negative", tooltip="For KSampler."),
                io.Latent.Output("latent", tooltip="For KSampler: the image with gray in the hole."),
            ],
        )

    @classmethod
    @checked
    def execute(
        cls, positive: list, negative: list, vae, image: Tensor, mask: Tensor, noise_mask: bool
    ) -> io.NodeOutput:
        image, mask = inpaint_inputs(image, mask)
        encoded = encode_image(vae, image)
        mask = Window(mask.shape[-2:], encoded.shape[-2:], vae.spacial_compression_encode()).cut(mask)
        values = {"concat_latent_image": encoded, "concat_mask": mask}
        latent = {"samples": encoded} | ({"noise_mask": mask} if noise_mask else {})
        conditioned = (node_helpers.conditioning_set_values(given, values) for given in (positive, negative))
        return io.NodeOutput(*conditioned, latent)
