"""Recipes are frozen dataclasses, read strictly from YAML."""

import logging
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path

import yaml

log = logging.getLogger(__name__)
RENAMED = {  # former name of a setting -> its name; both are read, the former with a warning
    "accumulate": "gradient_accumulation_steps",
    "checkpointing": "gradient_checkpointing",
    "keep": "save_total_limit",
    "known_weight": "unmasked_weight",
    "weight_cap": "max_snr_weight",
    "colour_error": "color_error",
    "estimated_share": "predicted_x0_share",
    "views": "crops",
}


class ConfigError(ValueError):
    """A config file that does not fit its dataclass; the message lists every problem."""


def read(cls: type, path: str | Path, overrides: list[str] = []):
    """An instance of the dataclass `cls` from the YAML file `path`, and from the file that it `extends`, if any.

    `overrides` are `dotted.key=value` strings: values are YAML, list items are addressed by number. Former names of
    settings (`RENAMED`) are read with a warning. Raises ConfigError that names unknown and missing keys and values of
    the wrong type.
    """
    values = load(Path(path))
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator:
            raise ConfigError(f"--set {override}: expected dotted.key=value")
        target, *parents, last = values, *(current_name(part, f"--set {override}") for part in key.split("."))
        for parent in parents:
            if isinstance(target, list):
                target = target[position(target, parent, override)]
            elif isinstance(target, dict):
                target = target.setdefault(parent, {})
        if not isinstance(target, dict | list):
            raise ConfigError(f"--set {override}: {'.'.join(parents)} is {target!r}, not a mapping or list")
        where = position(target, last, override) if isinstance(target, list) else last
        target[where] = read_yaml(value, f"--set {override}")
    problems: list[str] = []
    config = build(cls, values, "", problems)
    if problems:
        raise ConfigError(f"{path}: " + "; ".join(problems))
    return config


def current_name(key: str, where: str) -> str:
    """The name of a setting; a former one is replaced, with a warning."""
    if key in RENAMED:
        log.warning("%s: %s is now called %s", where, key, RENAMED[key])
    return RENAMED.get(key, key)


def with_current_names(values: object, rename: Callable[[str], str] = lambda key: RENAMED.get(key, key)) -> typing.Any:
    """YAML's mappings and lists with every key renamed. Raises ConfigError for a setting given by both its names."""
    if isinstance(values, list):
        return [with_current_names(value, rename) for value in values]
    if not isinstance(values, dict):
        return values
    renamed = {rename(key): with_current_names(value, rename) for key, value in values.items()}
    if len(renamed) < len(values):
        old = next(key for key in values if RENAMED.get(key) in values)
        raise ConfigError(f"{old} and {RENAMED[old]} are the former and the present name of one setting; remove {old}")
    return renamed


def position(items: list, key: str, override: str) -> int:
    """The index that `key` writes. Raises ConfigError if the list has no such item."""
    if not key.isdecimal() or int(key) >= len(items):
        raise ConfigError(f"--set {override}: {key} is none of the list's {len(items)} items, numbered from 0")
    return int(key)


def load(path: Path) -> dict:
    """The mapping in a YAML file, merged over the file that it `extends`, if any.

    Where there is no file `align-linear.yaml`, it is align.yaml with the changes that its table `variants` lists as `linear`.
    Raises ConfigError if the file is not YAML.
    """
    if not path.exists() and (found := find_variant(path)):
        base, name = found
        return merge(load(base), variant(variants(base), name))
    values = read_yaml(path.read_text(encoding="utf-8"), str(path)) or {}
    if isinstance(values, dict):
        values.pop("variants", None)
    if isinstance(values, dict) and "extends" in values:
        values = merge(load(path.parent / values.pop("extends")), values)
    return values


def variants(path: Path) -> dict[str, dict]:
    """The table `variants` of a YAML file: name -> the settings that it changes. Empty if there is none."""
    values = read_yaml(path.read_text(encoding="utf-8"), str(path))
    return values.get("variants", {}) if isinstance(values, dict) else {}


def find_variant(path: Path) -> tuple[Path, str] | None:
    """The file and the variant's name that `file-name.yaml` stands for, or None."""
    parts = path.stem.split("-")
    for i in range(1, len(parts)):
        base, name = path.with_stem("-".join(parts[:i])), "-".join(parts[i:])
        if base.exists() and name in variants(base):
            return base, name
    return None


def variant(table: dict[str, dict], name: str) -> dict:
    """The changes of one variant, merged over those of the variant that it `extends`, if any."""
    changes = dict(table[name])
    below = changes.pop("extends", None)
    return merge(variant(table, below), changes) if below else changes


def read_yaml(text: str, where: str) -> typing.Any:
    """The value of a YAML text, settings under their present names. Raises ConfigError, which begins with `where`, if it is
    not YAML."""
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: not YAML: {' '.join(str(error).split())}") from error
    return with_current_names(values, lambda key: current_name(key, where))


def merge(below: dict, above: dict) -> dict:
    """`below`, updated with the values of `above`; mappings in both are merged in turn."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(below.get(key), dict)
        merged[key] = merge(below[key], value) if both else value
    return merged


def build(cls: type, values: object, where: str, problems: list[str]):
    """An instance of the dataclass `cls`, or None after adding to `problems` what is wrong with `values`, found at `where`."""
    if not isinstance(values, Mapping):
        problems.append(f"{where.rstrip('.') or 'the file'} is {values!r}, expected a mapping")
        return None
    hints = typing.get_type_hints(cls)
    known = {field.name for field in fields(cls)}
    problems += [f"unknown key {where}{key}" for key in values if key not in known]
    arguments = {}
    for field in fields(cls):
        if field.name in values:
            arguments[field.name] = convert(hints[field.name], values[field.name], f"{where}{field.name}", problems)
        elif field.default is MISSING and field.default_factory is MISSING:
            problems.append(f"missing key {where}{field.name}")
    if problems:
        return None
    try:
        return cls(**arguments)
    except (ValueError, ZeroDivisionError) as error:
        problems.append(str(error))
        return None


def convert(hint: typing.Any, value: object, where: str, problems: list[str]):
    """`value` as the type `hint`, or None after adding to `problems` what was expected at `where`."""
    if isinstance(hint, type) and is_dataclass(hint):
        return build(hint, value, where + ".", problems)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and isinstance(value, list):
        inner = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(inner) == len(value):
            return tuple(
                convert(h, v, f"{where}[{i}]", problems) for i, (h, v) in enumerate(zip(inner, value, strict=True))
            )
    elif origin is typing.Literal:
        if value is False and "no" in arguments:  # YAML's own reading of a bare no
            return "no"
        if value in arguments:
            return value
    elif origin in (types.UnionType, typing.Union):  # the latter for Literal | None
        if value is None and type(None) in arguments:
            return None
        return convert(next(a for a in arguments if a is not type(None)), value, where, problems)
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif isinstance(hint, type) and type(value) is hint:
        return value
    expected = " or ".join(map(repr, arguments)) if origin is typing.Literal else getattr(hint, "__name__", str(hint))
    remedy = "; write 1.0e-4, not 1e-4" if hint is float and isinstance(value, str) else ""
    problems.append(f"{where} is {value!r}, expected {expected}{remedy}")
    return None


def require_same(name: str, value: object, other: str, other_value: object) -> None:
    """Raises ConfigError if two settings that must be equal differ."""
    if value != other_value:
        raise ConfigError(f"{name} is {value} but {other} is {other_value}; set both to the same")
