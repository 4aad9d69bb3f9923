"""Recipes are frozen dataclasses, read strictly from YAML."""

import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path

import yaml


class ConfigError(ValueError):
    """A config file that does not fit its dataclass; the message lists every problem."""


def read(cls: type, path: str | Path, overrides: list[str] = []):
    """An instance of the dataclass `cls` from the YAML file `path`, and from the one that it `extends`, if any.

    `overrides` are `dotted.key=value` strings, the values in YAML, the items of lists by number. Raises ConfigError naming unknown and missing keys
    and values of a wrong type.
    """
    values = load(Path(path))
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator:
            raise ConfigError(f"--set {override}: expected dotted.key=value")
        target, *parents, last = values, *key.split(".")
        for parent in parents:
            if isinstance(target, list):
                target = target[position(target, parent, override)]
            elif isinstance(target, dict):
                target = target.setdefault(parent, {})
        if not isinstance(target, dict | list):
            raise ConfigError(f"--set {override}: {'.'.join(parents)} is {target!r}, which has no parts")
        where = position(target, last, override) if isinstance(target, list) else last
        target[where] = parse(value, f"--set {override}")
    problems: list[str] = []
    config = build(cls, values, "", problems)
    if problems:
        raise ConfigError(f"{path}: " + "; ".join(problems))
    return config


def position(items: list, key: str, override: str) -> int:
    if not key.isdecimal() or int(key) >= len(items):
        raise ConfigError(f"--set {override}: {key} is none of the list's {len(items)} items, numbered from 0")
    return int(key)


def load(path: Path) -> dict:
    values = parse(path.read_text(encoding="utf-8"), str(path)) or {}
    if isinstance(values, dict) and "extends" in values:
        values = merge(load(path.parent / values.pop("extends")), values)
    return values


def parse(text: str, where: str) -> typing.Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: not YAML: {' '.join(str(error).split())}") from error


def merge(below: dict, above: dict) -> dict:
    """`below` with the values of `above`, mapping by mapping."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(below.get(key), dict)
        merged[key] = merge(below[key], value) if both else value
    return merged


def build(cls: type, values: object, where: str, problems: list[str]):
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
    except ConfigError as error:
        problems.append(str(error))
        return None


def convert(hint: typing.Any, value: object, where: str, problems: list[str]):
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
    """Raises ConfigError where two settings that belong together differ."""
    if value != other_value:
        raise ConfigError(f"{name} is {value} but {other} is {other_value}; set both to the same")
