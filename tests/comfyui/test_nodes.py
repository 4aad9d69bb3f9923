"""The nodes' own behaviour inside ComfyUI: batches, priors from other images, memory."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from graphs import ellipse, photo, put_image, read

from scripts.comfy_server import ROOT, Server, make_base


def decode_graph(image: list, mask: list) -> dict:
    """Prepare, encode with the stock VAE, decode with ours, stitch: no sampling, so nothing is random."""
    prepare = {"image": image, "mask": mask, "resolution": 64, "context": 1.5}
    return {
        "2": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "asuka-miniature-base.safetensors"}},
        "3": {"class_type": "ASUKA_Load", "inputs": {"file": "asuka-miniature.safetensors"}},
        "4": {"class_type": "ASUKA_InpaintPrepare", "inputs": prepare},
        "5": {"class_type": "ASUKA_MAEPriorEncode", "inputs": {"mae": ["3", 0], "image": ["4", 0], "mask": ["4", 1]}},
        "6": {"class_type": "SaveImage", "inputs": {"images": ["5", 1], "filename_prefix": "prior"}},
        "8": {"class_type": "VAEEncode", "inputs": {"pixels": ["4", 0], "vae": ["2", 2]}},
        "9": {
            "class_type": "ASUKA_HarmonizingVAEDecode",
            "inputs": {
                "decoder": ["3", 2],
                "samples": ["8", 0],
                "image": ["4", 0],
                "mask": ["4", 1],
                "keep_known": True,
            },
        },
        "10": {"class_type": "ASUKA_InpaintStitch", "inputs": {"stitch": ["4", 3], "image": ["9", 0]}},
        "11": {"class_type": "SaveImage", "inputs": {"images": ["10", 0], "filename_prefix": "stitched"}},
    }


def load(name: str) -> dict:
    return {"class_type": "LoadImage", "inputs": {"image": name}}


def as_mask(source: list) -> dict:
    return {"class_type": "ImageToMask", "inputs": {"image": source, "channel": "red"}}


def batch(a: list, b: list) -> dict:
    return {"class_type": "ImageBatch", "inputs": {"image1": a, "image2": b}}


@pytest.mark.parametrize("shape", ["2 images 1 mask", "1 image 2 masks", "2 images 2 masks"])
def test_batches_give_what_single_images_give(server: Server, shape: str):
    photos = [photo(80, 72, seed) for seed in (1, 2)]
    hole = ellipse(80, 72)
    holes = [hole, hole & ~ellipse(80, 72, 0.15)]  # with the same bounding box, so cropped alike
    for i in range(2):
        put_image(server, f"photo{i}.png", photos[i])
        put_image(server, f"hole{i}.png", np.repeat(holes[i][..., None], 3, 2).astype(np.uint8) * 255)
    sources = {"20": load("photo0.png"), "21": load("photo1.png"), "22": load("hole0.png"), "23": load("hole1.png")}
    sources |= {"24": batch(["20", 0], ["21", 0]), "25": batch(["22", 0], ["23", 0])}
    images, masks = {
        "2 images 1 mask": ("24", "22"),
        "1 image 2 masks": ("20", "25"),
        "2 images 2 masks": ("24", "25"),
    }[shape]
    together = server.run(sources | {"30": as_mask([masks, 0])} | decode_graph([images, 0], ["30", 0]))
    for i in range(2):
        image = f"2{i}" if images == "24" else "20"
        mask = f"2{2 + i}" if masks == "25" else "22"
        alone = server.run(sources | {"30": as_mask([mask, 0])} | decode_graph([image, 0], ["30", 0]))
        for node in ("6", "11"):
            a, b = read(server, together, node, i).astype(int), read(server, alone, node).astype(int)
            assert a.shape == b.shape
            assert np.abs(a - b).max() <= 1
        chosen = photos[i if images == "24" else 0], holes[i if masks == "25" else 0]
        assert np.array_equal(read(server, together, "11", i)[~chosen[1]], chosen[0][~chosen[1]])


def test_prior_image_replaces_the_photo(server: Server):
    """The prior of a prior image is the reconstruction of that image, whatever photo and mask are."""
    previews = []
    put_image(server, "other.png", photo(64, 64, 5)[::-1])
    for seed in (1, 2):
        put_image(server, "photo.png", photo(64, 64, seed), ellipse(64, 64))
        prompt = {"1": load("photo.png"), "20": load("other.png"), **decode_graph(["1", 0], ["1", 1])}
        prompt["5"]["inputs"]["prior_image"] = ["20", 0]
        previews.append(read(server, server.run(prompt), "6"))
    assert np.array_equal(*previews)


def test_decode_without_keeping_known_pixels(server: Server):
    pixels, hole = photo(72, 64), ellipse(72, 64)
    put_image(server, "photo.png", pixels, hole)
    graph = decode_graph(["1", 0], ["1", 1])
    graph["9"]["inputs"] |= {"image": ["1", 0], "mask": ["1", 1], "keep_known": False}
    graph["8"]["inputs"]["pixels"] = ["1", 0]
    graph["12"] = {"class_type": "SaveImage", "inputs": {"images": ["9", 0], "filename_prefix": "raw"}}
    prompt = {"1": load("photo.png"), **{k: graph[k] for k in ("2", "3", "8", "9", "12")}}
    raw = read(server, server.run(prompt), "12")
    assert raw.shape == pixels.shape
    assert not np.array_equal(raw[~hole], pixels[~hole])


def test_latent_from_comfyuis_own_crop(server: Server):
    """The stock VAE crops 131x133 to 128x128; the decode still returns 131x133, known pixels in place."""
    pixels, hole = photo(131, 133), ellipse(131, 133)
    put_image(server, "photo.png", pixels, hole)
    graph = decode_graph(["1", 0], ["1", 1])
    graph["9"]["inputs"] |= {"image": ["1", 0], "mask": ["1", 1]}
    graph["8"]["inputs"]["pixels"] = ["1", 0]
    graph["12"] = {"class_type": "SaveImage", "inputs": {"images": ["9", 0], "filename_prefix": "raw"}}
    prompt = {"1": load("photo.png"), **{k: graph[k] for k in ("2", "3", "8", "9", "12")}}
    result = read(server, server.run(prompt), "12")
    assert np.array_equal(result[~hole], pixels[~hole])


def test_half_precision_server(comfyui: Path, workflow: dict, tmp_path: Path):
    """The shipped workflow with bf16 U-Net and decoder; known pixels stay exact."""
    make_base(tmp_path)
    with Server(comfyui, sys.executable, tmp_path, ["--cpu", "--bf16-unet", "--bf16-vae"]) as server:
        pixels, hole = photo(120, 90), ellipse(120, 90)
        workflow["1"]["inputs"]["image"] = put_image(server, "photo.png", pixels, hole)
        workflow["8"]["inputs"]["steps"] = 2
        result = read(server, server.run(workflow), "11")
    assert np.array_equal(result[~hole], pixels[~hole])


def miniature(extension, part: str):
    """One network of the miniature, as Load ASUKA makes it."""
    parts = sys.modules["asuka_extension.asuka_modules.checkpoints"].load(ROOT / "demo" / "asuka-miniature.safetensors")
    return sys.modules["asuka_extension.nodes.networks"].Network(parts[part], torch.device("cpu"), torch.device("cpu"))


def test_running_out_of_memory_falls_back_to_tiles(extension, caplog):
    """The network itself reports no memory above a size; tiles of image and mask stay in step with the latent's."""
    decoder = miniature(extension, "decoder")
    node = sys.modules["asuka_extension.nodes.decode"].ASUKA_HarmonizingVAEDecode
    torch.manual_seed(0)
    latent, image, mask = torch.randn(2, 4, 40, 72), torch.rand(2, 320, 576, 3), torch.zeros(1, 320, 576)
    mask[:, 100:200, 150:400] = 1
    whole = node.execute(decoder, {"samples": latent}, image, mask, False).args[0]

    network, sizes = decoder.patcher.model, []
    forward = network.forward

    def limited(latent, image, mask):
        sizes.append(tuple(latent.shape[-2:]))
        if latent.shape[-2] * latent.shape[-1] > 32 * 32:
            raise torch.OutOfMemoryError("pretended")
        assert image.shape[-2:] == mask.shape[-2:] == (8 * latent.shape[-2], 8 * latent.shape[-1])
        return forward(latent, image, mask)

    network.forward = limited
    tiled = node.execute(decoder, {"samples": latent}, image, mask, False).args[0]
    assert [record.getMessage().split(", ")[1] for record in caplog.records] == [
        "decoding in tiles of 512 pixels instead",
        "decoding in tiles of 256 pixels instead",
    ]
    assert sizes[:2] == [(40, 72), (40, 64)]
    assert max(h * w for h, w in sizes[2:]) == 32 * 32  # the second image is not tried otherwise again
    known = (mask == 0).unsqueeze(-1)
    assert ((tiled - whole).abs() * known).mean() < 0.02  # tiles differ by their normalisation alone


