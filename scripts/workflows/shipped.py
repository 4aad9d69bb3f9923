"""The shipped workflows, one function for each: run `bash scripts/workflows.sh` after a node or one of these has changed."""

from __future__ import annotations

from scripts.workflows import notes
from scripts.workflows.graph import Graph
from scripts.workflows.models import (
    ASUKA_FLUX,
    ASUKA_SD15,
    ASYMMETRIC,
    CLIP_L,
    FLUX,
    FLUX_VAE,
    MINIATURE,
    MINIATURE_BASE,
    MINIATURE_SPL,
    SD15,
    SD15_INPAINTING,
    T5,
    VIT_MAE,
)
from scripts.workflows.steps import (
    TEXTURE,
    align,
    condition,
    decode,
    encode,
    inpaint,
    inpaint_guided,
    load_checkpoint,
    miniature,
    read_me,
    sample,
    save,
    sd15_and_mae,
)

PAINTED = "Image with a painted hole"
PHOTO, GROW, SEED = ("LoadImage", "image"), ("ASUKA_InpaintPrepare", "grow"), ("KSampler", "seed")  # in App Mode


def remove_object(g: Graph) -> None:
    read_me(g, notes.REMOVE_OBJECT, "asuka_rocket.webp", MINIATURE_BASE, MINIATURE)
    photo = g.node("LoadImage", 0, PAINTED, image="asuka_rocket.webp")
    checkpoint, asuka = miniature(g, 0)
    prepared = g.node("ASUKA_InpaintPrepare", 1, image=photo[0], mask=photo[1], resolution=256, separate_crops=True)
    decoded = inpaint(g, 1, checkpoint, asuka, prepared)
    save(g, 4, prepared, decoded, texture=TEXTURE)
    g.app(PHOTO, GROW, SEED)


def remove_object_without_training(g: Graph) -> None:
    read_me(g, notes.WITHOUT_TRAINING, "asuka_rocket.webp", SD15_INPAINTING, VIT_MAE)
    photo = g.node("LoadImage", 0, PAINTED, image="asuka_rocket.webp")
    checkpoint, mae = sd15_and_mae(g, 0)
    prepared = g.node("ASUKA_InpaintPrepare", 1, image=photo[0], mask=photo[1], separate_crops=True)
    sampled, _ = inpaint_guided(g, 1, checkpoint, mae, prepared)
    decoded = g.node("VAEDecode", 4, samples=sampled[0], vae=checkpoint[2])
    save(g, 5, prepared, decoded)
    g.app(PHOTO, GROW, ("ASUKA_MAEPriorGuidance", "strength"), SEED)


def asuka_and_plain_sd(g: Graph) -> None:
    read_me(g, notes.COMPARE, "asuka_rocket.webp", MINIATURE_BASE, MINIATURE)
    photo = g.node("LoadImage", 0, PAINTED, image="asuka_rocket.webp")
    checkpoint, asuka = miniature(g, 0)
    prepared = g.node("ASUKA_InpaintPrepare", 1, image=photo[0], mask=photo[1], resolution=256, separate_crops=True)
    prior = g.node("ASUKA_MAEPriorEncode", 1, mae=asuka[0], image=prepared[0], mask=prepared[1])
    empty = g.node(
        "ASUKA_AlignConditioning", 2, "Strength 0: the empty prompt", alignment=asuka[1], prior=prior[0], strength=0.0
    )
    sampled = sample(g, 3, checkpoint, condition(g, 2, empty, checkpoint[2], prepared))
    decoded = g.node("VAEDecode", 4, samples=sampled[0], vae=checkpoint[2])
    plain = g.node(
        "ASUKA_InpaintStitch", 4, "Plain Stable Diffusion", stitch=prepared[3], image=decoded[0], texture=TEXTURE
    )
    aligned = g.node("ASUKA_AlignConditioning", 2, "Strength 1: the prior alone", alignment=asuka[1], prior=prior[0])
    sampled = sample(g, 3, checkpoint, condition(g, 2, aligned, checkpoint[2], prepared))
    decoded = decode(g, 4, asuka, sampled, prepared)
    ours = g.node("ASUKA_InpaintStitch", 4, "ASUKA", stitch=prepared[3], image=decoded[0], texture=TEXTURE)
    beside = g.node("ImageStitch", 5, "Plain Stable Diffusion | ASUKA", image1=plain[0], image2=ours[0])
    g.node("SaveImage", 5, images=beside[0], filename_prefix="asuka")


