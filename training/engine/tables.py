"""Tables that grow row by row: CSV files that stay readable whenever their writer dies."""

import csv
import io
import logging
from collections.abc import Sequence
from pathlib import Path

from asuka_modules.atomic import atomic_write

log = logging.getLogger(__name__)
Row = dict[str, str]  # column -> number as text, or "" where there is none; one column is "step"


def read_rows(path: Path) -> list[Row]:
    """The intact rows of a table; a warning tells how many are not. Empty if there is no such file."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").replace("\0", "?").splitlines(keepends=True)
    whole = lines if not lines or lines[-1].endswith("\n") else lines[:-1]
    rows = list(csv.DictReader(whole))
    intact = [row for row in rows if is_intact(row)]
    if damaged := len(rows) - len(intact) + len(lines) - len(whole):
        log.warning("%s: %d damaged rows left out", path, damaged)
    return intact


def is_intact(row: dict) -> bool:
    """Whether a row has a number or nothing in every column, and a step."""
    if None in row or None in row.values() or not row.get("step", "").isdecimal():
        return False
    try:
        [float(cell) for cell in row.values() if cell]
    except ValueError:
        return False
    return True


def columns(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(column for row in rows for column in row))


def as_csv(rows: Sequence[Row], columns: list[str], header: bool) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Writes a table, whole or not at all; a table without rows is removed. Raises OSError."""
    if not rows:
        path.unlink(missing_ok=True)
        return
    with atomic_write(path) as partial:
        partial.write_text(as_csv(rows, columns(rows), header=True), encoding="utf-8")


def append_row(path: Path, rows: list[Row], row: Row) -> None:
    """Adds a row to `rows` and to the file that holds them. Raises OSError that names the file."""
    known = columns(rows)
    rows.append(row)
    if columns(rows) != known or not path.exists():
        write_rows(path, rows)
        return
    try:
        with path.open("a", encoding="utf-8", newline="") as file:
            file.write(as_csv([row], known, header=False))
    except OSError as error:
        raise OSError(f"{path}: not written ({error}); free some space and start again") from error