def test_seam_is_closed_where_known_pixels_are_kept(extension):
    """Colours of noise beside two smooth photos: closed, they meet each photo along the edge, which was decoded from the
    latent, too."""
    decoder, holes = miniature(extension, "decoder"), []
    decoder.patcher.model.register_forward_pre_hook(lambda _, inputs: holes.append(int(inputs[2].sum())))
    node = sys.modules["asuka_extension.nodes.decode"].ASUKA_HarmonizingVAEDecode
    torch.manual_seed(0)
    tints = torch.tensor([[0.3, 0.4, 0.7], [0.7, 0.6, 0.2]])[:, None, None]
    image, mask = torch.linspace(0.6, 1, 131)[:, None] * tints, torch.zeros(1, 120, 131)
    image = image.expand(2, 120, 131, 3)
    mask[:, 30:90, 40:100] = 1
    arguments = decoder, {"samples": torch.randn(2, 4, 15, 17)}, image, mask
    left, closed = (node.execute(*arguments, True, close_seam=close).args[0] for close in (False, True))
    known = mask[0] == 0
    assert torch.equal(closed[:, known], image[:, known])
    for y, beside in ((30, 29), (89, 90)):
        steps = [(result[:, y, 40:100] - result[:, beside, 40:100]).abs().mean((1, 2)) for result in (closed, left)]
        assert (steps[0] < 0.4 * steps[1]).all()
    raw = [node.execute(*arguments, False, close_seam=close).args[0] for close in (False, True)]
    assert torch.equal(*raw)
    assert holes == [60 * 60] * 2 + [72 * 72] * 2 + [60 * 60] * 4


