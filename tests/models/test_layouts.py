"""Published checkpoint formats: each is recognized, has its size read, and computes what an independent implementation of it computes."""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from diffusers import AsymmetricAutoencoderKL, AutoencoderKL
from safetensors.torch import load_file, save_file
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import Block as TimmBlock
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from asuka_modules import checkpoints, layouts
from asuka_modules.alignment import AlignmentConfig
from asuka_modules.decoder import BASE, FLUX, LARGE, LARGE2, DecoderConfig
from asuka_modules.mae import MAE, VIT_B, VIT_L, MAEConfig
from asuka_modules.weight_file import CheckpointError

SIZES = {"1x": ((128, 256, 512, 512), 2), "1.5x": ((192, 384, 768, 768), 3), "2x": ((256, 512, 1024, 1024), 5)}


def random_weights(shapes: dict[str, tuple[int, ...]], seed: int = 0, scale: float = 1.0) -> dict[str, Tensor]:
    """Matrices and kernels that keep a signal's size, scales around 1, small offsets."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in shapes.items():
        value = torch.randn(shape, generator=generator)
        if len(shape) > 1:
            value = value * scale / math.sqrt(math.prod(shape[1:]))
        else:
            value = value * 0.1 + (name.endswith(("weight", "scale")))
        weights[name] = value
    return weights


def shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}


def read(tensors: dict[str, Tensor], tmp_path) -> checkpoints.Part:
    """What Load ASUKA finds in a file with these tensors."""
    save_file({key: value.contiguous() for key, value in tensors.items()}, tmp_path / "published.safetensors")
    (part,) = checkpoints.load(tmp_path / "published.safetensors").values()
    return part


# Decoders


def asymmetric(channels: tuple[int, ...], layers: int) -> AsymmetricAutoencoderKL:
    return AsymmetricAutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        down_block_out_channels=(32,) * 4,  # the encoder is not used
        layers_per_down_block=1,
        up_block_types=("UpDecoderBlock2D",) * 4,
        up_block_out_channels=channels,
        layers_per_up_block=layers,
        latent_channels=4,
        norm_num_groups=32,
    ).eval()


def to_ldm(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """diffusers' decoder under LDM's names, as Asymmetric VQGAN and FLUX were published."""
    renamed = {}
    for key, value in tensors.items():
        path = key.split(".")
        if path[0] != "decoder":
            renamed[key] = value
            continue
        parameter = path[-1]
        match path[1:-1]:
            case ["condition_encoder", "layers", i]:
                name = f"encoder.layers.{i}"
            case ["up_blocks", i, "resnets", j, layer]:
                name = f"up.{3 - int(i)}.block.{j}.{layer}"
            case ["up_blocks", i, "upsamplers", "0", "conv"]:
                name = f"up.{3 - int(i)}.upsample.conv"
            case ["mid_block", "resnets", i, layer]:
                name = f"mid.block_{int(i) + 1}.{layer}"
            case ["mid_block", "attentions", "0", *layer]:
                ldm = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
                name = f"mid.attn_1.{ldm['.'.join(layer)]}"
                value = value.view(*value.shape, 1, 1) if value.ndim == 2 else value
            case ["conv_norm_out"]:
                name = "norm_out"
            case [name]:
                pass
        renamed[f"decoder.{name.replace('conv_shortcut', 'nin_shortcut')}.{parameter}"] = value
    return renamed


def training_leftovers() -> dict[str, Tensor]:
    """What the published checkpoints hold beside the decoder."""
    return {
        "loss.logvar": torch.zeros(()),
        "loss.discriminator.main.0.weight": torch.zeros(64, 3, 4, 4),
        "decoder.up_layers.0.deconv.weight": torch.zeros(32, 32, 4, 4),
    }


def inputs(latent_channels: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    latent = torch.randn(2, latent_channels, 4, 6, generator=generator) * 3
    image = torch.rand(2, 3, 32, 48, generator=generator)
    mask = torch.zeros(2, 1, 32, 48)
    mask[0, :, 5:19, 3:24] = 1  # off the grid of latent cells
    mask[1, :, 11, 13] = 1
    return latent, image, mask


@pytest.mark.parametrize("layout", ["diffusers", "LDM"])
@torch.no_grad()
def test_asymmetric_vqgan(layout, tmp_path):
    reference = asymmetric((32, 64, 128, 128), 2)
    reference.load_state_dict(random_weights(shapes(reference)))
    tensors = reference.state_dict()
    part = read(tensors if layout == "diffusers" else to_ldm(tensors) | training_leftovers(), tmp_path)
    assert (part.name, part.config) == ("decoder", DecoderConfig(ch=32))
    assert {key.split(".")[0] for key in part.ignored_keys} >= {"encoder", "quant_conv"}
    latent, image, mask = inputs(4)
    expected = reference.decode(latent, image=image * 2 - 1, mask=mask).sample / 2 + 0.5
    assert expected.std() > 0.05
    assert (part.build()(latent, image, mask) - expected).abs().max() <= 1e-4


@pytest.mark.parametrize(("size", "config"), [("1x", BASE), ("1.5x", LARGE), ("2x", LARGE2)])
def test_published_decoder_sizes(size, config):
    with torch.device("meta"):
        tensors = asymmetric(*SIZES[size]).state_dict()
    for published in (tensors, to_ldm(tensors)):
        part = checkpoints.recognize(published, "published")
        assert part.config == config
        part.build(device="meta")


def reference_decode(w: dict[str, Tensor], latent: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """ASUKA-FLUX's decoder spelled out on the published names; image and result in [-1, 1]."""

    def conv(name: str, x: Tensor, **how) -> Tensor:
        return F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], **how)

    def norm(name: str, x: Tensor) -> Tensor:
        return F.group_norm(x, 32, w[f"{name}.weight"], w[f"{name}.bias"], 1e-6)

    def res(name: str, x: Tensor) -> Tensor:
        h = norm(f"{name}.norm1", x)
        h = conv(f"{name}.conv1", h * h.sigmoid(), padding=1)
        h = norm(f"{name}.norm2", h)
        h = conv(f"{name}.conv2", h * h.sigmoid(), padding=1)
        return h + (conv(f"{name}.nin_shortcut", x) if f"{name}.nin_shortcut.weight" in w else x)

    def attention(name: str, x: Tensor) -> Tensor:
        q, k, v = (conv(f"{name}.{part}", norm(f"{name}.norm", x)).flatten(2) for part in "qkv")
        weights = torch.softmax(q.mT @ k / math.sqrt(q.shape[1]), dim=-1)
        return x + conv(f"{name}.proj_out", (v @ weights.mT).view(x.shape))

    known, x = [], torch.cat([(1 - mask) * image, mask], 1)
    for i in range(5):
        x = conv(f"decoder.encoder.layers.{i}", x, **({"padding": 1} if i < 2 else {"padding": 1, "stride": 2}))
        known.append(x)
        x = x.clamp_min(0)
    h = conv("decoder.conv_in", latent, padding=1)
    h = res("decoder.mid.block_2", attention("decoder.mid.attn_1", res("decoder.mid.block_1", h)))
    for level in (3, 2, 1, 0):
        hole = F.adaptive_avg_pool2d(mask, h.shape[-2:]).gt(0).float()  # any touched cell
        h = h * hole + known[level + 1] * (1 - hole)
        for block in range(3):
            h = res(f"decoder.up.{level}.block.{block}", h)
        if level:
            h = h.repeat_interleave(2, -1).repeat_interleave(2, -2)
            h = conv(f"decoder.up.{level}.upsample.conv", h, padding=1)
    h = norm("decoder.norm_out", h * mask + known[0] * (1 - mask))
    return conv("decoder.conv_out", h * h.sigmoid(), padding=1)


