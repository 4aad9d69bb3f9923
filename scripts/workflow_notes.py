"""What the notes in the shipped workflows say."""

REMOVE_OBJECT = """## Remove an object

Paint over something: it is replaced by what the rest of the photo suggests, without a prompt.

### Files

{files}

This is the *miniature*, for trying things out at 256 pixels. With an SD-1.5 inpainting checkpoint and weights trained for \
it (training/README.md), set **resolution** to 512.

### Use

1. Load a photo; right-click it, *Open in Mask Editor*, paint. {sample}
2. Run.

### What happens

*Inpaint Prepare* crops around the hole and empties it. *MAE Prior Encode* reads from the rest what belongs there. *ASUKA \
Align Conditioning* tells it to the U-Net in place of a prompt. *Harmonizing VAE Decode* makes the colours meet. *Inpaint \
Stitch* puts the result back: everything outside of the hole stays exactly as it was."""

WITHOUT_TRAINING = """## Remove an object without training

For an SD-1.5 inpainting checkpoint, without any weights of ASUKA's own: a published MAE predicts what belongs in the hole, and \
*MAE Prior Guidance* keeps the low frequencies of what the model paints close to that prediction.

### Files

{files}

The second file is facebook/vit-mae-base (448 MB), exactly as downloaded. MAE-FAR's Places2 MAE knows scenes better; it has to be \
converted once (docs/weights.md).

### Use

1. Load a photo; right-click it, *Open in Mask Editor*, paint. {sample}
2. Run.

If the result shows a new object, raise **strength** or **until** of *MAE Prior Guidance*, or lower **detail**. If it is too soft, do \
the opposite.

For fewer color seams load an Asymmetric VQGAN decoder (docs/weights.md) with *Load ASUKA*, and replace *VAE Decode* with \
*Harmonizing VAE Decode*."""

COMPARE = """## ASUKA against plain Stable Diffusion

The same photo, checkpoint, seed and sampler twice. Above: the empty prompt and the stock *VAE Decode*. Below: the MAE prior \
in place of the prompt, and the *Harmonizing VAE Decode*. Left in the result is plain, right is ASUKA.

### Files

{files}

### Use

1. Load a photo; right-click it, *Open in Mask Editor*, paint. {sample}
2. Run, and change both seeds together to see what depends on luck.

With the files above, plain is the miniature's base model. Choose an SD-1.5 inpainting checkpoint, and weights trained for it, \
to compare with Stable Diffusion. Look at the colours at the hole's edge, too."""

PRIOR_IMAGE = """## Prior from another image

Where a photo shows several objects alike, the MAE expects one more of them in the hole. Here the prior comes from a blank \
sheet in place of the photo, so that nothing else is expected than that colour: connect anything to **prior_image**, \
also a photo of the place without the object.

### Files

{files}

### Use

1. Load a photo; right-click it, *Open in Mask Editor*, paint. {sample}
2. Give the blank sheet the colour of the background.
3. Run. Without **prior_image** (unplug it) you see what the photo's own prior gives."""

BATCH = """## A folder of photos

Removes what is in the same place in every photo: a date, a logo, dirt on the sensor. The photos run one after another, \
the models stay loaded.

### Files

{files}

### Use

1. Put photos of one size into a folder in ComfyUI's *input*. {sample}
2. Load a mask of that size, white where the thing is.
3. Run. Each result is saved as it came in, but for the hole."""

VIDEO = """## Video

Removes what stands still in a video, like a logo. All frames are sampled as one batch and start from the same noise \
(*LatentBatchSeedBehavior*), so that the filling flickers less. Memory for the U-Net grows with the number of frames: cut \
long videos (*Trim Video*).

### Files

{files}

### Use

1. Load a video. {sample}
2. Load one of its frames; right-click it, *Open in Mask Editor*, paint.
3. Run. To look at single frames before they are compressed, connect *Save Image* to *Inpaint Stitch*.

For a hole that moves, connect one mask for each frame to *Inpaint Prepare*."""

HIGH_RESOLUTION = """## High resolution

A photo of any size, also of many megapixels: only a crop around the hole is sampled, at the size that the model was trained \
for, and put back at the photo's own. It costs what the hole costs. The prior reads the same crop: raise **context** of \
*Inpaint Prepare* to show it more of the scene.

### Files

{files}

### Use

1. Load a photo; right-click it, *Open in Mask Editor*, paint. {sample}
2. Run.

**context** sets how much of the surroundings the model sees. The crop is never smaller than **resolution** where the photo \
allows: here 256 pixels around a hole of 71. Holes far apart get crops of their own (**separate_crops**). **grow** takes in soft edges that the mask misses. The crop is shown in the middle, with the hole in grey."""