def test_only_the_hole_is_decoded(extension):
    """The network never sees the whole image; known pixels are unchanged, and a batch is its images."""
    decoder = miniature(extension, "decoder")
    decoder.patcher.model.register_forward_pre_hook(lambda *_: pytest.fail("decoded as a whole"))
    node = sys.modules["asuka_extension.nodes.decode"].ASUKA_HarmonizingVAEDecode
    torch.manual_seed(0)
    latent, image, mask = torch.randn(2, 4, 32, 32), torch.rand(2, 256, 256, 3), torch.zeros(1, 256, 256)
    mask[:, 90:150, 80:130] = 1
    together = node.execute(decoder, {"samples": latent}, image, mask, True, True, True).args[0]
    alone = node.execute(decoder, {"samples": latent[1:]}, image[1:], mask, True, True, True).args[0]
    assert torch.equal(together[1:], alone)
    assert torch.equal(together[:, mask[0] == 0], image[:, mask[0] == 0])
    assert not torch.equal(together, image)


def test_conditioning(extension):
    """Positive and negative are as long as the prior, or at strength 0 the base as it is; strength mixes in the base, whose
    options travel along."""
    alignment = miniature(extension, "alignment")
    node = sys.modules["asuka_extension.nodes.align"].ASUKA_AlignConditioning
    prior = torch.randn(2, 256, alignment.config.prior_dim)
    base = [[torch.randn(1, 77, 768), {"pooled_output": torch.zeros(1, 768)}]]
    results = {strength: node.execute(alignment, prior, strength, base).args for strength in (0.0, 0.5, 1.0)}
    for strength, (positive, negative) in results.items():
        if strength:
            assert positive[0][0].shape == (2, 256, 768)
            assert negative[0][0].shape == (1, 256, 768)
        assert positive[0][1].keys() == negative[0][1].keys() == {"pooled_output"}
    context, empty = results[1.0][0][0][0], results[1.0][1][0][0]
    assert all(torch.equal(conditioning[0][0], base[0][0]) for conditioning in results[0.0])
    torch.testing.assert_close(results[0.5][0][0][0], (context + empty) / 2)
    with pytest.raises(ValueError, match=r"base has width 1024 but the context of .* has 768"):
        node.execute(alignment, prior, 0.5, [[torch.zeros(1, 77, 1024), {}]])
    with pytest.raises(ValueError, match="batch sizes differ: 3 of base but 2 of prior"):
        node.execute(alignment, prior, 0.5, [[torch.zeros(3, 77, 768), {}]])
    with pytest.raises(ValueError, match="base holds 2 combined conditionings; expected one"):
        node.execute(alignment, prior, 0.5, base * 2)
    with pytest.raises(ValueError, match="the prior has width 7"):
        node.execute(alignment, prior[..., :7], 1.0)