@torch.no_grad()
def test_flux_decoder(tmp_path):
    """Four-channel condition, area-reduced mask, no quant convolutions."""
    trunk = flux_autoencoder()
    tensors = to_ldm(random_weights(shapes(trunk)))
    widths = [4, 32, 64, 128, 128, 128]
    condition = {
        f"decoder.encoder.layers.{i}.{p}": (b, a, *([3 if i < 2 else 4] * 2)) if p == "weight" else (b,)
        for i, (a, b) in enumerate(pairwise(widths))
        for p in ("weight", "bias")
    }
    tensors |= random_weights(condition, seed=1, scale=1.4)
    part = read(tensors | training_leftovers(), tmp_path)
    assert part.config == DecoderConfig(32, (1, 2, 4, 4), 3, 16, False, True, "area")
    decoder = part.build()
    latent, image, mask = inputs(16)
    expected = reference_decode(tensors, latent, image * 2 - 1, mask) / 2 + 0.5
    assert expected.std() > 0.05
    assert (decoder(latent, image, mask) - expected).abs().max() <= 1e-4

    trunk.load_state_dict(random_weights(shapes(trunk)))
    expected = trunk.decode(latent).sample / 2 + 0.5  # a mask of ones leaves FLUX's own decoder
    assert (decoder(latent, image, torch.ones_like(mask)) - expected).abs().max() <= 1e-4


