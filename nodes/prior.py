"""MAE Prior Encode: the MAE's prediction for the hole, as tokens and as an image (ASUKA, sec. 3.1)."""

import comfy.model_management
import comfy.utils
import torch
from comfy_api.latest import io, ui

from ..asuka_modules.masking import reduce_mask, resize_known
from . import sockets
from .checks import checked
from .networks import Missing, Network, require
from .tensors import image_and_hole, image_to_nchw, require_finite

BATCH = 16  # images in one forward pass


class ASUKA_MAEPriorEncode(io.ComfyNode):
    """Computes the MAE prior of an image and its hole."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ASUKA_MAEPriorEncode",
            display_name="MAE Prior Encode",
            category="ASUKA",
            description="Predicts coarsely, from the known pixels, what belongs in the hole.",
            search_aliases=["asuka", "inpaint prior", "object removal", "masked autoencoder"],
            inputs=[
                sockets.MAE.Input("mae", tooltip="From Load ASUKA."),
                io.Image.Input("image", tooltip="The image. The masked content is ignored."),
                io.Mask.Input("mask", tooltip="White (above 0.5) marks the hole."),
                io.Image.Input(
                    "prior_image",
                    optional=True,
                    tooltip="Take the prior from this image instead of the masked image, e.g. a plain color, or the image with something else in the hole.",
                ),
            ],
            outputs=[
                sockets.Prior.Output("prior", tooltip="256 tokens for ASUKA Align Conditioning."),
                io.Image.Output(
                    "preview",
                    tooltip="The image that the prior encodes. It is blurred, as a MAE's predictions always are.",
                ),
            ],
        )

    @classmethod
    @checked
    def execute(
        cls, mae: Network | Missing, image: torch.Tensor, mask: torch.Tensor, prior_image: torch.Tensor | None = None
    ) -> io.NodeOutput:
        mm = comfy.model_management
        image, hole = image_and_hole(image, mask)
        size = image.shape[-2:]
        if prior_image is not None:
            if len(prior_image) not in (1, len(image)):
                raise ValueError(
                    f"batch sizes differ: {len(prior_image)} of prior_image but {len(image)} of image; use equal counts, or a single one"
                )
            image = image_to_nchw(prior_image)
            require_finite("prior_image", image)
            hole = torch.zeros_like(image[:1, :1], dtype=torch.bool).expand(len(image), -1, -1, -1)
        mae = require(mae)
        network = mae.load(memory_required=BATCH * 256 * 2**20 // 16)
        input_size = (network.config.image_size, network.config.image_size)
        progress = comfy.utils.ProgressBar(len(image))
        # Image by image into one result each: a long batch takes no memory but that.
        previews = torch.empty(len(image), *size, 3, device=mm.intermediate_device(), dtype=mm.intermediate_dtype())
        priors = []
        for start in range(0, len(image), BATCH):
            mm.throw_exception_if_processing_interrupted()
            inputs = []
            for single in zip(*(x[start : start + BATCH].split(1) for x in (image, hole)), strict=True):
                # Resized before they move, so that the device never holds the images at their own size. The masked content
                # is not read.
                known, mask = (x.float() for x in single)
                inputs.append((resize_known(known, mask, input_size), reduce_mask(mask, input_size, "nearest")))
            features = network.decoder_features(*(torch.cat(x).to(mae.device) for x in zip(*inputs, strict=True)))
            priors.append(network.drop_class_token(features).to(mm.intermediate_device()))
            preview = network.reconstruct(features).to(mm.intermediate_device())
            for i, single in enumerate(preview.split(1), start):
                single = torch.nn.functional.interpolate(single, size, mode="bicubic").clamp(0, 1)
                previews[i] = single[0].movedim(0, -1)
            progress.update(len(preview))
        return io.NodeOutput(torch.cat(priors), previews, ui=ui.PreviewImage(previews, cls=cls))
