"""Which part of a photo a hole is worked on in, and which holes share one."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

LEAST_CONTEXT = 1.25  # of a crop that cannot be square, because the holes are longer than the photo's short side
NEAR = 16  # holes that are less than about resolution / NEAR pixels apart are one
MOST = 8  # crops of one photo: a batch has to fit into memory

Spans = tuple[tuple[int, int], tuple[int, int]]  # first row and the one after the last, the same of columns
Box = tuple[int, int, int, int]  # top, left, height, width


def crop_box(spans: Spans, lengths: tuple[int, int], resolution: int, context: float) -> Box:
    """The crop around what lies in `spans` of a photo of `lengths` (H, W).

    Square, which is what models know best, unless the holes are longer than the photo's short side.
    """
    longest = max(end - start for start, end in spans)
    side = min(max(resolution, round(context * longest)), max(min(lengths), round(LEAST_CONTEXT * longest)))
    return place(spans, lengths, (min(side, lengths[0]), min(side, lengths[1])))


def place(spans: Spans, lengths: tuple[int, int], size: tuple[int, int]) -> Box:
    """A crop of that size with the holes in its middle, as far as the photo allows."""
    top, left = (
        min(max((start + end - crop) // 2, 0), n - crop)
        for (start, end), crop, n in zip(spans, size, lengths, strict=True)
    )
    return top, left, *size


def working_size(box: Box, resolution: int) -> tuple[int, int]:
    """Height and width of a crop once its longer side is at most `resolution`."""
    scale = min(1.0, resolution / max(box[2:]))
    return max(1, round(box[2] * scale)), max(1, round(box[3] * scale))


def find_spans(hole: np.ndarray) -> Spans:
    """Where the holes of (H, W) bool begin and end."""
    rows, columns = (np.flatnonzero(hole.any(axis=axis)) for axis in (1, 0))
    return (int(rows[0]), int(rows[-1]) + 1), (int(columns[0]), int(columns[-1]) + 1)


def find_crops(hole: np.ndarray, resolution: int, context: float) -> list[tuple[Box, np.ndarray]]:
    """Crops of one working size, and which of the holes (H, W) bool each is for; all of them together are `hole` (H, W) bool.

    Holes share a crop where it is no larger than each of theirs would be. There are `MOST` crops at most: where holes are
    more scattered, crops get larger. One crop serves all holes where crops of one shape cannot.
    """
    gap = max(1, resolution // NEAR)
    labels, spans = near_pieces(hole, gap)
    side = resolution
    while side <= 2 * max(hole.shape):
        groups = group(spans, hole.shape, side, context)
        if len(groups) <= MOST:
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
    """The holes of (H, W) bool on a grid of cells of `gap` pixels, those of cells side by side being one.

    The cells' labels, from 1 on, and the spans of each.
    """
    h, w = hole.shape
    padded = np.pad(hole, ((0, -h % gap), (0, -w % gap)))
    cells = padded.reshape(-(-h // gap), gap, -(-w // gap), gap).any(axis=(1, 3))
    labels, _ = ndimage.label(cells, structure=np.ones((3, 3)))
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


def enlarge(cells: np.ndarray, gap: int, size: tuple[int, int]) -> np.ndarray:
    return cells.repeat(gap, axis=0)[: size[0]].repeat(gap, axis=1)[:, : size[1]]


def group(pieces: list[Spans], lengths: tuple[int, int], side: int, context: float) -> list[tuple[Spans, list[int]]]:
    """Pieces that fit one crop: what the groups span, and the labels of the pieces in each, the longest first."""

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
    """Crops that have one working size, so that they fit into a batch: the shape of the one that is least square."""
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
        if scale > 1:  # holes that are long in different directions
            return []
        fitted.append(place(spans, lengths, (round(scale * shape[0]), round(scale * shape[1]))))
    return fitted