def flux_autoencoder(channels: tuple[int, ...] = (32, 64, 128, 128)) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=channels,
        layers_per_block=2,
        latent_channels=16,
        use_quant_conv=False,
        use_post_quant_conv=False,
    ).eval()


def test_published_flux_decoder_size():
    with torch.device("meta"):
        tensors = to_ldm(flux_autoencoder((128, 256, 512, 512)).state_dict())
        for i, (a, b) in enumerate([(4, 128), (128, 256), (256, 512), (512, 512), (512, 512)]):
            layer = nn.Conv2d(a, b, 3 if i < 2 else 4)
            tensors |= {f"decoder.encoder.layers.{i}.{key}": value for key, value in layer.state_dict().items()}
    part = checkpoints.recognize(tensors, "published")
    assert part.config == FLUX
    part.build(device="meta")


# MAEs


def vit_mae(width: int, depth: int, heads: int, image_size: int = 224, patch_size: int = 16) -> ViTMAEForPreTraining:
    config = ViTMAEConfig(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        image_size=image_size,
        patch_size=patch_size,
        layer_norm_eps=1e-6,  # facebook's; transformers' configs say 1e-12
    )
    assert (config.decoder_hidden_size, config.decoder_num_attention_heads) == (512, 16)
    return ViTMAEForPreTraining(config).eval()


