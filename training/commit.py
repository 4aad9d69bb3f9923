"""Which code made something."""

import subprocess
from pathlib import Path


def commit() -> str:
    """The repository's commit, "-dirty" after it where its files have changed since; "unknown" outside of a checkout."""
    head = git("rev-parse", "HEAD")
    changed = head and git("status", "--porcelain", "-uno")
    return f"{head}-dirty" if changed else head or "unknown"


def git(*arguments: str) -> str:
    """What git says; nothing where it fails, or is not on this machine."""
    try:
        result = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, check=False, cwd=Path(__file__).parent
        )
    except OSError:
        return ""
    return result.stdout.strip()
