"""Imports on first use: public names of a package (PEP 562), optional packages, entry points."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

from foveate.core.errors import MissingExtra


def lazy_names(
    package: str, modules: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a package that imports its names when they are used.

    Args:
        package: `__name__` of the package.
        modules: Public name → module of the package that defines it.
    """

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{modules[name]}"), name)

    return get, lambda: sorted(modules)


def import_extra(module: str, extra: str) -> ModuleType:
    """Import a module of an optional dependency.

    Args:
        module: Its full name.
        extra: The extra of this package that installs it.

    Raises:
        MissingExtra: It is not installed.
    """
    try:
        return import_module(module)
    except ImportError:
        raise MissingExtra(module.partition(".")[0], extra) from None


def entry_point_values(group: str) -> Iterator[tuple[str, Any]]:
    """What the entry points of installed packages name; one that cannot be imported is a warning.

    Args:
        group: Of the entry points.

    Yields:
        The entry point as written (`NAME = MODULE:OBJECT`), and the object.
    """
    for point in entry_points(group=group):
        name = f"{point.name} = {point.value}"
        try:
            value = point.load()
        except Exception as error:  # code of another package: anything may happen
            reason = f"cannot be imported ({type(error).__name__}: {error})"
            warnings.warn(f"entry point {name}: {reason}", stacklevel=2)
        else:
            yield name, value