def prior_from_another_image(g: Graph) -> None:
    read_me(g, notes.PRIOR_IMAGE, "asuka_coins.webp", MINIATURE_BASE, MINIATURE)
    photo = g.node("LoadImage", 0, PAINTED, image="asuka_coins.webp")
    checkpoint, asuka = miniature(g, 0)
    prepared = g.node("ASUKA_InpaintPrepare", 1, image=photo[0], mask=photo[1], resolution=256, separate_crops=True)
    plain = g.node("EmptyImage", 1, "Plain color", width=256, height=256, color=0x3C3C3C)
    decoded = inpaint(g, 2, checkpoint, asuka, prepared, prior_image=plain[0])
    save(g, 5, prepared, decoded, texture=TEXTURE)


def folder_of_photos(g: Graph) -> None:
    read_me(g, notes.BATCH, "asuka_photos", MINIATURE_BASE, MINIATURE)
    photos = g.node("LoadImageDataSetFromFolder", 0, "Images of one size", folder="asuka_photos")
    mask = g.node("LoadImageMask", 0, "What to remove, in white", image="asuka_photos_mask.png", channel="red")
    checkpoint, asuka = miniature(g, 0)
    prepared = g.node("ASUKA_InpaintPrepare", 1, image=photos[0], mask=mask[0], resolution=256, separate_crops=True)
    decoded = inpaint(g, 1, checkpoint, asuka, prepared)
    save(g, 4, prepared, decoded, texture=TEXTURE)


def video(g: Graph) -> None:
    read_me(g, notes.VIDEO, "asuka_video.mp4", MINIATURE_BASE, MINIATURE)
    clip = g.node("LoadVideo", 0, file="asuka_video.mp4")
    frames = g.node("GetVideoComponents", 0, video=clip[0])
    mask = g.node("LoadImage", 0, "One frame with a painted hole", image="asuka_video_mask.webp")
    checkpoint, asuka = miniature(g, 1)
    prepared = g.node("ASUKA_InpaintPrepare", 1, image=frames[0], mask=mask[1], resolution=256)
    aligned = align(g, 2, asuka, prepared)
    conditioned = condition(g, 3, aligned, checkpoint[2], prepared)
    noise = g.node("LatentBatchSeedBehavior", 3, "The same noise for every frame", samples=conditioned[2])
    sampled = sample(g, 3, checkpoint, conditioned, latent_image=noise[0])
    decoded = decode(g, 4, asuka, sampled, prepared)
    stitched = g.node("ASUKA_InpaintStitch", 4, stitch=prepared[3], image=decoded[0])
    made = g.node("CreateVideo", 4, images=stitched[0], fps=frames[2], audio=frames[1])
    g.node("SaveVideo", 5, video=made[0], filename_prefix="asuka")


def high_resolution(g: Graph) -> None:
    read_me(g, notes.HIGH_RESOLUTION, "asuka_galaxies.webp", MINIATURE_BASE, MINIATURE)
    photo = g.node("LoadImage", 0, PAINTED, image="asuka_galaxies.webp")
    checkpoint, asuka = miniature(g, 0)
    prepared = g.node(
        "ASUKA_InpaintPrepare", 1, image=photo[0], mask=photo[1], resolution=256, grow=4, separate_crops=True
    )
    g.node("PreviewImage", 1, "What the model sees", images=prepared[0])
    decoded = inpaint(g, 2, checkpoint, asuka, prepared)
    save(g, 5, prepared, decoded, texture=TEXTURE)
    g.app(PHOTO, GROW, ("ASUKA_InpaintPrepare", "context"), SEED)


def outpaint(g: Graph) -> None:
    read_me(g, notes.OUTPAINT, "asuka_coffee.webp", MINIATURE_BASE, MINIATURE)
    photo = g.node("LoadImage", 0, "Image", image="asuka_coffee.webp")
    checkpoint, asuka = miniature(g, 0)
    padded = g.node("ImagePadForOutpaint", 1, image=photo[0], right=200, feathering=0)
    prepared = g.node("ASUKA_InpaintPrepare", 1, image=padded[0], mask=padded[1], resolution=256, context=1.5)
    decoded = inpaint(g, 2, checkpoint, asuka, prepared)
    save(g, 5, prepared, decoded, texture=TEXTURE)
    g.app(PHOTO, *(("ImagePadForOutpaint", side) for side in ("left", "top", "right", "bottom")), SEED)