def to_facebook(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """transformers' ViTMAE as it is saved, under facebook's names."""
    renamed = {}
    for key, value in tensors.items():
        path = key.replace("decoder.decoder_encoder.layer", "decoder.decoder_layers").split(".")
        match path:
            case ["vit", "encoder", "layer", i, *layer] | ["decoder", "decoder_layers", i, *layer]:
                blocks = "blocks" if path[0] == "vit" else "decoder_blocks"
                layer, parameter = ".".join(layer[:-1]), layer[-1]
                if layer == "attention.attention.query":
                    value = torch.cat([tensors[key.replace("query", part)] for part in ("query", "key", "value")])
                elif layer.startswith("attention.attention."):
                    continue
                name = {
                    "layernorm_before": "norm1",
                    "layernorm_after": "norm2",
                    "attention.attention.query": "attn.qkv",
                    "attention.output.dense": "attn.proj",
                    "intermediate.dense": "mlp.fc1",
                    "output.dense": "mlp.fc2",
                }[layer]
                renamed[f"{blocks}.{i}.{name}.{parameter}"] = value
            case ["vit", "embeddings", "patch_embeddings", "projection", parameter]:
                renamed[f"patch_embed.proj.{parameter}"] = value
            case ["vit", "embeddings", name]:
                renamed[{"position_embeddings": "pos_embed"}.get(name, name)] = value
            case ["vit", "layernorm", parameter]:
                renamed[f"norm.{parameter}"] = value
            case ["decoder", *rest]:
                renamed[".".join(rest)] = value
    return renamed


@pytest.mark.parametrize("layout", ["transformers 4", "transformers 5", "transformers 5 in memory", "facebook"])
@torch.no_grad()
def test_facebooks_mae(layout, tmp_path):
    """224 pixels with class token, on the 256-pixel grid: the encoder as transformers interpolates it, and the whole
    network as transformers computes it at 256 from position embeddings that timm resampled."""
    published = vit_mae(768, 2, 12)
    published.load_state_dict(random_weights(shapes(published), scale=1.5))
    published.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    assert any(key.startswith("decoder.decoder_encoder.") for key in tensors), "transformers writes other names now"
    if layout == "transformers 4":
        tensors = {key.replace("decoder_encoder.layer", "decoder_layers"): value for key, value in tensors.items()}
    if layout == "transformers 5 in memory":
        tensors = published.state_dict()
        assert "vit.layers.0.attention.q_proj.weight" in tensors, "transformers has other names now"
    part = read(to_facebook(tensors) if layout == "facebook" else tensors, tmp_path)
    assert part.config == MAEConfig(embed_dim=768, depth=2, num_heads=12, class_token=True)
    mae = part.build()

    image = torch.randn(2, 3, 256, 256, generator=torch.Generator().manual_seed(2))
    noise = torch.rand(2, 256, generator=torch.Generator().manual_seed(3))
    hidden = noise.argsort(1).argsort(1) >= 64
    at_256 = vit_mae(768, 2, 12, image_size=256)
    weights = published.state_dict()
    for key in ("vit.embeddings.position_embeddings", "decoder.decoder_pos_embed"):
        weights[key] = resample_abs_pos_embed(weights[key], [16, 16], antialias=False)
    at_256.load_state_dict(weights)
    expected = at_256(image, noise=noise).logits
    assert expected.std() > 0.1
    found = mae(image, torch.zeros(2, 1, 256, 256), hidden)
    assert (found - expected).abs().max() <= 1e-4

    encoded = published.vit(image, noise=noise, interpolate_pos_encoding=True)
    tokens, indices, _ = mae.encode(image, hidden)
    in_place = torch.zeros(2, 256, 768).scatter(1, indices[..., None].expand(-1, -1, 768), tokens[:, 1:])
    order = encoded.ids_restore.argsort(1)[:, :64, None].expand(-1, -1, 768)
    assert (in_place.gather(1, order) - encoded.last_hidden_state[:, 1:]).abs().max() <= 1e-4


@pytest.mark.parametrize(
    ("width", "depth", "heads", "patch_size"), [(768, 12, 12, 16), (1024, 24, 16, 16), (1280, 32, 16, 14)]
)
def test_published_mae_sizes(width, depth, heads, patch_size):
    with torch.device("meta"):
        reference = vit_mae(width, depth, heads, patch_size=patch_size)
    saved = {}
    for key, value in reference.state_dict().items():  # as transformers 4 wrote them
        key = key.replace("vit.layers", "vit.encoder.layer")
        for new, old in {"q_proj": "query", "k_proj": "key", "v_proj": "value"}.items():
            key = key.replace(f"attention.{new}", f"attention.attention.{old}")
        key = key.replace("attention.o_proj", "attention.output.dense")
        saved[key.replace("mlp.fc1", "intermediate.dense").replace("mlp.fc2", "output.dense")] = value
    for published in (saved, to_facebook(saved)):
        part = checkpoints.recognize(published, "published")
        c = part.config
        assert (c.embed_dim, c.depth, c.num_heads, c.image_size, c.grid) == (width, depth, heads, 16 * patch_size, 16)
        part.build(device="meta")


@pytest.mark.parametrize("fine_tuned", [False, True])
@torch.no_grad()
def test_mae_far(fine_tuned, tmp_path):
    """No class token; fine-tuned: patches that are partly hole embed their known pixels."""
    config = MAEConfig(embed_dim=768, depth=2, num_heads=12, partial_patches=fine_tuned)
    tensors = random_weights(shapes(MAE(config)), scale=1.5)
    if fine_tuned:
        tensors["alpha"] = torch.tensor(0.3)
    part = read(tensors, tmp_path)
    assert part.config == config
    image = torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(4))
    mask = torch.zeros(2, 1, 256, 256)
    mask[0, :, 37:140, 90:201] = 1
    mask[1, :, 5, 250] = 1
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalized = (image - mean.view(3, 1, 1)) / std.view(3, 1, 1) * (1 - mask)
    expected = reference_prior(tensors, normalized, mask)
    found = part.build().prior(image, mask)
    assert found.shape == (2, 256, 512)
    assert expected.std() > 0.1
    assert (found - expected).abs().max() <= 1e-4


