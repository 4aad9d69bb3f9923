"""Masked autoencoder (MAE): predicts the content of the hole coarsely from the known pixels (ASUKA, sec. 3.1)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .layers import Block
from .masking import hidden_patches, partial_patches, reduce_mask, resize_known


@dataclass(frozen=True)
class MAEConfig:
    """Size of a MAE; the defaults are ViT-L at 256 pixels."""

    image_size: int = 256
    patch_size: int = 16
    embed_dim: int = 1024
    depth: int = 24
    num_heads: int = 16
    decoder_embed_dim: int = 512
    decoder_depth: int = 8
    decoder_num_heads: int = 16
    mlp_ratio: float = 4.0
    prior_depth: int = 6  # the prior is the decoder's features after this many blocks
    partial_patches: bool = False  # MAE-FAR's fine-tuned variant: partly known patches keep their known pixels
    class_token: bool = False  # as in facebook's published checkpoints

    def __post_init__(self):
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size is {self.image_size}, expected a multiple of patch_size, {self.patch_size}")

    @property
    def grid(self) -> int:
        """Number of patches along each side of the image."""
        return self.image_size // self.patch_size


IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
VIT_L = MAEConfig()
VIT_B = MAEConfig(embed_dim=768, depth=12, num_heads=12)


def sincos_position_embedding(dim: int, grid: int) -> Tensor:
    """Return the fixed 2-D sine-cosine position embedding (1, grid * grid, dim): the first half encodes x, the second y."""
    frequency = 10000.0 ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    angle = torch.arange(grid, dtype=torch.float64)[:, None] * frequency  # (grid, dim / 4)
    axis = torch.cat([angle.sin(), angle.cos()], dim=1)  # (grid, dim / 2)
    x = axis[None, :, :].expand(grid, -1, -1)
    y = axis[:, None, :].expand(-1, grid, -1)
    return torch.cat([x, y], dim=-1).reshape(1, grid * grid, dim).float()


class PatchEmbed(nn.Module):
    """Linear embedding of non-overlapping patches, written as a convolution."""

    def __init__(self, in_channels: int, embed_dim: int, patch_size: int, operations=nn):
        super().__init__()
        self.proj = operations.Conv2d(in_channels, embed_dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, image: Tensor) -> Tensor:
        """Embed the patches of `image` (B, in_channels, H, W) as tokens (B, N, embed_dim), row by row."""
        return self.proj(image).flatten(2).transpose(1, 2)


class MAE(nn.Module):
    """ViT encoder over the visible patches and a light decoder over all. Key names are those of the published MAEs."""

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
        """Initialize as MAE does: Xavier-uniform matrices, zero biases, tokens from N(0, 0.02)."""
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                nn.init.xavier_uniform_(module.weight.flatten(1))
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.mask_token, std=0.02)
        if self.config.class_token:
            nn.init.normal_(self.cls_token, std=0.02)

    def preprocess(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Turn an image (B, 3, H, W) in [0, 1] and a binary mask (B, 1, H, W) of any size into the network's input.

        Returns the ImageNet-normalized image (B, 3, S, S) with zeros in the hole, and the mask (B, 1, S, S); S is `image_size`.
        """
        size = (self.config.image_size, self.config.image_size)
        image = self.normalize(resize_known(image, mask, size))
        mask = reduce_mask(mask, size, "nearest")
        return image.masked_fill(mask > 0.5, 0.0), mask

    def normalize(self, image: Tensor) -> Tensor:
        """Normalize (B, 3, H, W) in [0, 1] with ImageNet's mean and standard deviation."""
        return (image - image.new_tensor(IMAGENET_MEAN).view(3, 1, 1)) / image.new_tensor(IMAGENET_STD).view(3, 1, 1)

    def decoder_features(self, image: Tensor, mask: Tensor) -> Tensor:
        """Return the decoder's features after `prior_depth` blocks, (B, N, decoder_embed_dim).

        `image` (B, 3, H, W) in [0, 1] and the binary `mask` (B, 1, H, W) have any size. A class token, if any, comes first.
        """
        image, mask = self.preprocess(image, mask)
        hidden = hidden_patches(mask, self.config.grid)
        return self.decode_prior(*self.encode(image, hidden), image, mask)

    def prior(self, image: Tensor, mask: Tensor) -> Tensor:
        """Return the MAE prior (B, N, decoder_embed_dim) of an image (B, 3, H, W) in [0, 1] and a binary mask (B, 1, H, W).

        An all-zero mask gives the *reconstructed* prior, any other mask the *predicted* one (ASUKA, sec. 3.2).
        """
        return self.drop_class_token(self.decoder_features(image, mask))

    def drop_class_token(self, features: Tensor) -> Tensor:
        """Remove the class token, if there is one, from decoder features (B, N or N + 1, C): (B, N, C)."""
        return features[:, self.config.class_token :]

    def reconstruct(self, features: Tensor) -> Tensor:
        """Decode the result of `decoder_features` to an image (B, 3, S, S) in [0, 1]."""
        image = self.unpatchify(self.predict(features))
        mean, std = (image.new_tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
        return (image * std + mean).clamp(0, 1)

    def forward(self, image: Tensor, mask: Tensor, hidden: Tensor) -> Tensor:
        """Predict all patches, (B, N, 3 * patch_size ** 2), from the image (B, 3, S, S) and mask (B, 1, S, S) of `preprocess`.

        `hidden` (B, N) bool marks the patches that the encoder does not see.
        """
        return self.predict(self.decode_prior(*self.encode(image, hidden), image, mask))

    def encode(self, image: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Embed and encode only the visible patches of `image` (B, 3, S, S); `hidden` (B, N) bool marks the others.

        Returns their tokens (B, n, embed_dim), after the class token if there is one, and their patch indices (B, n). If the
        images of a batch have different numbers of visible patches, the third value (B, n) bool is false for padding.
        """
        c = self.config.class_token
        counts = (~hidden).sum(dim=1)
        indices = hidden.int().argsort(dim=1, stable=True)  # visible patches first
        indices = indices[:, : max(1, int(counts.max()))]  # a convolution needs at least one patch
        tokens = self.patch_embed(self._strip(image, indices)) + self.pos_embed[0, c:].to(image)[indices]
        valid = None
        if counts.min() < indices.shape[1]:
            valid = torch.arange(indices.shape[1], device=counts.device) < counts[:, None]
        valid_keys = valid
        if c:
            class_token = (self.cls_token + self.pos_embed[:, :1]).to(tokens).expand(len(tokens), -1, -1)
            tokens = torch.cat([class_token, tokens], dim=1)
            valid_keys = nn.functional.pad(valid, (1, 0), value=True) if valid is not None else None
        for block in self.blocks:
            tokens = block(tokens, valid_keys[:, None, None, :] if valid_keys is not None else None)
        return self.norm(tokens), indices, valid

    def _strip(self, image: Tensor, indices: Tensor) -> Tensor:
        """Join the patches `indices` (B, n) of `image` (B, 3, S, S) to one row, (B, 3, patch_size, n * patch_size)."""
        b, p, g = len(image), self.config.patch_size, self.config.grid
        rows = torch.arange(b, device=image.device)[:, None]
        patches = image.reshape(b, 3, g, p, g, p)[rows, :, indices // g, :, indices % g]  # (B, n, 3, p, p)
        return patches.permute(0, 2, 3, 1, 4).reshape(b, 3, p, -1)

    def decode_prior(
        self, tokens: Tensor, indices: Tensor, valid: Tensor | None, image: Tensor, mask: Tensor
    ) -> Tensor:
        """Return the decoder's features after `prior_depth` blocks, (B, N, decoder_embed_dim), a class token first if any.

        `tokens`, `indices` and `valid` come from `encode`, the image (B, 3, S, S) and mask (B, 1, S, S) from `preprocess`.
        """
        c = self.config.class_token
        embedded = self.decoder_embed(tokens)
        mask_token = self.mask_token.to(embedded)
        visible = embedded[:, c:]
        if valid is not None:
            visible = torch.where(valid.unsqueeze(-1), visible, mask_token)
        x = mask_token.expand(len(image), self.config.grid**2, -1)
        x = x.scatter(1, indices.unsqueeze(-1).expand(-1, -1, x.shape[-1]), visible)
        if self.config.partial_patches:
            if self.training:  # outside of [0, 1] the clamp below would stop the gradient for good
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

    def predict(self, features: Tensor) -> Tensor:
        """Run the other decoder blocks on features (B, N, decoder_embed_dim): patches (B, N, 3 * patch_size ** 2)."""
        for block in self.decoder_blocks[self.config.prior_depth :]:
            features = block(features)
        return self.drop_class_token(self.decoder_pred(self.decoder_norm(features)))

    def patchify(self, image: Tensor) -> Tensor:
        """Cut an image (B, 3, S, S) into patches (B, N, patch_size * patch_size * 3), channels last within a patch."""
        b, p, g = len(image), self.config.patch_size, self.config.grid
        x = image.reshape(b, 3, g, p, g, p)
        return x.permute(0, 2, 4, 3, 5, 1).reshape(b, g * g, p * p * 3)

    def unpatchify(self, patches: Tensor) -> Tensor:
        """Join patches (B, N, patch_size * patch_size * 3) to an image (B, 3, S, S): the inverse of `patchify`."""
        b, p, g = len(patches), self.config.patch_size, self.config.grid
        x = patches.reshape(b, g, g, p, p, 3)
        return x.permute(0, 5, 1, 3, 2, 4).reshape(b, 3, g * p, g * p)