def decoder_only(g: Graph) -> None:
    read_me(g, notes.DECODER_ONLY, "asuka_rocket.webp", SD15_INPAINTING, ASYMMETRIC)
    photo = g.node("LoadImage", 0, PAINTED, image="asuka_rocket.webp")
    checkpoint = load_checkpoint(g, 0, SD15_INPAINTING, "SD-1.5 inpainting checkpoint")
    asuka = g.node("ASUKA_Load", 0, "Load ASUKA: the decoder alone", [ASYMMETRIC], file=ASYMMETRIC["name"])
    positive = g.node("CLIPTextEncode", 1, "What belongs in the hole", text="background", clip=checkpoint[1])
    negative = g.node("CLIPTextEncode", 1, "What does not", text="", clip=checkpoint[1])
    prepared = g.node("ASUKA_InpaintPrepare", 1, image=photo[0], mask=photo[1], separate_crops=True)
    conditioned = g.node(
        "InpaintModelConditioning",
        2,
        positive=positive[0],
        negative=negative[0],
        vae=checkpoint[2],
        pixels=prepared[0],
        mask=prepared[2],
    )
    sampled = sample(g, 2, checkpoint, conditioned, cfg=7.5)
    decoded = decode(g, 3, asuka, sampled, prepared)
    save(g, 4, prepared, decoded)


def flux_fill(g: Graph) -> None:
    read_me(g, notes.FLUX_FILL, "asuka_rocket.webp", FLUX, FLUX_VAE, CLIP_L, T5, ASUKA_FLUX)
    photo = g.node("LoadImage", 0, PAINTED, image="asuka_rocket.webp")
    unet = g.node("UNETLoader", 0, "FLUX.1 Fill", [FLUX], unet_name=FLUX["name"])
    vae = g.node("VAELoader", 0, "FLUX's VAE", [FLUX_VAE], vae_name=FLUX_VAE["name"])
    clip = g.node(
        "DualCLIPLoader",
        1,
        "FLUX's text encoders",
        [CLIP_L, T5],
        clip_name1=CLIP_L["name"],
        clip_name2=T5["name"],
        type="flux",
    )
    empty = g.node("CLIPTextEncode", 1, "Empty prompt", text="", clip=clip[0])
    asuka = g.node("ASUKA_Load", 0, None, [ASUKA_FLUX], file=ASUKA_FLUX["name"])
    prepared = g.node("ASUKA_InpaintPrepare", 1, image=photo[0], mask=photo[1], resolution=1024, separate_crops=True)
    aligned = align(g, 2, asuka, prepared, strength=0.5, base=empty[0])
    guided = g.node("FluxGuidance", 2, conditioning=aligned[0], guidance=30.0)
    conditioned = g.node(
        "InpaintModelConditioning",
        3,
        positive=guided[0],
        negative=aligned[1],
        vae=vae[0],
        pixels=prepared[0],
        mask=prepared[1],
        noise_mask=False,
    )
    sampled = sample(g, 3, unet, conditioned, steps=50, scheduler="simple")
    decoded = decode(g, 4, asuka, sampled, prepared)
    save(g, 5, prepared, decoded)
    size = g.node("GetImageSize", 1, image=prepared[0])
    g.move_last_before(sampled)
    shift = {"model": unet[0], "width": size[0], "height": size[1]}
    sampled.inputs["model"] = g.node("ModelSamplingFlux", 2, "The release's shift for this size", **shift)[0]
    g.move_last_before(sampled)
    g.app(PHOTO, GROW, SEED)


def mae_preview(g: Graph) -> None:
    read_me(g, notes.MAE_PREVIEW, "asuka_rocket.webp", VIT_MAE)
    photo = g.node("LoadImage", 0, PAINTED, image="asuka_rocket.webp")
    asuka = g.node("ASUKA_Load", 0, "Load ASUKA: the MAE alone", [VIT_MAE], file=VIT_MAE["name"])
    prior = g.node("ASUKA_MAEPriorEncode", 1, mae=asuka[0], image=photo[0], mask=photo[1])
    g.node("SaveImage", 2, images=prior[1], filename_prefix="mae")


