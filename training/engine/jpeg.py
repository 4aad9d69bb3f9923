"""What decoders of JPEG do not tell: scans that are missing or cut, or interrupted by foreign bytes."""

import re
from itertools import product

MARKER = re.compile(rb"\xff+([^\x00\xff])")  # FF 00 is a byte of a scan, further FFs before a marker are fill
NEXT_MARKER = re.compile(rb"\xff([^\x00\xff])")  # the same of an end of a scan, found 20 times as fast
END, SCAN, TABLES, RESTART_INTERVAL = 0xD9, 0xDA, 0xC4, 0xDD
RESTARTS = range(0xD0, 0xD8)
SEQUENTIAL, PROGRESSIVE = (0xC0, 0xC1), 0xC2  # frames that are Huffman-coded
FOREIGN, MISSING = "damaged: foreign bytes in its code", "damaged: scans are missing"
CUT, BLANK = "damaged: its end is missing", "damaged: zeros in place of its code"
HOLE = bytes(64)
COEFFICIENTS = range(64)


def flaw(data: bytes) -> str | None:
    """What is wrong with the scans of a JPEG; None also for damage that leaves code which could be a photo's."""
    position, interval, frame = 2, 0, 0
    left: set[tuple[int, int]] = set()  # components and coefficients of which bits are yet to come
    scanned, zeros = False, dict[int, int]()
    while marker := MARKER.match(data, position):
        kind, start = marker[1][0], marker.end()
        if kind == END:
            return MISSING if left else None
        position = start + int.from_bytes(data[start : start + 2], "big")
        segment = data[start + 2 : position]
        if kind in (*SEQUENTIAL, PROGRESSIVE):
            frame, left = kind, set(product(segment[6::3], COEFFICIENTS))
        elif kind == RESTART_INTERVAL:
            interval = int.from_bytes(segment[:2], "big")
        elif kind == TABLES:
            zeros |= first_symbols(segment)
        elif kind == SCAN and segment:
            scanned = True
            whole = frame != PROGRESSIVE
            first, last, low_bit = (0, 63, 0) if whole else (*segment[-3:-1], segment[-1] & 15)
            scan = product(segment[1 : 1 + 2 * segment[0] : 2], range(first, last + 1))
            left = left.union(scan) if low_bit else left.difference(scan)
            restarts, begin = 0, position
            while (following := NEXT_MARKER.search(data, position)) and following[1][0] in RESTARTS:
                if not interval or following[1][0] != RESTARTS[restarts % len(RESTARTS)]:
                    return FOREIGN
                restarts, position = restarts + 1, following.end()
            if following is None:
                return CUT
            position = following.start()
            tables = [zeros.get(choice & 15, 0) for choice in segment[2 : 2 + 2 * segment[0] : 2]]
            if last and segment[-1] < 16 and any(tables) and data.find(HOLE, begin, position) >= 0:
                return BLANK
    return FOREIGN if scanned else None


def first_symbols(segment: bytes) -> dict[int, int]:
    """By AC table of a segment, the size of the coefficient whose code is all zeros; 0 where that ends a block.

    A long run of zeros is then a block full of the smallest coefficients, which no photo has.
    """
    first, position = {}, 0
    while position + 17 < len(segment):
        table = segment[position]
        if table >= 16:
            first[table - 16] = segment[position + 17] & 15
        position += 17 + sum(segment[position + 1 : position + 17])
    return first
