"""The texts of the notes in the shipped workflows."""

INSTALL = "If you cloned the repository, `python scripts/install_miniature.py` copies the demo model's files there."

REMOVE_OBJECT = """## Remove an object

Paint over an object to remove it, without a prompt. It is replaced by what the rest of the image suggests.

### Files

{files}

This is the *demo model*, for trying things out at 256 pixels. If you use an SD-1.5 inpainting checkpoint and weights trained for \
it (training/README.md), set **resolution** to 512.

### Use

1. Load an image, right-click it, choose *Open in Mask Editor*, and paint. {sample}
2. Run.

### What happens

*Inpaint Prepare* crops around the hole and fills it with gray. *MAE Prior Encode* predicts from the rest what belongs there. *ASUKA \
Align Conditioning* translates that prediction into conditioning for the U-Net, in place of a prompt. *Harmonizing VAE Decode* \
matches the colors at the hole's edge. *Inpaint Stitch* pastes the result back: everything outside the hole stays unchanged, bit \
for bit."""

WITHOUT_TRAINING = """## Remove an object without training

For an SD-1.5 inpainting checkpoint, without any ASUKA weights: a published MAE predicts what belongs in the hole, and \
*MAE Prior Guidance* keeps the low frequencies of what the model paints close to that prediction.

### Files

{files}

The second file is facebook/vit-mae-base (448 MB), exactly as downloaded. MAE-FAR's Places2 MAE knows scenes better; it has to be \
converted once (docs/weights.md).

### Use

1. Load an image, right-click it, choose *Open in Mask Editor*, and paint. {sample}
2. Run.

If the result shows a new object, raise **strength** or **until** of *MAE Prior Guidance*, or lower **detail**. If it is too soft, do \
the opposite.

For fewer color seams load an Asymmetric VQGAN decoder (docs/weights.md) with *Load ASUKA*, and replace *VAE Decode* with \
*Harmonizing VAE Decode*."""

COMPARE = """## ASUKA against plain Stable Diffusion

The same image, checkpoint, seed and sampler twice. Above: the empty prompt and *VAE Decode*. Below: the MAE prior \
in place of the prompt, and *Harmonizing VAE Decode*. In the result, plain Stable Diffusion is on the left and ASUKA on the right.

### Files

{files}

### Use

1. Load an image, right-click it, choose *Open in Mask Editor*, and paint. {sample}
2. Run. Change both seeds together to see how much the results depend on them.

With the files above, the left result is that of the demo's base model. To compare with Stable Diffusion itself, choose an SD-1.5 \
inpainting checkpoint and weights trained for it. Also look at the colors at the hole's edge."""

PRIOR_IMAGE = """## Prior from another image

If an image shows several similar objects, the MAE predicts another one in the hole. Here the prior comes from an image of a \
plain color instead, so that nothing but this color is predicted. You can connect any image to **prior_image**, for example one of the \
same place without the object.

### Files

{files}

### Use

1. Load an image, right-click it, choose *Open in Mask Editor*, and paint. {sample}
2. Give *Plain color* the color of the background.
3. Run. Disconnect **prior_image** to see the result of the image's own prior."""

BATCH = """## A folder of photos

Removes what is in the same place in all images of a folder: a date, a logo, dirt on the sensor. The images run one after \
another while the models stay loaded.

### Files

{files}

### Use

1. Put images of one size into a folder in ComfyUI's *input*. {sample}
2. Load a mask of that size that is white on the object.
3. Run. The saved results are unchanged except for the hole."""

VIDEO = """## Video

Removes an object that does not move in a video, like a logo. All frames are sampled as one batch and start from the same noise \
(*LatentBatchSeedBehavior*), so that the fill flickers less. The U-Net's memory grows with the number of frames: cut long \
videos (*Trim Video*).

### Files

{files}

### Use

1. Load a video. {sample}
2. Load one of its frames, right-click it, choose *Open in Mask Editor*, and paint.
3. Run. To see the frames without compression, connect *Save Image* to *Inpaint Stitch*.

For a hole that moves, connect one mask for each frame to *Inpaint Prepare*."""

HIGH_RESOLUTION = """## High resolution

For images of any size, even of many megapixels: only a crop around the hole is sampled, at the size that the model was trained \
for, and pasted back at the image's own resolution. The cost depends on the size of the hole, not of the image. The prior sees the \
same crop: raise **context** of *Inpaint Prepare* to show it more of the scene.

### Files

{files}

### Use

1. Load an image, right-click it, choose *Open in Mask Editor*, and paint. {sample}
2. Run.

**context** sets how much of the surroundings the model sees. The crop is at least as large as **resolution** if the image \
allows: here 256 pixels around a hole of 71. Holes that are far apart get separate crops (**separate_crops**). **grow** includes \
soft edges that the mask misses. The crop is shown in the middle, with the hole in gray."""