def prior_from_spl(g: Graph) -> None:
    read_me(g, notes.PRIOR_FROM_SPL, "asuka_rocket.webp", MINIATURE_BASE, MINIATURE, MINIATURE_SPL)
    photo = g.node("LoadImage", 0, PAINTED, image="asuka_rocket.webp")
    checkpoint, asuka = miniature(g, 0)
    spl = g.node("ASUKA_Load", 0, "Load ASUKA: SPL", [MINIATURE_SPL], file=MINIATURE_SPL["name"])
    prepared = g.node("ASUKA_InpaintPrepare", 1, image=photo[0], mask=photo[1], resolution=256, separate_crops=True)
    filled = g.node("ASUKA_InpaintSPL", 1, spl=spl[3], image=prepared[0], mask=prepared[1])
    g.node("PreviewImage", 1, "What SPL makes of it", images=filled[0])
    decoded = inpaint(g, 2, checkpoint, asuka, prepared, prior_image=filled[0])
    save(g, 5, prepared, decoded, texture=TEXTURE)


def remove_by_text(g: Graph) -> None:
    read_me(g, notes.REMOVE_BY_TEXT, "asuka_coffee.webp", SD15_INPAINTING, ASUKA_SD15)
    photo = g.node("LoadImage", 0, "Image", image="asuka_coffee.webp")
    checkpoint = load_checkpoint(g, 0, SD15_INPAINTING, "SD-1.5 inpainting checkpoint")
    asuka = g.node("ASUKA_Load", 0, None, [ASUKA_SD15], file=ASUKA_SD15["name"])
    goes = g.node("CLIPTextEncode", 1, "What goes", text="a spoon", clip=checkpoint[1])
    stays = g.node("CLIPTextEncode", 1, "What is there without it", text="", clip=checkpoint[1])
    latent = encode(g, 1, photo, checkpoint)
    found = g.node(
        "ASUKA_DiffEditMask",
        2,
        model=checkpoint[0],
        query=stays[0],
        reference=goes[0],
        samples=latent[0],
        image=photo[0],
    )
    cleaned = g.node("ASUKA_CleanMask", 2, mask=found[0])
    g.node("MaskPreview", 2, "What will go", mask=cleaned[0])
    prepared = g.node("ASUKA_InpaintPrepare", 3, image=photo[0], mask=cleaned[0], separate_crops=True)
    decoded = inpaint(g, 3, checkpoint, asuka, prepared)
    save(g, 6, prepared, decoded)
    g.app(PHOTO, ("CLIPTextEncode", "text"), ("ASUKA_DiffEditMask", "threshold"), SEED)


def edit_by_text(g: Graph) -> None:
    read_me(g, notes.EDIT_BY_TEXT, "asuka_coffee.webp", SD15)
    photo = g.node("LoadImage", 0, "Image", image="asuka_coffee.webp")
    checkpoint = load_checkpoint(g, 0, SD15, "SD-1.5 checkpoint")
    there = g.node("CLIPTextEncode", 1, "What is there", text="a cup of coffee", clip=checkpoint[1])
    wanted = g.node("CLIPTextEncode", 1, "What should be there", text="a bowl of fruit", clip=checkpoint[1])
    empty = g.node("CLIPTextEncode", 1, "Empty prompt", text="", clip=checkpoint[1])
    latent = encode(g, 1, photo, checkpoint)
    found = g.node("ASUKA_DiffEditMask", 2, model=checkpoint[0], query=wanted[0], reference=there[0], samples=latent[0])
    g.node("MaskPreview", 2, "What will change", mask=found[0])
    inverted = g.node("ASUKA_DDIMInvert", 3, model=checkpoint[0], conditioning=empty[0], samples=latent[0])
    edited = g.node(
        "ASUKA_DiffEditDecode",
        3,
        model=checkpoint[0],
        positive=wanted[0],
        negative=empty[0],
        trajectory=inverted[1],
        mask=found[0],
    )
    decoded = g.node("VAEDecode", 3, samples=edited[0], vae=checkpoint[2])
    pasted = g.node(
        "ImageCompositeMasked",
        4,
        "Paste onto the image",
        destination=photo[0],
        source=decoded[0],
        mask=found[0],
        resize_source=True,
    )
    g.node("SaveImage", 5, images=pasted[0], filename_prefix="asuka_edit")


WORKFLOWS = [
    remove_object,
    remove_object_without_training,
    asuka_and_plain_sd,
    prior_from_another_image,
    folder_of_photos,
    video,
    high_resolution,
    outpaint,
    decoder_only,
    flux_fill,
    mae_preview,
    prior_from_spl,
    remove_by_text,
    edit_by_text,
]