def test_batches_are_not_copied(extension):
    """A view of the batch, and of a frame in it, until its hole is hidden."""
    nodes = sys.modules["asuka_extension.nodes"]
    image, mask = torch.rand(3, 16, 24, 3), torch.zeros(1, 16, 24)
    mask[:, 2:5] = 1
    found, hole = nodes.tensors.image_and_hole(image, mask)
    assert found.untyped_storage().data_ptr() == image.untyped_storage().data_ptr()
    assert hole.shape == (3, 1, 16, 24)
    window = nodes.window.Window((16, 24), (2, 3), 8)
    assert window.cut(found).data_ptr() == window.back(found).data_ptr() == image.data_ptr()
    hidden, masks = nodes.tensors.hide(found, hole)
    for a, b in zip((hidden, masks), nodes.tensors.inpaint_inputs(image, mask), strict=True):
        assert torch.equal(a, b)
    assert (hidden[:, :, 2:5] == 0.5).all()


def test_known_pixels_of_every_image_must_be_numbers(extension):
    image, mask = torch.rand(3, 8, 8, 3), torch.zeros(1, 8, 8)
    mask[:, 2:5], image[2, 3] = 1, torch.nan
    tensors = sys.modules["asuka_extension.nodes.tensors"]
    tensors.image_and_hole(image, mask)  # in the hole it does not matter
    image[2, 7, 7, 1] = -torch.inf
    with pytest.raises(ValueError, match="the image holds values that are not numbers"):
        tensors.image_and_hole(image, mask)


def test_grey_image_of_one_channel(extension):
    tensors = sys.modules["asuka_extension.nodes.tensors"]
    grey, mask = torch.rand(1, 8, 8, 1), torch.zeros(1, 8, 8)
    mask[:, 2:5] = 1
    found, _ = tensors.inpaint_inputs(grey, mask)
    expected, _ = tensors.inpaint_inputs(grey.expand(-1, -1, -1, 3), mask)
    assert torch.equal(found, expected)


def test_grey_photo_is_stitched(extension):
    nodes = sys.modules["asuka_extension.nodes"]
    grey, mask = torch.rand(1, 64, 64, 1), torch.zeros(1, 64, 64)
    mask[:, 20:30, 20:30] = 1
    crop, *_, stitch = nodes.prepare.ASUKA_InpaintPrepare.execute(grey, mask, resolution=64, context=1.0).args
    result = nodes.stitch.ASUKA_InpaintStitch.execute(stitch, torch.zeros_like(crop)).args[0]
    assert torch.equal(result, (grey * (1 - mask.unsqueeze(-1))).expand(-1, -1, -1, 3))


def test_mask_that_is_no_number(extension):
    mask = torch.zeros(1, 8, 8)
    mask[:, 2:5], mask[:, 6] = 1, torch.nan
    with pytest.raises(ValueError, match="the mask holds values that are not numbers"):
        sys.modules["asuka_extension.nodes.tensors"].inpaint_inputs(torch.rand(1, 8, 8, 3), mask)


