"""What decoders of JPEG do not tell: scans that are missing, or interrupted by foreign bytes."""

import re
from itertools import product

MARKER = re.compile(rb"\xff+([^\x00\xff])")  # FF 00 is a byte of a scan, further FFs before a marker are fill
END, SCAN, RESTART_INTERVAL = 0xD9, 0xDA, 0xDD
RESTARTS = range(0xD0, 0xD8)
SEQUENTIAL, PROGRESSIVE = (0xC0, 0xC1), 0xC2  # frames that are Huffman-coded
FOREIGN, MISSING = "damaged: foreign bytes in its code", "damaged: scans are missing"
COEFFICIENTS = range(64)


def flaw(data: bytes) -> str | None:
    """What is wrong with the scans of a JPEG; None also where its end is missing, which decoders tell."""
    position, interval, frame = 2, 0, 0
    left: set[tuple[int, int]] = set()  # components and coefficients of which bits are yet to come
    scanned = False
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
        elif kind == SCAN and segment:
            scanned = True
            whole = frame != PROGRESSIVE
            first, last, low_bit = (0, 63, 0) if whole else (*segment[-3:-1], segment[-1] & 15)
            scan = product(segment[1 : 1 + 2 * segment[0] : 2], range(first, last + 1))
            left = left.union(scan) if low_bit else left.difference(scan)
            restarts = 0
            while (following := MARKER.search(data, position)) and following[1][0] in RESTARTS:
                if not interval or following[1][0] != RESTARTS[restarts % len(RESTARTS)]:
                    return FOREIGN
                restarts, position = restarts + 1, following.end()
            if following is None:
                return None
            position = following.start()
    return FOREIGN if scanned else None
