"""Measurements as JSON, which has no NaN: null stands for it."""

import json
import math
from typing import Any

RENAMED = {"colour_offset": "color_offset"}  # in runs of earlier versions


def dumps(value: object, indent: int | None = None) -> str:
    return json.dumps(without_nan(value), indent=indent, allow_nan=False)


def without_nan(value: Any) -> Any:
    """The same with None for NaN, in dictionaries and lists, too."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def loads(text: str) -> dict:
    """Read a line of images.jsonl, whose nulls all are NaN."""
    return json.loads(
        text, object_hook=lambda found: {RENAMED.get(k, k): math.nan if v is None else v for k, v in found.items()}
    )
