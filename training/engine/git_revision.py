"""The revision of the code that made a result."""

import subprocess
from pathlib import Path


def git_revision() -> str:
    """The commit of this checkout, with "-dirty" appended if tracked files have changed; "unknown" outside of a checkout."""
    head = git("rev-parse", "HEAD")
    changed = head and git("status", "--porcelain", "-uno")
    return f"{head}-dirty" if changed else head or "unknown"


def git(*arguments: str) -> str:
    """The output of a git command; empty if git fails or is not installed."""
    try:
        result = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, check=False, cwd=Path(__file__).parent
        )
    except OSError:
        return ""
    return result.stdout.strip()