def test_replaced_weights_are_noticed(extension, tmp_path, monkeypatch):
    """Also when the new file has the time of the old one."""
    import folder_paths

    node = sys.modules["asuka_extension.nodes.load"].ASUKA_Load
    monkeypatch.setattr(folder_paths, "get_full_path", lambda folder, file: str(tmp_path / file))
    (tmp_path / "a").write_bytes(b"old")
    before = node.fingerprint_inputs("a")
    assert node.fingerprint_inputs("a") == before
    (tmp_path / "b").write_bytes(b"newer")
    stat = os.stat(tmp_path / "a")
    os.utime(tmp_path / "b", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert node.fingerprint_inputs("b") != before
    os.utime(tmp_path / "a", ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert node.fingerprint_inputs("a") != before


def test_weights_load_where_layers_begin_without(extension, monkeypatch):
    """On NVIDIA ComfyUI's linear layers have no weights before these are loaded (DynamicVRAM)."""
    import comfy.memory_management
    import comfy.ops

    monkeypatch.setattr(comfy.memory_management, "aimdo_enabled", True)
    if comfy.ops.manual_cast.Linear(2, 2).weight is not None:
        pytest.skip("this ComfyUI's layers begin with weights")
    checkpoints = sys.modules["asuka_extension.asuka_modules.checkpoints"]
    for name, part in checkpoints.load(ROOT / "demo" / "asuka-miniature.safetensors").items():
        found, expected = (part.build(operations).state_dict() for operations in (comfy.ops.manual_cast, torch.nn))
        assert found.keys() == expected.keys(), name
        assert all(torch.equal(found[key], expected[key]) for key in expected)
    lazy, image, mask = miniature(extension, "mae"), torch.rand(1, 3, 256, 256), torch.zeros(1, 1, 256, 256)
    mask[..., 60:200, 60:200] = 1
    monkeypatch.undo()
    found, expected = (mae.load(0).decoder_features(image, mask) for mae in (lazy, miniature(extension, "mae")))
    assert torch.equal(found, expected)


def test_networks_tell_comfyuis_cache_of_themselves(extension):
    networks = sys.modules["asuka_extension.nodes.networks"]
    mae, alignment = miniature(extension, "mae"), miniature(extension, "alignment")
    assert mae.get_models() == []
    alignment.pooled = mae
    assert alignment.get_models() == [mae.patcher]
    assert mae.is_dynamic() == mae.patcher.is_dynamic()
    assert networks.Missing("spl", "file", "mae").is_dynamic()


def test_mask_with_a_channel(extension):
    """(B, 1, H, W) or (B, H, W, 1), as some nodes return masks; of several channels nobody knows which one is meant."""
    tensors = sys.modules["asuka_extension.nodes.tensors"]
    image, mask = torch.rand(2, 8, 8, 3), torch.zeros(2, 8, 8)
    mask[:, 2:5] = 1
    for other in (mask[:, None], mask[..., None]):
        for a, b in zip(tensors.inpaint_inputs(image, mask), tensors.inpaint_inputs(image, other), strict=True):
            assert torch.equal(a, b)
    with pytest.raises(
        ValueError, match=r"the mask is \(2, 3, 8, 8\), expected \(batch, height, width\); take one channel"
    ):
        tensors.inpaint_inputs(image, mask[:, None].expand(2, 3, 8, 8))


def test_grey_image_with_alpha(extension):
    tensors = sys.modules["asuka_extension.nodes.tensors"]
    image = torch.rand(1, 8, 8, 2)
    assert torch.equal(tensors.image_to_nchw(image), image[..., 0].unsqueeze(1).expand(1, 3, 8, 8))


def test_linked_file_is_looked_for_when_it_is_known(extension):
    """ComfyUI validates with None for what a link will bring."""
    load = sys.modules["asuka_extension.nodes.load"].ASUKA_Load
    assert load.validate_inputs(file=None) is True
    assert load.fingerprint_inputs(file=None) is None


def test_comfyui_keeps_its_own_nodes_module(extension):
    import nodes

    assert Path(nodes.__file__).name == "nodes.py"
    assert hasattr(nodes, "KSampler")
    assert Path(sys.modules["asuka_extension.nodes"].__file__).parent.name == "nodes"


def test_every_input_and_output_has_a_tooltip(server: Server):
    ours = {k: v for k, v in server.get("/object_info").items() if k.startswith("ASUKA_")}
    assert ours
    for name, info in ours.items():
        inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
        assert all(spec[1].get("tooltip") for spec in inputs.values()), name
        assert all(info["output_tooltips"]), name
        assert info["description"]
        assert info["search_aliases"]


def test_model_folder_that_cannot_be_made_is_reported(extension, monkeypatch, tmp_path, caplog):
    """As on a read-only disk; nodes still load."""
    import folder_paths

    (tmp_path / "asuka").write_text("a file in its way")
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path))
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", {})
    sys.modules["asuka_extension.nodes.load"].register_model_folder()
    assert f"could not prepare {tmp_path / 'asuka'}" in caplog.text