OUTPAINT = """## Outpainting

Extends an image beyond one of its borders: the new area is a hole at the edge.

### Files

{files}

### Use

1. Load an image. {sample}
2. Enter the number of pixels to add in *Pad Image for Outpainting*. Leave **feathering** at 0 to keep all known pixels.
3. Run.

It works best to extend one side at a time, by no more than half of the image. **context** 1.5 shows the model the part of the \
image next to the new area."""

DECODER_ONLY = """## Harmonizing decoder in an SD-1.5 inpainting workflow

The usual inpainting workflow with one node replaced: unlike *VAE Decode*, *Harmonizing VAE Decode* sees the known pixels and the \
mask, so that colors match at the hole's edge.

### Files

{files}

The second file has to be converted once. Download diffusion_pytorch_model.bin from \
[cross-attention/asymmetric-autoencoder-kl-x-1-5](https://huggingface.co/cross-attention/asymmetric-autoencoder-kl-x-1-5). \
Then, in custom_nodes/asuka-inpaint, with ComfyUI's Python:

```
python convert.py diffusion_pytorch_model.bin ../../models/asuka/asymmetric-vqgan-x1.5.safetensors
```

Do not load it with *Load VAE*: that node accepts the file silently but ignores the layers that make it mask-aware.

### Use

1. Load an image, right-click it, choose *Open in Mask Editor*, and paint. {sample}
2. Describe what belongs in the hole, and run."""

FLUX_FILL = """## ASUKA for FLUX.1 Fill

Paint over an object to remove it, without a prompt. It is replaced by what the rest of the image suggests. These are the weights \
that ASUKA's authors published.

### Files

{files}

The last file has to be converted once. Download everything in \
[yikaiwang/ASUKA-FLUX.1-Fill](https://huggingface.co/yikaiwang/ASUKA-FLUX.1-Fill) into a folder. Then, in \
custom_nodes/asuka-inpaint, with ComfyUI's Python:

```
python convert.py FOLDER ../../models/asuka/asuka-flux-fill.safetensors
```

### Use

1. Load an image, right-click it, choose *Open in Mask Editor*, and paint. {sample}
2. Run.

If the conversion reports that it stored the empty prompt, you can delete the two text encoder nodes.

**strength** 0.5, guidance 30, 50 steps and the shift of *ModelSamplingFlux*, which follows from the size of the crop, are the authors' \
settings."""

MAE_PREVIEW = """## What the MAE predicts for the hole

The first of ASUKA's three networks on its own: a coarse prediction from the known pixels.

### Files

{files}

The file is facebook/vit-mae-base (448 MB), exactly as downloaded. All MAEs in docs/weights.md work.

### Use

1. Load an image, right-click it, choose *Open in Mask Editor*, and paint. {sample}
2. Run.

facebook's MAEs were trained with 75 % random patches hidden, some of them with normalized patches as targets. Their predictions \
are coarser, and the colors paler, than those of a MAE that was fine-tuned for inpainting. To use one as a prior you need an \
alignment module trained for it."""

PRIOR_FROM_SPL = """## A prior from SPL

Like *Remove an object*, but *Inpaint (SPL)* first fills the hole in one pass, guided by the semantics that it predicts for the \
scene. *MAE Prior Encode* takes the prior from that image instead of predicting it, and ASUKA paints accordingly.

### Files

{files}

SPL's weights are in a separate file: here that of the demo model, otherwise a converted Places2, CelebA or Paris checkpoint.

### Use

1. Load an image, right-click it, choose *Open in Mask Editor*, and paint. {sample}
2. Run, and compare with *Remove an object*: SPL keeps textures and edges that the MAE blurs, but if SPL is wrong, so is the prior."""

REMOVE_BY_TEXT = """## Remove by text

### Files

{files}

The demo model has no text encoder: this workflow needs an SD-1.5 inpainting checkpoint and ASUKA weights trained for it. No such \
weights have been published; you can train them (training/README.md). Without them, use the mask from *Clean Mask* in any other \
inpainting workflow.

### Use

1. Load an image and write in **What goes** what to remove. {sample}
2. Run.

*DiffEdit Mask* adds noise to the image and compares the model's noise predictions for the two prompts: they differ on the object \
that the prompt describes. *Clean Mask* drops specks, fills holes and grows the mask over shadows and soft edges. The rest is as \
in *Remove an object*.

If the mask is too large, raise **threshold**; if it is too small, lower it. More words help if both prompts share them: "a dog on a \
beach" against "a beach"."""

EDIT_BY_TEXT = """## Edit by text (DiffEdit)

### Files

{files}

Any regular (non-inpainting) checkpoint works.

### Use

1. Load an image, and fill in **What is there** and **What should be there**. {sample}
2. Run.

*DiffEdit Mask* masks the area where the prompts disagree. *DDIM Invert* runs DDIM backwards from the image to noise, with the empty \
prompt. *DiffEdit Decode* denoises again, with the new prompt inside the mask and the inverted latents everywhere else. The result \
is pasted onto the image: outside the mask every pixel stays unchanged.

A higher **ratio** of *DDIM Invert* lets the edit change more."""