OUTPAINT = """## Outpainting

Makes a photo larger on one side: the new area is nothing but a hole at the edge.

### Files

{files}

### Use

1. Load a photo. {sample}
2. Say by how many pixels it is to grow in *Pad Image for Outpainting*. Leave **feathering** at 0: what is known stays.
3. Run.

One side at a time works best, by no more than half of the photo. **context** 1.5 shows the model the part of the photo \
next to the new area."""

DECODER_ONLY = """## Harmonizing decoder in a stock SD-1.5 graph

The usual inpainting graph, with one node exchanged: *Harmonizing VAE Decode* in place of *VAE Decode* also sees the known \
pixels and the mask, so that colours meet at the hole's edge.

### Files

{files}

You make the second one yourself, once. Download diffusion_pytorch_model.bin from \
[cross-attention/asymmetric-autoencoder-kl-x-1-5](https://huggingface.co/cross-attention/asymmetric-autoencoder-kl-x-1-5). \
Then, in custom_nodes/asuka-inpaint, with ComfyUI's Python:

```
python convert.py diffusion_pytorch_model.bin ../../models/asuka/asymmetric-vqgan-x1.5.safetensors
```

Do not load it with *Load VAE*: that node takes such files without a word and drops what makes them mask-aware.

### Use

1. Load a photo; right-click it, *Open in Mask Editor*, paint. {sample}
2. Say what belongs in the hole, and run."""

FLUX_FILL = """## ASUKA for FLUX.1 Fill

Paint over something: it is replaced by what the rest of the photo suggests, without a prompt. These are the weights that \
ASUKA's authors published.

### Files

{files}

You make the last one yourself, once. Download everything in \
[yikaiwang/ASUKA-FLUX.1-Fill](https://huggingface.co/yikaiwang/ASUKA-FLUX.1-Fill) into a folder. Then, in \
custom_nodes/asuka-inpaint, with ComfyUI's Python:

```
python convert.py FOLDER ../../models/asuka/asuka-flux-fill.safetensors
```

### Use

1. Load a photo; right-click it, *Open in Mask Editor*, paint. {sample}
2. Run.

If the conversion reports that it stored the empty prompt, delete the two text encoder nodes: they are not needed then.

**strength** 0.5, guidance 30, 50 steps and the shift of *ModelSamplingFlux*, which follows from the size of the crop, are the authors' \
settings."""

MAE_PREVIEW = """## What the MAE expects in the hole

The first of ASUKA's three networks on its own: a coarse guess, from the known pixels alone.

### Files

{files}

The file is facebook/vit-mae-base (448 MB), as it is. Any MAE in docs/weights.md will do.

### Use

1. Load a photo; right-click it, *Open in Mask Editor*, paint. {sample}
2. Run.

facebook's MAEs were trained on 75 % random holes, some of them on patches of normalised contrast: the guess is rougher, and \
its colours paler, than that of a MAE fine-tuned for inpainting. As a prior they need an alignment module trained for them."""

PRIOR_FROM_SPL = """## A prior from SPL

As *Remove an object*, but *Inpaint (SPL)* first fills the hole in one pass, guided by its guess of what the scene holds. \
*MAE Prior Encode* reads the prior from that picture instead of predicting it itself, and ASUKA paints after it.

### Files

{files}

SPL's weights are a file of their own: here the miniature's, otherwise a converted Places2, CelebA or Paris checkpoint.

### Use

1. Load a photo; right-click it, *Open in Mask Editor*, paint. {sample}
2. Run, and compare with the quick start: SPL sees textures and edges that the MAE blurs; where SPL goes wrong, so does the \
prior."""

REMOVE_BY_TEXT = """## Remove by text

### Files

{files}

The miniature has no text encoder: this needs an SD-1.5 inpainting checkpoint, and in *Load ASUKA* weights trained for it. \
Nobody has published these: you train them (training/README.md). Without them, take the mask from *Clean Mask* to any \
inpainting graph.

### Use

1. Load a photo and write in **What goes** what should go. {sample}
2. Run.

*DiffEdit Mask* noises the photo and compares what the model makes of it with the two prompts: where they disagree is what \
the prompt is about. *Clean Mask* drops specks, fills holes and grows the mask over shadows and soft edges. The rest is as \
in *Remove an object*.

Too much in the mask: raise **threshold**; too little: lower it. More words help when both prompts share them: "a dog on a \
beach" against "a beach"."""

EDIT_BY_TEXT = """## Edit by text (DiffEdit)

### Files

{files}

Any checkpoint that is not for inpainting will do.

### Use

1. Load a photo; write in **What is there** and in **What should be there**. {sample}
2. Run.

*DiffEdit Mask* finds where the prompts disagree. *DDIM Invert* follows the picture back to noise with the empty prompt. \
*DiffEdit Decode* comes back with the new prompt under the mask, and the same way everywhere else. What it made is \
pasted onto the photo: outside of the mask every pixel stays as it was.

**ratio** of *DDIM Invert*: more lets the edit change more."""
