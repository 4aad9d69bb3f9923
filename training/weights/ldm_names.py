"""Names of tensors in the single files that ComfyUI loads, for diffusers' networks."""

from collections.abc import Iterator

from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel

from asuka_modules.layouts import DIFFUSERS_DECODER

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
ENDS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}


def unet_modules(unet: UNet2DConditionModel) -> Iterator[tuple[str, str]]:
    """(diffusers name, LDM name) of the U-Net's blocks, for any number of levels and layers."""
    yield from ENDS.items()
    n = 1
    for i, block in enumerate(unet.down_blocks):
        for j in range(len(block.resnets)):
            yield f"down_blocks.{i}.resnets.{j}", f"input_blocks.{n}.0"
            yield f"down_blocks.{i}.attentions.{j}", f"input_blocks.{n}.1"
            n += 1
        if block.downsamplers:
            yield f"down_blocks.{i}.downsamplers.0.conv", f"input_blocks.{n}.0.op"
            n += 1
    n = 0
    for i, block in enumerate(unet.up_blocks):
        attends = hasattr(block, "attentions")
        for j in range(len(block.resnets)):
            yield f"up_blocks.{i}.resnets.{j}", f"output_blocks.{n}.0"
            yield f"up_blocks.{i}.attentions.{j}", f"output_blocks.{n}.1"
            if block.upsamplers and j == len(block.resnets) - 1:
                yield f"up_blocks.{i}.upsamplers.0.conv", f"output_blocks.{n}.{1 + attends}.conv"
            n += 1


def unet_to_ldm(unet: UNet2DConditionModel) -> dict[str, str]:
    """diffusers key -> LDM key, for every tensor of the U-Net."""
    modules = sorted(unet_modules(unet), key=lambda names: -len(names[0]))
    renamed = {}
    for key in unet.state_dict():
        name, ldm_name = next(names for names in modules if key.startswith(names[0] + "."))
        rest = key.removeprefix(name + ".")
        layer, _, parameter = rest.rpartition(".")
        rest = f"{RESNET[layer]}.{parameter}" if ".resnets." in name or name.startswith("mid_block.resnets") else rest
        renamed[key] = f"{ldm_name}.{rest}"
    return renamed


def vae_to_ldm(vae: AutoencoderKL) -> dict[str, str]:
    """diffusers key -> LDM key, for every tensor of a KL autoencoder; its decoder counts levels the other way round."""
    levels = len(vae.decoder.up_blocks)
    names = {f"up_blocks.{i}.": f"up.{levels - 1 - i}." for i in range(levels)}
    names |= {"down_blocks.": "down.", ".downsamplers.0.": ".downsample.", **DIFFUSERS_DECODER}
    return {key: replace_all(key, names) for key in vae.state_dict()}


def replace_all(key: str, names: dict[str, str]) -> str:
    for old, new in names.items():
        key = key.replace(old, new)
    return key


def taesd_to_ldm(autoencoder: AutoencoderTiny) -> dict[str, str]:
    """diffusers key -> TAESD key; TAESD counts the decoder's clamp as a layer."""
    renamed = {}
    for key in autoencoder.state_dict():
        side, _, layer, rest = key.split(".", 3)
        renamed[key] = f"taesd_{side}.{int(layer) + (side == 'decoder')}.{rest}"
    return renamed