def reference_prior(w: dict[str, Tensor], image: Tensor, mask: Tensor) -> Tensor:
    """MAE-FAR's forward on the published names, with timm's blocks: all tokens kept, hidden keys at minus infinity."""

    def run(prefix: str, heads: int, x: Tensor, bias: Tensor | None, depth: int) -> Tensor:
        for i in range(depth):
            start = f"{prefix}.{i}."
            state = {key.removeprefix(start): value for key, value in w.items() if key.startswith(start)}
            if not state:
                break
            block = TimmBlock(x.shape[-1], heads, qkv_bias=True, norm_layer=partial(nn.LayerNorm, eps=1e-6)).eval()
            block.load_state_dict(state)
            x = block(x, attn_mask=bias)
        return x

    def patches(name: str, x: Tensor) -> Tensor:
        return F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], stride=16).flatten(2).mT

    share = F.avg_pool2d(mask, 16).flatten(1)
    hidden = (share > 0).float()
    bias = torch.zeros_like(hidden).masked_fill(hidden > 0, -torch.inf)[:, None, None]
    x = run("blocks", 12, patches("patch_embed.proj", image) + w["pos_embed"], bias, 12)
    x = F.layer_norm(x, (768,), w["norm.weight"], w["norm.bias"], 1e-6)
    x = F.linear(x, w["decoder_embed.weight"], w["decoder_embed.bias"])
    x = torch.where(hidden[..., None] > 0, w["mask_token"], x)
    if "alpha" in w:
        partly = ((share > 0) & (share < 1)).float()[..., None]
        known = patches("decoder_patch_embed.proj", torch.cat([image * (1 - mask), mask], 1))
        x = x * (1 - partly) + (w["alpha"] * x + (1 - w["alpha"]) * known) * partly
    return run("decoder_blocks", 16, x + w["decoder_pos_embed"], None, 6)


def test_position_embeddings_of_the_right_size_stay_as_they_are():
    embedding = torch.randn(1, 257, 8)
    assert torch.equal(layouts.resample_positions(embedding, True), embedding)


def test_encoder_alone_gives_no_prior(tmp_path):
    encoder = VisionTransformer(embed_dim=768, depth=1, num_heads=12, num_classes=0)
    with pytest.raises(
        CheckpointError, match=r"published\.safetensors: looks like a vision transformer's encoder only"
    ):
        read(encoder.state_dict(), tmp_path)
    with pytest.raises(CheckpointError, match="without a MAE's decoder there is no prior"):
        read(
            {f"vit.{k}": v for k, v in {"embeddings.patch_embeddings.projection.weight": torch.zeros(1)}.items()},
            tmp_path,
        )


# Alignment modules


class ReleasedBlock(nn.Module):
    """The release's parallel block under its names, from torch's own layers; its modulation is never used."""

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim
        self.linear1 = nn.Linear(dim, 7 * dim)
        self.linear2 = nn.Linear(5 * dim, dim)
        self.norm = nn.Module()
        self.norm.query_norm, self.norm.key_norm = nn.Module(), nn.Module()
        self.norm.query_norm.scale, self.norm.key_norm.scale = (
            nn.Parameter(torch.ones(64)),
            nn.Parameter(torch.ones(64)),
        )
        self.modulation = nn.Module()
        self.modulation.lin = nn.Linear(dim, 3 * dim)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        joint = self.linear1((x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + 1e-6).sqrt())
        q, k, v = joint[..., : 3 * c].reshape(b, n, 3, c // 64, 64).unbind(2)  # (B, N, heads, 64)
        q, k = (
            t / (t.square().mean(-1, keepdim=True) + 1e-6).sqrt() * norm.scale
            for t, norm in ((q, self.norm.query_norm), (k, self.norm.key_norm))
        )
        weights = torch.einsum("bihd,bjhd->bhij", q, k).div(8).softmax(-1)
        attended = torch.einsum("bhij,bjhd->bihd", weights, v).reshape(b, n, c)
        return x + self.linear2(torch.cat([attended, nn.GELU("tanh")(joint[..., 3 * c :])], -1))


def released_alignment(dim: int, depth: int = 4) -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, dim), *(ReleasedBlock(dim) for _ in range(depth)), nn.LayerNorm(dim))


