"""Which weights and which images they were."""

import hashlib
from pathlib import Path

CHUNK = 1 << 24  # bytes


def sha256(path: Path) -> str:
    """Of a file of any size."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
