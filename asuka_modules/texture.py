"""Texture for a soft fill, copied from the known pixels: patch-based synthesis that keeps the fill's coarse content.

The search is PatchMatch (Barnes et al. 2009), the synthesis that of Wexler et al. (2007): from coarse to fine, every patch that
touches the hole finds a similar patch of known pixels, and every pixel of the hole becomes the weighted mean of what the patches over
it say. After each round the fill's own low frequencies are put back, so colors and layout stay those of the network.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .masking import resize_area
from .seams import grow

RADIUS = 2  # of a patch, in pixels
ROUNDS = 3  # of search and synthesis at every resolution
STEPS = (1, 3)  # pixels from which neighbors pass on what they have found
MEAN_WEIGHT = 0.3  # of a difference in mean color: a texture may be copied to where it is a little darker
CHUNK = 1 << 16  # patches compared at a time, which bounds the memory


def transfer_texture(image: Tensor, mask: Tensor, scale: float) -> Tensor:
    """Replace details of the fill that are finer than `scale` pixels by those of the known pixels around the hole.

    `image` (1, 3, H, W) in [0, 1] contains the fill in the hole of `mask` (1, 1, H, W), 1 = hole. Returns (1, 3, H, W) with the
    known pixels unchanged. `scale` is the standard deviation, in pixels, of the Gaussian that separates coarse from fine. The
    result is deterministic. If there is no known patch to copy from, the image is returned unchanged.
    """
    hole = (mask > 0.5).float()
    if not hole.any() or scale < 1:
        return image
    levels = 1 + math.ceil(math.log2(scale))
    estimate, matches = None, None
    generator = torch.Generator().manual_seed(0)
    for level in reversed(range(levels)):
        size = tuple(-(-side // 2**level) for side in image.shape[-2:])
        level_hole = (resize_area(hole, size) > 0).float()
        fill = resize_area(image, size)
        if not known_patches(level_hole).any():
            continue
        search = Search(fill, level_hole, generator)
        if matches is not None:
            search.start_from(matches)
            estimate = keep_low(search.vote(None), fill, level_hole, scale / 2**level)
        else:
            estimate = fill
        for _ in range(ROUNDS):
            distance = search.improve(estimate)
            estimate = keep_low(search.vote(distance), fill, level_hole, scale / 2**level)
        matches = search.matches()
    return image if estimate is None else torch.where(hole > 0, estimate.clamp(0, 1), image)


def known_patches(hole: Tensor) -> Tensor:
    """Return the centers (1, 1, H, W) bool of patches that are inside the image and touch no hole (1, 1, H, W)."""
    return grow(F.pad(hole, (RADIUS,) * 4, value=1.0), RADIUS)[..., RADIUS:-RADIUS, RADIUS:-RADIUS] == 0


def keep_low(estimate: Tensor, fill: Tensor, hole: Tensor, sigma: float) -> Tensor:
    """Return estimate + G(fill - estimate) in the hole and `fill` elsewhere, all (1, C, H, W): details on low frequencies."""
    return torch.where(hole > 0, estimate + blur(fill - estimate, sigma), fill)


def blur(image: Tensor, sigma: float) -> Tensor:
    """Blur `image` (1, C, H, W) with a Gaussian of `sigma` pixels; the border's pixels are repeated."""
    reach = max(1, math.ceil(3 * sigma))
    weights = torch.exp(-torch.arange(-reach, reach + 1, device=image.device).float().square() / (2 * sigma**2))
    weights = weights / weights.sum()
    channels = image.shape[1]
    image = F.pad(image, (reach,) * 4, mode="replicate")
    image = F.conv2d(image, weights.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    return F.conv2d(image, weights.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)


class Search:
    """Finds the most similar patch of known pixels for every patch that touches the hole (PatchMatch)."""

    def __init__(self, image: Tensor, hole: Tensor, generator: torch.Generator):
        self.height, self.width = image.shape[-2:]
        self.device, self.generator, self.image, self.hole = image.device, generator, image, hole
        self.usable = known_patches(hole)[0, 0]
        self.y, self.x = grow(hole, RADIUS)[0, 0].nonzero(as_tuple=True)
        self.row = torch.full((self.height, self.width), -1, device=self.device)
        self.row[self.y, self.x] = torch.arange(len(self.y), device=self.device)
        self.stride = self.width + 2 * RADIUS
        steps = torch.arange(-RADIUS, RADIUS + 1, device=self.device)
        self.offsets = (steps[:, None] * self.stride + steps).flatten()
        self.known = self.flatten(image)
        self.source_y, self.source_x = self.random_sources(len(self.y))

    def flatten(self, image: Tensor) -> Tensor:
        """Flatten (1, 3, H, W) to pixels (n, 3) with a border of a patch's radius, so that every offset is in it."""
        return F.pad(image, (RADIUS,) * 4, mode="replicate")[0].flatten(1).t().contiguous()

    def index(self, y: Tensor, x: Tensor) -> Tensor:
        """Return the indices of pixels at rows `y` and columns `x`, both (n,), in the result of `flatten`."""
        return (y + RADIUS) * self.stride + x + RADIUS

    def random_sources(self, n: int) -> tuple[Tensor, Tensor]:
        """Draw the rows and columns, both (n,), of `n` usable patches."""
        y, x = self.usable.nonzero(as_tuple=True)
        chosen = torch.randint(len(y), (n,), generator=self.generator).to(self.device)
        return y[chosen], x[chosen]

    def start_from(self, coarser: Tensor) -> None:
        """Start from the matches (2, h, w) of half the resolution."""
        y, x = self.y // 2, self.x // 2
        self.source_y = (2 * coarser[0, y, x] + self.y % 2).clamp_max(self.height - 1)
        self.source_x = (2 * coarser[1, y, x] + self.x % 2).clamp_max(self.width - 1)
        lost = ~self.usable[self.source_y, self.source_x]
        self.source_y[lost], self.source_x[lost] = self.random_sources(int(lost.sum()))

    def matches(self) -> Tensor:
        """Return row and column of every patch's match, (2, H, W); a patch that touches no hole matches itself."""
        matches = torch.stack(torch.meshgrid(torch.arange(self.height), torch.arange(self.width), indexing="ij"))
        matches = matches.to(self.device)
        matches[0, self.y, self.x], matches[1, self.y, self.x] = self.source_y, self.source_x
        return matches

    def improve(self, estimate: Tensor) -> Tensor:
        """Run one round of PatchMatch on `estimate` (1, 3, H, W): try neighbors' matches, then random ones, ever closer.

        Returns the squared distances of the matches, (n,).
        """
        pixels = self.flatten(estimate)
        at = self.index(self.y, self.x)
        best = self.distance(pixels, at, self.source_y, self.source_x)

        def offer(y: Tensor, x: Tensor) -> None:
            inside = (y >= 0) & (y < self.height) & (x >= 0) & (x < self.width)
            y, x = y.clamp(0, self.height - 1), x.clamp(0, self.width - 1)
            new = inside & self.usable[y, x] & ((y != self.source_y) | (x != self.source_x))
            rows = new.nonzero()[:, 0]
            distance = self.distance(pixels, at[rows], y[rows], x[rows])
            better = distance < best[rows]
            rows, distance = rows[better], distance[better]
            self.source_y[rows], self.source_x[rows], best[rows] = y[rows], x[rows], distance

        for step in STEPS:
            for dy, dx in ((0, step), (0, -step), (step, 0), (-step, 0)):
                y, x = (self.y + dy).clamp(0, self.height - 1), (self.x + dx).clamp(0, self.width - 1)
                neighbor = self.row[y, x]
                found = neighbor >= 0
                y = torch.where(found, self.source_y[neighbor] - dy, -1)
                offer(y, torch.where(found, self.source_x[neighbor] - dx, -1))
        reach = max(self.height, self.width)
        while reach >= 1:
            dy, dx = (torch.randint(-reach, reach + 1, (2, len(at)), generator=self.generator)).to(self.device)
            offer(self.source_y + dy, self.source_x + dx)
            reach //= 4
        return best

    def distance(self, pixels: Tensor, at: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """Squared distance between the estimate's patches around `at` and known ones around (y, x), (n,)."""
        source, parts = self.index(y, x), []
        for a, b in zip(at.split(CHUNK), source.split(CHUNK), strict=True):
            difference = pixels[a[:, None] + self.offsets] - self.known[b[:, None] + self.offsets]
            mean = difference.mean(1).square().sum(1) * len(self.offsets)
            parts.append(difference.square().sum((1, 2)) - (1 - MEAN_WEIGHT) * mean)
        return torch.cat(parts)

    def vote(self, distance: Tensor | None) -> Tensor:
        """Every pixel as the mean of what the matches of the patches over it say, near matches counting more, (1, 3, H, W)."""
        weight = torch.ones(len(self.y), device=self.device)
        if distance is not None:
            weight = torch.exp(-distance / (2 * distance.mean().clamp_min(1e-8))).clamp_min(1e-4)
        y, x = self.hole[0, 0].nonzero(as_tuple=True)
        source = self.index(self.source_y, self.source_x)
        total, weights = torch.zeros(len(y), 3, device=self.device), torch.zeros(len(y), 1, device=self.device)
        for dy in range(-RADIUS, RADIUS + 1):
            for dx in range(-RADIUS, RADIUS + 1):
                cy, cx = y - dy, x - dx
                inside = (cy >= 0) & (cy < self.height) & (cx >= 0) & (cx < self.width)
                row = self.row[cy.clamp(0, self.height - 1), cx.clamp(0, self.width - 1)]
                w = (weight[row] * inside)[:, None]
                total += w * self.known[source[row] + dy * self.stride + dx]
                weights += w
        result = self.image.clone()
        result[0, :, y, x] = (total / weights).t()
        return result