@pytest.mark.parametrize(("dim", "part_name"), [(768, "alignment_pooled"), (256, "alignment")])
@torch.no_grad()
def test_flux_alignment(dim, part_name, tmp_path):
    reference = released_alignment(dim)
    reference.load_state_dict(random_weights(shapes(reference), scale=1.5))
    part = read(reference.state_dict(), tmp_path)
    assert (part.name, part.config) == (part_name, AlignmentConfig(512, dim))
    assert {key.split(".")[1] for key in part.ignored_keys} == {"modulation"}
    prior = torch.randn(2, 256, 512, generator=torch.Generator().manual_seed(5))
    expected = reference(prior)
    assert expected.std() > 0.1
    assert (part.build()(prior) - expected).abs().max() <= 1e-4


@pytest.mark.parametrize(("dim", "part_name"), [(768, "alignment_pooled"), (4096, "alignment")])
def test_published_alignment_sizes(dim, part_name):
    with torch.device("meta"):
        tensors = released_alignment(dim).state_dict()
    assert {"0.weight", "1.norm.query_norm.scale", "4.modulation.lin.bias", "5.bias"} < tensors.keys()
    part = checkpoints.recognize(tensors, "published")
    assert (part.name, part.config) == (part_name, AlignmentConfig(context_dim=dim))
    part.build(device="meta")


# What is broken


def test_every_missing_extra_or_misshapen_tensor_is_named(tmp_path):
    tensors = random_weights(shapes(released_alignment(256, 1)))
    del tensors["2.bias"]
    tensors["1.linear2.weight"] = torch.zeros(256, 3)
    tensors |= {"1.surprise": torch.zeros(1), "loss.weight": torch.zeros(1)}
    with pytest.raises(CheckpointError) as error:
        read(tensors, tmp_path).build()
    for what in (
        "published.safetensors: looks like ASUKA-FLUX's alignment module for T5's tokens, but ",
        "missing: norm.bias (1)",
        "unexpected: blocks.0.surprise, loss.weight (2)",
        "size mismatch: blocks.0.linear2.weight is (256, 3), not (256, 1280) (1)",
    ):
        assert what in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pos_embed": None}, "MAE-FAR or ASUKA-FLUX, but pos_embed is missing"),
        ({"pos_embed": torch.zeros(1, 250, 768)}, "MAE-FAR or ASUKA-FLUX, but .*250"),
        (
            {"decoder_embed.weight": torch.zeros(640, 768)},
            "MAE-FAR or ASUKA-FLUX, but its width is 640, expected one of .*number of heads is unknown",
        ),
        ({"patch_embed.proj.weight": torch.zeros(768)}, "MAE-FAR or ASUKA-FLUX, but "),
    ],
)
def test_incomplete_network_is_named(changes, message, tmp_path):
    tensors = random_weights(shapes(MAE(MAEConfig(embed_dim=768, depth=1, num_heads=12))))
    tensors = {key: value for key, value in (tensors | changes).items() if value is not None}
    with pytest.raises(CheckpointError, match=r"published\.safetensors: looks like a MAE of facebook's, " + message):
        read(tensors, tmp_path)


def test_published_defaults_are_ours():
    assert (VIT_B.num_heads, VIT_L.num_heads) == (layouts.HEADS[768], layouts.HEADS[1024])
