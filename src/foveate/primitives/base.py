"""Primitives: the frozen, typed settings that a pipeline is made of, and their registry.

A primitive is a pydantic model with a literal `kind`, by which the union of its group is
discriminated. Its fields carry their bounds (`pydantic.Field`) and, where a study may vary them, a
`Search` annotation. Packages add primitives with entry points of the group `foveate.primitives`.
"""

from __future__ import annotations

import pkgutil
import warnings
from collections.abc import Iterator
from functools import cache, reduce
from importlib import import_module
from operator import or_
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from foveate.core.config import Config
from foveate.core.lazy import entry_point_values
from foveate.core.search import Search

__all__ = ["Primitive", "Search", "kind_of", "registered", "union"]

ENTRY_POINTS = "foveate.primitives"
# Group → beginnings of the names of the modules of this package that define its primitives.
GROUPS: dict[str, tuple[str, ...]] = {
    "samplers": ("samplers",),
    "transforms": ("transforms", "augment"),
    "modalities": ("modalities",),
    "recognisers": ("recognisers",),
    "training": ("training",),
}


class Primitive(Config):
    """Base of all primitives: immutable, without unknown keys, and named by its `kind`.

    A subclass that can be used in a pipeline has a literal kind: `kind: Literal["tsm"] = "tsm"`.

    Attributes:
        group: The group of the registry that the class belongs to, one of `GROUPS`.
    """

    group: ClassVar[str] = ""

    kind: str


def kind_of(primitive: type[Primitive]) -> str | None:
    """The literal kind of a class, None for a base class."""
    kind = primitive.model_fields["kind"].default
    return kind if isinstance(kind, str) else None


@cache
def registered(group: str) -> dict[str, type[Primitive]]:
    """The primitives of a group by kind: those of this package, then those of entry points.

    An entry point that cannot be used is left out with a warning, so that a broken package does
    not stop others.

    Args:
        group: One of `GROUPS`.
    """
    found: dict[str, type[Primitive]] = {}
    for name in _modules(GROUPS[group]):
        for value in vars(import_module(name)).values():
            if _belongs(value, group):
                found.setdefault(str(kind_of(value)), value)
    for point, value in entry_point_values(ENTRY_POINTS):
        if not (isinstance(value, type) and issubclass(value, Primitive) and kind_of(value)):
            _warn(point, "is no Primitive with a literal kind")
        elif value.group not in GROUPS:
            _warn(point, f"its group {value.group!r} is none of {', '.join(GROUPS)}")
        elif value.group == group and kind_of(value) in found:
            _warn(point, f"{group} have a {kind_of(value)} already")
        elif value.group == group:
            found[str(kind_of(value))] = value
    return found


def union(group: str) -> Any:
    """The type of a field that takes any primitive of a group, discriminated by `kind`."""
    return Annotated[
        reduce(or_, registered(group).values()),
        Field(discriminator="kind"),
        BeforeValidator(kind_or_values),
    ]


def kind_or_values(value: Any) -> Any:
    """The values of a primitive; a text is a kind with its defaults."""
    return {"kind": value} if isinstance(value, str) else value


def _modules(beginnings: tuple[str, ...]) -> Iterator[str]:
    package = import_module(__package__)
    for module in pkgutil.walk_packages(package.__path__, f"{__package__}."):
        if module.name.removeprefix(f"{__package__}.").startswith(beginnings):
            yield module.name


def _belongs(value: Any, group: str) -> bool:
    return (
        isinstance(value, type)
        and issubclass(value, Primitive)
        and value.group == group
        and kind_of(value) is not None
    )


def _warn(point: str, reason: str) -> None:
    warnings.warn(f"entry point {point}: {reason}", stacklevel=3)
