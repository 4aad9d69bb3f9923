"""Crops around holes: which part of an image to inpaint at the working size, and which holes share a crop."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

LEAST_CONTEXT = 1.25  # for crops that cannot be square because the holes are longer than the image's short side
NEAR = 16  # holes that are less than about resolution / NEAR pixels apart are treated as one
MAX_CROPS = 8  # of one image: the batch has to fit into memory

Spans = tuple[tuple[int, int], tuple[int, int]]  # (first row, last row + 1), (first column, last column + 1)
Box = tuple[int, int, int, int]  # top, left, height, width


def crop_box(spans: Spans, lengths: tuple[int, int], resolution: int, context: float) -> Box:
    """Return the crop around the holes within `spans` of an image of size `lengths` (H, W), in pixels.

    It is square, which suits models best, unless the holes are longer than the image's short side.
    """
    longest = max(end - start for start, end in spans)
    side = min(max(resolution, round(context * longest)), max(min(lengths), round(LEAST_CONTEXT * longest)))
    return place(spans, lengths, (min(side, lengths[0]), min(side, lengths[1])))


def place(spans: Spans, lengths: tuple[int, int], size: tuple[int, int]) -> Box:
    """Return a crop of `size` (h, w), centered on the holes as far as the image allows."""
    top, left = (
        min(max((start + end - crop) // 2, 0), n - crop)
        for (start, end), crop, n in zip(spans, size, lengths, strict=True)
    )
    return top, left, *size


def working_size(box: Box, resolution: int) -> tuple[int, int]:
    """Return the height and width of a crop after its longer side is reduced to at most `resolution`."""
    scale = min(1.0, resolution / max(box[2:]))
    return max(1, round(box[2] * scale)), max(1, round(box[3] * scale))


def find_spans(hole: np.ndarray) -> Spans:
    """Return the bounding box of the holes in `hole` (H, W) bool, which has at least one."""
    rows, columns = (np.flatnonzero(hole.any(axis=axis)) for axis in (1, 0))
    return (int(rows[0]), int(rows[-1]) + 1), (int(columns[0]), int(columns[-1]) + 1)


def find_crops(hole: np.ndarray, resolution: int, context: float) -> list[tuple[Box, np.ndarray]]:
    """Return crops that have the same working size, each with the holes (H, W) bool that it is for; together they cover `hole`.

    Holes share a crop if it is no larger than each of them would need alone. There are at most `MAX_CROPS` crops: they grow
    if holes are more scattered. If crops of one shape cannot cover all holes, a single crop does.
    """
    gap = max(1, resolution // NEAR)
    labels, spans = near_pieces(hole, gap)
    side = resolution
    while side <= 2 * max(hole.shape):
        groups = group(spans, hole.shape, side, context)
        if len(groups) <= MAX_CROPS:
            boxes = boxes_of_one_shape([joined for joined, _ in groups], hole.shape, side, context, resolution)
            if not boxes:
                break
            return [
                (box, hole & enlarge(np.isin(labels, own), gap, hole.shape))
                for box, (_, own) in zip(boxes, groups, strict=True)
            ]
        side *= 2
    return [(crop_box(find_spans(hole), hole.shape, resolution, context), hole)]


def near_pieces(hole: np.ndarray, gap: int) -> tuple[np.ndarray, list[Spans]]:
    """Label the holes of `hole` (H, W) bool on a grid of `gap` x `gap` pixels, joining those in adjacent grid squares.

    Returns the labels (H / gap, W / gap), rounded up, from 1 on, and the bounding box of each label in pixels.
    """
    h, w = hole.shape
    padded = np.pad(hole, ((0, -h % gap), (0, -w % gap)))
    grid = padded.reshape(-(-h // gap), gap, -(-w // gap), gap).any(axis=(1, 3))
    labels, _ = ndimage.label(grid, structure=np.ones((3, 3)))
    spans = []
    for i, part in enumerate(ndimage.find_objects(labels), start=1):
        pixels = tuple(slice(s.start * gap, s.stop * gap) for s in part)
        own = hole[pixels]
        own = own & enlarge(labels[part] == i, gap, own.shape)
        rows, columns = (
            (start + s.start, end + s.start) for (start, end), s in zip(find_spans(own), pixels, strict=True)
        )
        spans.append((rows, columns))
    return labels, spans


def enlarge(grid: np.ndarray, gap: int, size: tuple[int, int]) -> np.ndarray:
    """Repeat each value of `grid` (h, w) over `gap` x `gap` pixels and crop the result to `size` (H, W)."""
    return grid.repeat(gap, axis=0)[: size[0]].repeat(gap, axis=1)[:, : size[1]]


def group(pieces: list[Spans], lengths: tuple[int, int], side: int, context: float) -> list[tuple[Spans, list[int]]]:
    """Group pieces that fit into one crop: the bounding box of each group and the labels of its pieces, longest first."""

    def length(spans: Spans) -> int:
        return max(crop_box(spans, lengths, side, context)[2:])

    groups: list[tuple[Spans, list[int]]] = []
    for i in sorted(range(len(pieces)), key=lambda i: -max(end - start for start, end in pieces[i])):
        for at, (spans, own) in enumerate(groups):
            rows, columns = ((min(a[0], b[0]), max(a[1], b[1])) for a, b in zip(spans, pieces[i], strict=True))
            joined = rows, columns
            if length(joined) <= min(length(spans), length(pieces[i])):
                groups[at] = joined, [*own, i + 1]
                break
        else:
            groups.append((pieces[i], [i + 1]))
    return groups


def boxes_of_one_shape(
    groups: list[Spans], lengths: tuple[int, int], side: int, context: float, resolution: int
) -> list[Box]:
    """Return crops that have the same working size, to form a batch: all take the shape of the least square one.

    Returns an empty list if no such crops exist.
    """
    boxes = [crop_box(spans, lengths, side, context) for spans in groups]
    if len({working_size(box, resolution) for box in boxes}) == 1:
        return boxes
    shape = min((box[2:] for box in boxes), key=lambda shape: min(shape) / max(shape))
    fitted = []
    for spans, box in zip(groups, boxes, strict=True):
        needed = [
            min(round(LEAST_CONTEXT * (end - start)), n) / s
            for (start, end), n, s in zip(spans, lengths, shape, strict=True)
        ]
        scale = max(max(box[2:]) / max(shape), min(1.0, resolution / max(shape)), *needed)
        if scale > 1:  # the holes are long in different directions
            return []
        fitted.append(place(spans, lengths, (round(scale * shape[0]), round(scale * shape[1]))))
    return fitted
