"""All policies by the names of their specifications.

Modules of `policy.looks` are discovered; each specification in them adds a name. Nothing
here loads torch, so that the command can print a configuration at once.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from functools import reduce
from importlib import import_module
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from foveate.policy import calibration, looks, stopping
from foveate.policy.looks.base import LookSpec
from foveate.policy.stopping import DecideSpec


def named(base: type[Any], modules: Iterator[Any]) -> dict[str, type[Any]]:
    """Subclasses of a specification by their names, in the order of modules and lines.

    A class without a fixed name is a base of others and is left out.
    """
    found: dict[str, type[Any]] = {}
    for module in modules:
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, base):
                name = value.model_fields["name"].default  # type: ignore[attr-defined]
                if isinstance(name, str):
                    found.setdefault(name, value)
    return found


LOOKS: dict[str, type[LookSpec]] = named(
    LookSpec,
    (import_module(f"{looks.__name__}.{one.name}") for one in pkgutil.iter_modules(looks.__path__)),
)
ALIASES = {"full": "uniform"}  # what comparisons of patches call the look at whole frames
DECISIONS: dict[str, type[DecideSpec]] = named(DecideSpec, iter((stopping, calibration)))

if TYPE_CHECKING:
    AnyLook = LookSpec
    TrainedLook = LookSpec
    AnyDecide = DecideSpec
else:
    AnyLook = Annotated[reduce(or_, LOOKS.values()), Field(discriminator="name")]
    TrainedLook = Annotated[
        reduce(or_, (one for one in LOOKS.values() if one.trains)), Field(discriminator="name")
    ]
    AnyDecide = Annotated[reduce(or_, DECISIONS.values()), Field(discriminator="name")]
