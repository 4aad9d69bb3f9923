"""Harmonizing decode of the hole alone, so that its cost follows the hole and not the image.

Features of known pixels are replaced before every level of the decoder, so that a level needs the hole and a few positions around
it: a *window*. Only GroupNorm looks further, at the mean and variance over all N positions p of a level. The window knows its own
share; for the rest a grid of small *tiles* of known pixels goes through the level in lockstep:

    E[x] = 1 / N * sum(x_p for p in windows) + sum(w_p * x_p for p in tiles)

The w_p are calibration weights (Deville and Särndal 1992): of all weights under which the tiles have the color, contrast and
gradients of everything outside of the windows, the ones nearest to equal weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .decoder import ConditionedDecoder, DecoderConfig, HarmonizingDecoder, ResBlock
from .masking import fill_hole, reduce_mask

MARGIN = (8, 6, 6, 4)  # positions around the hole, by level, finest first
TILE = (32, 20, 12, 6)  # side by level
GRID, SPACING = 5, 102  # tiles along a side: at least so many, and one for so many pixels
FEWEST_TILES = 13
BORDER = 2  # positions along a crop's side that its zero padding changes too much to count
MOST_WINDOWS = 32
LARGEST_SHARE = 0.8  # of the image, mean over the levels: above it the whole decode is simpler and not much slower
RIDGE = 1e-3


class Box(NamedTuple):
    """Part of an image, or of its features at a coarser level."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def area(self) -> int:
        """Number of positions."""
        return (self.bottom - self.top) * (self.right - self.left)

    def of(self, x: Tensor) -> Tensor:
        """Cut the box out of `x` (..., H, W)."""
        return x[..., self.top : self.bottom, self.left : self.right]

    def scale(self, factor: int) -> Box:
        """Return the box at a resolution `factor` times higher."""
        return Box(*(side * factor for side in self))

    def reduce(self, factor: int) -> Box:
        """Return the box at a resolution `factor` times lower, rounded outwards."""
        return Box(self.top // factor, -(-self.bottom // factor), self.left // factor, -(-self.right // factor))

    def within(self, outer: Box) -> Box:
        """Return the same part, counted from the upper left of `outer`."""
        return Box(self.top - outer.top, self.bottom - outer.top, self.left - outer.left, self.right - outer.left)

    def grow(self, margin: int, size: tuple[int, int]) -> Box:
        """Add a margin, as far as the image of `size` (H, W) reaches."""
        grown = Box(self.top - margin, self.bottom + margin, self.left - margin, self.right + margin)
        return grown.clip(Box(0, size[0], 0, size[1]))

    def clip(self, outer: Box) -> Box:
        """Return the part of it that lies in `outer`."""
        return Box(
            max(self.top, outer.top),
            min(self.bottom, outer.bottom),
            max(self.left, outer.left),
            min(self.right, outer.right),
        )

    def inside(self, size: tuple[int, int]) -> Box:
        """Remove `BORDER` from each side that is not a side of the image of `size` (H, W)."""
        top, left = (BORDER if side else 0 for side in (self.top, self.left))
        bottom, right = (BORDER if side < n else 0 for side, n in zip((self.bottom, self.right), size, strict=True))
        return Box(self.top + top, self.bottom - bottom, self.left + left, self.right - right)


@dataclass(frozen=True)
class Plan:
    """What is decoded of an image. Boxes by level, finest first, in positions of the level."""

    holes: list[Box]  # disjoint: what the finest windows decode
    windows: list[list[Box]]  # each lies in one of the next level
    tiles: list[list[Box]]
    weights: list[list[Tensor]]  # of every window (1, 1, h, w), and of all tiles together (T, 1, s, s)
    share: float  # of the image that is computed, mean over the levels


def make_plan(image: Tensor, hole: Tensor, mask: Tensor, config: DecoderConfig) -> Plan | None:
    """Plan the decode of `hole` (1, 1, H, W), binary, in an `image` (1, 3, H, W) in [0, 1], all on the CPU.

    `mask` is what the decoder is told to be the hole: the same or a few pixels more.

    None where decoding the image as a whole is as good.
    """
    factors = [2**k for k in range(len(config.ch_mult))]
    h, w = mask.shape[-2:]
    if len(factors) != len(TILE) or min(h, w) < GRID * TILE[0] or not hole.any():
        return None
    sizes = [(h // factor, w // factor) for factor in factors]
    holes = find_holes(hole[0, 0] > 0.5, factors[-1])
    windows, groups = [], holes
    for factor, size, margin in zip(factors, sizes, MARGIN, strict=True):
        groups = join(groups, lambda box: box.reduce(factor).grow(margin, size).area)  # noqa: B023
        windows.append([box.reduce(factor).grow(margin, size) for box in groups])
    tiles = place_tiles(mask[0, 0] > 0.5, windows, factors, sizes)
    boxes = [a + b for a, b in zip(windows, tiles, strict=True)]
    share = sum(sum(box.area for box in at) / (h * w) for at, (h, w) in zip(boxes, sizes, strict=True)) / len(sizes)
    if share > LARGEST_SHARE or len(tiles[0]) < FEWEST_TILES:
        return None
    known = fill_hole(image.float(), mask, 0.0)
    weights = [
        statistics_weights(describe(known, factor), window, tile, size)
        for factor, window, tile, size in zip(factors, windows, tiles, sizes, strict=True)
    ]
    return Plan(holes, windows, tiles, weights, share)


def find_holes(hole: Tensor, cell: int) -> list[Box]:
    """Return at most `MOST_WINDOWS` disjoint boxes that hold all of `hole` (H, W) bool, cut along lines `cell` pixels apart."""
    cells = F.max_pool2d(hole[None].float(), cell)[0] > 0
    whole, overhead = Box(0, cells.shape[0], 0, cells.shape[1]), 2 * MARGIN[0] // cell
    while len(boxes := split(cells, whole, overhead)) > MOST_WINDOWS:
        overhead *= 2
    return [bounds(hole, box.scale(cell)) for box in boxes]


def bounds(hole: Tensor, box: Box) -> Box:
    """Return the smallest box that holds the part of `hole` (H, W) bool in `box`."""
    part = box.of(hole)
    rows, columns = (part.any(dim=axis).nonzero()[:, 0].tolist() for axis in (1, 0))
    return Box(box.top + rows[0], box.top + rows[-1] + 1, box.left + columns[0], box.left + columns[-1] + 1)


def split(hole: Tensor, box: Box, overhead: int) -> list[Box]:
    """Cut `box` around `hole` (H, W) bool in two wherever that saves area, if each box gets `overhead` longer and wider."""
    box = bounds(hole, box)
    part = box.of(hole)
    h, w = part.shape
    rows, columns = (areas_of_cuts(x, overhead) for x in (part, part.T))
    best = torch.cat([rows, columns])
    if not len(best) or best.min() >= (h + overhead) * (w + overhead):
        return [box]
    cut = int(best.argmin()) + 1
    if cut <= len(rows):
        halves = box._replace(bottom=box.top + cut), box._replace(top=box.top + cut)
    else:
        cut = box.left + cut - len(rows)
        halves = box._replace(right=cut), box._replace(left=cut)
    return [part for half in halves for part in split(hole, half, overhead)]


def areas_of_cuts(hole: Tensor, overhead: int) -> Tensor:
    """Return (H - 1,), the areas of the boxes around `hole` (H, W) bool above and below each line between rows, summed."""
    h, w = hole.shape
    column, row, found = torch.arange(w), torch.arange(h), hole.any(dim=1)
    first, last = torch.where(hole, column, w).amin(1), torch.where(hole, column + 1, 0).amax(1)
    above = torch.where(found, row + 1, 0).cummax(0).values, last.cummax(0).values - first.cummin(0).values
    below = (
        h - torch.where(found, row, h).flip(0).cummin(0).values,
        (last.flip(0).cummax(0).values - first.flip(0).cummin(0).values),
    )
    areas = [(height + overhead) * (width + overhead) for height, width in (above, below)]
    return areas[0][:-1] + areas[1].flip(0)[1:]


def join(boxes: list[Box], area: Callable[[Box], int]) -> list[Box]:
    """Merge boxes wherever one window, whose size `area` tells, is no larger than two."""
    for i, a in enumerate(boxes):
        for b in boxes[i + 1 :]:
            both = Box(min(a.top, b.top), max(a.bottom, b.bottom), min(a.left, b.left), max(a.right, b.right))
            if area(both) <= area(a) + area(b):
                return join([both, *(box for box in boxes if box not in (a, b))], area)
    return boxes


def place_tiles(
    hole: Tensor, windows: list[list[Box]], factors: list[int], sizes: list[tuple[int, int]]
) -> list[list[Box]]:
    """Return tiles on a grid, by level, without those that touch `hole` (H, W) bool or lie mostly in windows."""
    seen = torch.zeros(sizes[1])
    for window in windows[1]:
        window.of(seen).fill_(1)
    tiles = []
    rows, columns = (max(GRID, round(side / SPACING)) for side in sizes[0])
    for row, column in product(range(rows), range(columns)):
        # The middle, in positions of the coarsest level.
        y, x = (2 * row + 1) * sizes[-1][0] // (2 * rows), (2 * column + 1) * sizes[-1][1] // (2 * columns)
        tile = []
        for side, factor, (h, w) in zip(TILE, factors, sizes, strict=True):
            finer = factors[-1] // factor
            top, left = (min(max(at * finer - side // 2, 0), n - side) for at, n in ((y, h), (x, w)))
            tile.append(Box(top, top + side, left, left + side))
        if not tile[-1].scale(factors[-1]).of(hole).any() and tile[1].of(seen).mean() < 0.6:
            tiles.append(tile)
    return [[tile[level] for tile in tiles] for level in range(len(sizes))]


def describe(known: Tensor, factor: int) -> Tensor:
    """Return color, its square, contrast and gradients of `known` (1, 3, H, W): (1, 9, H / factor, W / factor)."""
    mean, square = (F.avg_pool2d(x, factor) for x in (known, known.square()))
    gray = mean.mean(1, keepdim=True)
    gradient = F.pad(gray.diff(dim=-1).abs(), (0, 1)) + F.pad(gray.diff(dim=-2).abs(), (0, 0, 0, 1))
    gradient = F.avg_pool2d(gradient, 3, 1, 1)
    return torch.cat([mean, mean.square(), square.mean(1, keepdim=True), gradient, gradient.sqrt()], dim=1)


def statistics_weights(described: Tensor, windows: list[Box], tiles: list[Box], size: tuple[int, int]) -> list[Tensor]:
    """Return the weight of every position in the mean over a level, of each window and of all tiles; they sum to 1."""
    times = torch.zeros(size)
    for window in windows:
        window.inside(size).of(times).add_(1)
    outside = times == 0
    sampled = torch.stack([counted(tile, size, outside) for tile in tiles])
    weights = [counted(window, size, 1 / times.clamp_min(1))[None] for window in windows]
    if sampled.any():
        covariates = torch.cat([tile.of(described) for tile in tiles])
        sampled = calibrate(sampled / sampled.sum(), covariates, described[0, :, outside].mean(1)) * outside.sum()
    total = sum(x.sum() for x in (*weights, sampled))
    return [x / total for x in (*weights, sampled)]


def counted(box: Box, size: tuple[int, int], values: Tensor) -> Tensor:
    """Return the part of `values` (H, W) in a box, (1, h, w), 0 along its border."""
    part = torch.zeros(box.bottom - box.top, box.right - box.left)
    inside = box.inside(size)
    inside.within(box).of(part).copy_(inside.of(values))
    return part[None]


def calibrate(weights: Tensor, covariates: Tensor, target: Tensor) -> Tensor:
    """Change `weights` (T, 1, s, s) as little as needed for `covariates` (T, C, s, s) to have the mean `target` (C,)."""
    mean = (covariates * weights).sum((0, 2, 3))
    deviation = covariates - mean[:, None, None]
    covariance = torch.einsum("tchw,tdhw,thw->cd", deviation, deviation, weights[:, 0])
    covariance += RIDGE * torch.diag(covariance.diagonal() + 1e-6)
    tilt = torch.linalg.solve(covariance, target - mean)
    weights = weights * (1 + torch.einsum("tchw,c->thw", deviation, tilt)[:, None]).clamp_min(0)
    return weights / weights.sum()


def decode_hole(network: HarmonizingDecoder, latent: Tensor, image: Tensor, mask: Tensor, plan: Plan) -> Tensor:
    """Decode the hole of a `plan`; inputs as of `network`, each a batch of one, to float32 (1, 3, H, W), elsewhere `image`."""
    decoder, groups = network.decoder, network.config.norm_groups
    known = known_features(decoder, image * 2 - 1, mask, plan)
    if network.config.post_quant_conv:
        latent = network.post_quant_conv(latent)
    h = decoder.mid(decoder.conv_in(latent))
    crops = [window.of(h) for window in plan.windows[-1]]
    for level in reversed(range(len(decoder.up))):
        weights = [x.to(h.device) for x in plan.weights[level]]
        crops = merge(crops, known.pop(), reduced_mask(mask, level, network.config), plan.windows[level])
        for block in decoder.up[level].block:
            crops = residual(block, crops, weights, groups)
        if level:
            upsample = decoder.up[level].upsample
            crops = [upsampled(upsample, crops, plan.windows[level], window) for window in plan.windows[level - 1]]
    crops = merge(crops, known.pop(), mask, plan.windows[0])
    crops = normalize(decoder.norm_out, crops, weights, groups)[: len(plan.windows[0])]
    result = image.to(torch.float32, copy=True)
    for hole in plan.holes:
        i = parent(hole, plan.windows[0])
        decoded = hole.within(plan.windows[0][i]).of(decoder.conv_out(crops[i])).float() / 2 + 0.5
        hole.of(result).copy_(torch.where(hole.of(mask) > 0.5, decoded, hole.of(result)))
    return result


def known_features(decoder: ConditionedDecoder, image: Tensor, mask: Tensor, plan: Plan) -> list[list[Tensor]]:
    """Return the condition encoder's features by layer, finest first: of every window, and of all tiles together."""
    condition = decoder.condition(image, mask)
    top = len(plan.windows) - 1
    encoded = [decoder.encoder(window.scale(2**top).of(condition)) for window in plan.windows[top]]
    tiles = decoder.encoder(torch.cat([tile.scale(2**top).of(condition) for tile in plan.tiles[top]]))
    known = []
    for layer, level in enumerate([0, *range(top + 1)]):  # the finest level has two layers
        coarse = [[box.scale(2 ** (top - level)) for box in boxes[top]] for boxes in (plan.windows, plan.tiles)]
        crops = []
        for window in plan.windows[level]:
            i = parent(window, coarse[0])
            crops.append(window.within(coarse[0][i]).of(encoded[i][layer]).clone())
        parts = zip(plan.tiles[level], coarse[1], tiles[layer].split(1), strict=True)
        known.append([*crops, torch.cat([tile.within(outer).of(feature) for tile, outer, feature in parts])])
    return known


def reduced_mask(mask: Tensor, level: int, config: DecoderConfig) -> Tensor:
    """Reduce `mask` (1, 1, H, W) to a level."""
    return reduce_mask(mask, tuple(side // 2**level for side in mask.shape[-2:]), config.mask_reduction)


def parent(box: Box, coarser: list[Box]) -> int:
    """Return the index of the box among `coarser`, at the same resolution, that holds `box`."""
    return next(i for i, outer in enumerate(coarser) if box.clip(outer) == box)


def merge(crops: list[Tensor], known: list[Tensor], mask: Tensor, windows: list[Box]) -> list[Tensor]:
    """Merge every window as `ConditionedDecoder.merge` does; tiles hold known pixels alone."""
    merged = [
        torch.lerp(feature, crop, window.of(mask).to(crop.dtype))
        for crop, feature, window in zip(crops, known, windows, strict=False)
    ]
    return merged + known[len(windows) :]


def upsampled(upsample: nn.Module, crops: list[Tensor], boxes: list[Box], finer: Box) -> Tensor:
    """Upsample to `finer`, a window of the next level, from the crops of this level's windows in `boxes`."""
    i = parent(finer.reduce(2), boxes)
    need = finer.reduce(2).grow(1, (boxes[i].bottom, boxes[i].right)).clip(boxes[i])
    return finer.within(need.scale(2)).of(upsample(need.within(boxes[i]).of(crops[i])))


def residual(block: ResBlock, crops: list[Tensor], weights: list[Tensor], groups: int) -> list[Tensor]:
    """Apply a residual block to all crops in lockstep, with common statistics."""
    h = [block.conv1(x) for x in normalize(block.norm1, crops, weights, groups)]
    h = [block.conv2(x) for x in normalize(block.norm2, h, weights, groups)]
    return [y + (block.nin_shortcut(x) if hasattr(block, "nin_shortcut") else x) for x, y in zip(crops, h, strict=True)]


def normalize(norm: nn.Module, crops: list[Tensor], weights: list[Tensor], groups: int) -> list[Tensor]:
    """Return SiLU of GroupNorm of all crops, each (B, C, h, w), with statistics weighted over all of them."""
    channels = crops[0].shape[1]

    def mean(values: list[Tensor]) -> Tensor:
        total = sum((x * w).sum((0, 2, 3)) for x, w in zip(values, weights, strict=True))
        return total.view(groups, -1).mean(1).repeat_interleave(channels // groups)[:, None, None]

    center = mean([x.float() for x in crops])
    deviation = (mean([(x - center).square() for x in crops]) + 1e-6).sqrt()
    # The layer itself says what it scales and shifts by: its weights may lie on another device or in another type.
    low, high = norm(crops[0].new_tensor([-1.0, 1.0]).expand(1, channels, 1, 2))[0].float().split(1, dim=-1)
    scale = (high - low) / 2 / deviation
    shift = (high + low) / 2 - center * scale
    return [F.silu(x * scale + shift).to(x.dtype) for x in crops]
