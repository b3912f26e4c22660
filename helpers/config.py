"""Configurations, which are frozen dataclasses: their checks, and the names they are stored under."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields

TYPE_NAMES = {int: "an integer", float: "a finite number", bool: "True or False", str: "text"}
STORED_NAMES = {"rdo_strength": "thrift"}  # fields that weights and records know by a former name


def check_types(config: object) -> None:
    """Raises ValueError for the first field of a configuration that is not of its type."""
    for field in fields(config):
        value, kind = getattr(config, field.name), field.type
        right = type(value) in ((int, float) if kind is float else (kind,))  # True is no integer here
        if kind in TYPE_NAMES and not (right and (kind is not float or math.isfinite(value))):
            raise ValueError(f"{field.name} is {value!r}; it must be {TYPE_NAMES[kind]}")


def check_known(config: object, **known: Iterable[str]) -> None:
    """Raises ValueError for the first field that is none of its known values."""
    for name, values in known.items():
        if getattr(config, name) not in values:
            raise ValueError(f"{name} is {getattr(config, name)!r}; known are {', '.join(values)}")


def check_range(config: object, names: Iterable[str], low: float, high: float = math.inf) -> None:
    """Raises ValueError for the first of these fields that lies outside low..high."""
    for name in names:
        if not low <= getattr(config, name) <= high:
            limits = f"be at least {low}" if high == math.inf else f"lie in {low}..{high}"
            raise ValueError(f"{name} is {getattr(config, name)!r}; it must {limits}")


def to_stored(config: object) -> dict:
    """A configuration, with those inside it, as a dict with the names of STORED_NAMES."""
    return _renamed(asdict(config), STORED_NAMES)


def from_stored(values: Mapping) -> dict:
    """The fields of a configuration as they are called now, of a dict that `to_stored` made."""
    return _renamed(values, {stored: name for name, stored in STORED_NAMES.items()})


def _renamed(values: object, names: Mapping[str, str]) -> object:
    if not isinstance(values, Mapping):
        return values
    return {names.get(key, key): _renamed(value, names) for key, value in values.items()}
