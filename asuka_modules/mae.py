"""Masked auto-encoder: reads from the known pixels, coarsely, what belongs in the hole (ASUKA, sec. 3.1)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .layers import Block
from .masking import hidden_patches, partial_patches, reduce_mask, resize_known


@dataclass(frozen=True)
class MAEConfig:
    """Shape of a MAE; the defaults are ViT-L at 256 pixels."""

    image_size: int = 256
    patch_size: int = 16
    embed_dim: int = 1024
    depth: int = 24
    num_heads: int = 16
    decoder_embed_dim: int = 512
    decoder_depth: int = 8
    decoder_num_heads: int = 16
    mlp_ratio: float = 4.0
    prior_depth: int = 6  # the prior is the decoder stream after this many blocks
    partial_patches: bool = False  # MAE-FAR's fine-tuned variant: partly known patches keep their known pixels
    class_token: bool = False  # facebook's published checkpoints

    @property
    def grid(self) -> int:
        return self.image_size // self.patch_size


IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
VIT_L = MAEConfig()
VIT_B = MAEConfig(embed_dim=768, depth=12, num_heads=12)


def sincos_position_embedding(dim: int, grid: int) -> Tensor:
    """Fixed 2-D sine-cosine position embedding, (1, grid * grid, dim): the first half encodes x, the second y."""
    frequency = 10000.0 ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    angle = torch.arange(grid, dtype=torch.float64)[:, None] * frequency  # (grid, dim / 4)
    axis = torch.cat([angle.sin(), angle.cos()], dim=1)  # (grid, dim / 2)
    x = axis[None, :, :].expand(grid, -1, -1)
    y = axis[:, None, :].expand(-1, grid, -1)
    return torch.cat([x, y], dim=-1).reshape(1, grid * grid, dim).float()


class PatchEmbed(nn.Module):
    def __init__(self, in_channels: int, embed_dim: int, patch_size: int, operations=nn):
        super().__init__()
        self.proj = operations.Conv2d(in_channels, embed_dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, image: Tensor) -> Tensor:
        return self.proj(image).flatten(2).transpose(1, 2)  # (B, N, C)


class MAE(nn.Module):
    """ViT encoder over the visible patches, light decoder over all of them. Key names are those of the published MAEs."""

    def __init__(self, config: MAEConfig = VIT_L, operations=nn):
        super().__init__()
        self.config = config
        dim, decoder_dim, tokens = config.embed_dim, config.decoder_embed_dim, config.grid**2 + config.class_token

        self.patch_embed = PatchEmbed(3, dim, config.patch_size, operations)
        self.register_buffer("pos_embed", torch.zeros(1, tokens, dim))
        if config.class_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.blocks = nn.ModuleList(
            Block(dim, config.num_heads, config.mlp_ratio, operations) for _ in range(config.depth)
        )
        self.norm = operations.LayerNorm(dim, eps=1e-6)

        self.decoder_embed = operations.Linear(dim, decoder_dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_dim))
        self.register_buffer("decoder_pos_embed", torch.zeros(1, tokens, decoder_dim))
        self.decoder_blocks = nn.ModuleList(
            Block(decoder_dim, config.decoder_num_heads, config.mlp_ratio, operations)
            for _ in range(config.decoder_depth)
        )
        self.decoder_norm = operations.LayerNorm(decoder_dim, eps=1e-6)
        self.decoder_pred = operations.Linear(decoder_dim, 3 * config.patch_size**2)
        if config.partial_patches:
            self.decoder_patch_embed = PatchEmbed(4, decoder_dim, config.patch_size, operations)
            self.alpha = nn.Parameter(torch.ones(()))

        for buffer in (self.pos_embed, self.decoder_pos_embed):  # a class token has position 0
            buffer[:, config.class_token :] = sincos_position_embedding(buffer.shape[-1], config.grid)

    def init_weights(self) -> None:
        """MAE's initialisation: Xavier-uniform matrices, zero biases, tokens from N(0, 0.02)."""
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                nn.init.xavier_uniform_(module.weight.flatten(1))
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.mask_token, std=0.02)
        if self.config.class_token:
            nn.init.normal_(self.cls_token, std=0.02)

    def preprocess(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Any-size image (B, 3, H, W) in [0, 1] and binary mask (B, 1, H, W) -> the network's own input:
        the ImageNet-normalised image with zeros in the hole, and the mask, both `image_size` square."""
        size = (self.config.image_size, self.config.image_size)
        image = self.normalize(resize_known(image, mask, size))
        mask = reduce_mask(mask, size, "nearest")
        return image.masked_fill(mask > 0.5, 0.0), mask

    def normalize(self, image: Tensor) -> Tensor:
        """[0, 1] -> ImageNet's zero mean and unit variance."""
        return (image - image.new_tensor(IMAGENET_MEAN).view(3, 1, 1)) / image.new_tensor(IMAGENET_STD).view(3, 1, 1)

    def decoder_stream(self, image: Tensor, mask: Tensor) -> Tensor:
        """Any-size image (B, 3, H, W) in [0, 1] and binary mask (B, 1, H, W) -> the decoder stream after `prior_depth`
        blocks, (B, N, decoder_embed_dim), a class token first if there is one."""
        image, mask = self.preprocess(image, mask)
        hidden = hidden_patches(mask, self.config.grid)
        return self.decode_prior(*self.encode(image, hidden), image, mask)

    def prior(self, image: Tensor, mask: Tensor) -> Tensor:
        """Any-size image (B, 3, H, W) in [0, 1] and binary mask (B, 1, H, W) -> the MAE prior (B, N, decoder_embed_dim).

        An all-zero mask gives the *reconstructed* prior, any other the *predicted* one (sec. 3.2).
        """
        return self.drop_class_token(self.decoder_stream(image, mask))

    def drop_class_token(self, stream: Tensor) -> Tensor:
        return stream[:, self.config.class_token :]

    def reconstruct(self, stream: Tensor) -> Tensor:
        """What `decoder_stream` returned -> the picture it stands for, (B, 3, S, S) in [0, 1]."""
        image = self.unpatchify(self.predict(stream))
        mean, std = (image.new_tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
        return (image * std + mean).clamp(0, 1)

    def forward(self, image: Tensor, mask: Tensor, hidden: Tensor) -> Tensor:
        """Pre-processed image and mask, hidden patches (B, N) bool -> predicted patches (B, N, 3 * patch_size ** 2)."""
        return self.predict(self.decode_prior(*self.encode(image, hidden), image, mask))

    def encode(self, image: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Embeds and encodes the visible patches only, so that cost follows what is known.

        Returns their tokens (B, n, embed_dim) after the class token if there is one, their patch indices (B, n), and,
        where the images of a batch see different numbers of patches, which of the n are real, (B, n) bool.
        """
        c = self.config.class_token
        counts = (~hidden).sum(dim=1)
        indices = hidden.int().argsort(dim=1, stable=True)  # visible patches first
        indices = indices[:, : max(1, int(counts.max()))]  # a convolution needs something to be of
        tokens = self.patch_embed(self.strip(image, indices)) + self.pos_embed[0, c:].to(image)[indices]
        real = None
        if counts.min() < indices.shape[1]:
            real = torch.arange(indices.shape[1], device=counts.device) < counts[:, None]
        keys = real
        if c:
            class_token = (self.cls_token + self.pos_embed[:, :1]).to(tokens).expand(len(tokens), -1, -1)
            tokens = torch.cat([class_token, tokens], dim=1)
            keys = nn.functional.pad(real, (1, 0), value=True) if real is not None else None
        for block in self.blocks:
            tokens = block(tokens, keys[:, None, None, :] if keys is not None else None)
        return self.norm(tokens), indices, real

    def strip(self, image: Tensor, indices: Tensor) -> Tensor:
        """The patches `indices` (B, n) of an image (B, 3, S, S) side by side, (B, 3, patch_size, n * patch_size)."""
        b, p, g = len(image), self.config.patch_size, self.config.grid
        rows = torch.arange(b, device=image.device)[:, None]
        patches = image.reshape(b, 3, g, p, g, p)[rows, :, indices // g, :, indices % g]  # (B, n, 3, p, p)
        return patches.permute(0, 2, 3, 1, 4).reshape(b, 3, p, -1)

    def decode_prior(self, tokens: Tensor, indices: Tensor, real: Tensor | None, image: Tensor, mask: Tensor) -> Tensor:
        """What `encode` returns, with the pre-processed image and mask -> the decoder stream after `prior_depth` blocks."""
        c = self.config.class_token
        embedded = self.decoder_embed(tokens)
        mask_token = self.mask_token.to(embedded)
        visible = embedded[:, c:]
        if real is not None:
            visible = torch.where(real.unsqueeze(-1), visible, mask_token)
        x = mask_token.expand(len(image), self.config.grid**2, -1)
        x = x.scatter(1, indices.unsqueeze(-1).expand(-1, -1, x.shape[-1]), visible)
        if self.config.partial_patches:
            if self.training:  # beyond 1 the clamp would stop its gradient for good
                with torch.no_grad():
                    self.alpha.clamp_(0, 1)
            alpha = self.alpha.to(x).clamp(0, 1)
            known = self.decoder_patch_embed(torch.cat([image.masked_fill(mask > 0.5, 0.0), mask], dim=1))
            partly = partial_patches(mask, self.config.grid).unsqueeze(-1)
            x = torch.where(partly, alpha * x + (1 - alpha) * known, x)
        x = torch.cat([embedded[:, :c], x], dim=1) + self.decoder_pos_embed.to(x)
        for block in self.decoder_blocks[: self.config.prior_depth]:
            x = block(x)
        return x

    def predict(self, stream: Tensor) -> Tensor:
        """Runs the remaining decoder blocks: stream (B, N, decoder_embed_dim) -> patches (B, N, 3 * patch_size ** 2)."""
        for block in self.decoder_blocks[self.config.prior_depth :]:
            stream = block(stream)
        return self.drop_class_token(self.decoder_pred(self.decoder_norm(stream)))

    def patchify(self, image: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, N, patch_size * patch_size * 3), channels last within a patch."""
        b, p, g = len(image), self.config.patch_size, self.config.grid
        x = image.reshape(b, 3, g, p, g, p)
        return x.permute(0, 2, 4, 3, 5, 1).reshape(b, g * g, p * p * 3)

    def unpatchify(self, patches: Tensor) -> Tensor:
        """The inverse of `patchify`."""
        b, p, g = len(patches), self.config.patch_size, self.config.grid
        x = patches.reshape(b, g, g, p, p, 3)
        return x.permute(0, 5, 1, 3, 2, 4).reshape(b, 3, g * p, g * p)
