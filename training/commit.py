"""Which code made something."""

import subprocess
from pathlib import Path


def commit() -> str:
    """The repository's commit, or "unknown" outside of a checkout."""
    try:
        result = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, cwd=Path(__file__).parent
        )
    except OSError:
        return "unknown"  # no git on this machine
    return result.stdout.strip() or "unknown"
