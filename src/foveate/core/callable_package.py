"""Packages that share their name with their main function."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any


class CallablePackage(ModuleType):
    """A package that can be called like the function of its own name.

    `foveate.train` is a function of the public API and the package of the recipes. An import of
    anything below the package binds its name in `foveate`, so a plain function there would be
    replaced by the package as soon as it was used. Set as the `__class__` of a module; see
    "Customizing module attribute access" in the Python Language Reference.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self._function(*args, **kwargs)

    @property
    def __signature__(self) -> inspect.Signature:
        """The signature of the function, for `inspect.signature` and editors."""
        return inspect.signature(self._function)

    @property
    def _function(self) -> Callable[..., Any]:
        found: Callable[..., Any] = getattr(self, self.__name__.rpartition(".")[2])
        return found
