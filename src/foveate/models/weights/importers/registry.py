"""The registry of importers, and the interface of an imported network."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from foveate.core.errors import FoveateError, ModelError, WeightsError
from foveate.core.text import did_you_mean
from foveate.models.weights.importers.naming import unwrapped

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[np.generic]]

Outputs = dict[str, torch.Tensor]
Run = Callable[..., Outputs]
Builder = TypeVar("Builder", bound=Callable[..., "Imported"])

_BUILDERS: dict[str, Callable[..., Imported]] = {}


class Imported(nn.Module):
    """A network of this package with the interface of the original that it was imported from.

    Args:
        model: The network of this package, which can be trained and saved.
        run: Called with the network and the original's inputs; returns its outputs by name.
        inputs: Names of the inputs, in the original's order.
        arch: Architecture of ``model`` in the registry.
        settings: Arguments of that architecture, besides the number of classes.
    """

    def __init__(
        self,
        model: nn.Module,
        run: Run,
        inputs: tuple[str, ...] = ("clip",),
        arch: str = "",
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.inputs = inputs
        self.arch = arch
        self.settings = dict(settings or {})
        self._run = run
        self.eval()

    @torch.no_grad()
    def forward(self, **inputs: Any) -> Outputs:
        """Run the network like the original, without gradients.

        Args:
            **inputs: Arrays or tensors under the original's names, in its layout.

        Returns:
            The original's outputs by name.

        Raises:
            ModelError: An input is missing or unknown.
        """
        if set(inputs) != set(self.inputs):
            raise ModelError(
                f"the inputs are {', '.join(self.inputs)}, not {', '.join(inputs) or 'none'}"
            )
        given = {name: torch.as_tensor(value) for name, value in inputs.items()}
        return self._run(self.model, **given)


def importer(system: str) -> Callable[[Builder], Builder]:
    """Enter a builder ``(arrays, **config) -> Imported`` under the name of a source.

    Args:
        system: Lower-case name of the project whose arrays the builder understands.

    Raises:
        ModelError: The name is taken by another function.
    """

    def enter(build: Builder) -> Builder:
        known = _BUILDERS.get(system)
        if known is not None and known.__qualname__ != build.__qualname__:
            raise ModelError(f"the importer {system!r} is registered twice")
        _BUILDERS[system] = build
        return build

    return enter


@cache
def _discover() -> None:
    """Import every source of this package once."""
    package = importlib.import_module(__package__)
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{__package__}.{module.name}")


def systems() -> list[str]:
    """Return the names of all importers, sorted."""
    _discover()
    return sorted(_BUILDERS)


def from_arrays(system: str, arrays: Arrays, **config: Any) -> Imported:
    """Build a network from the named arrays of another project.

    Args:
        system: The project, one of ``systems()``.
        arrays: Its parameters and buffers by their original names and in their original layout;
            prefixes of wrappers are removed (see ``naming.unwrapped``).
        **config: Arguments of the original's network.

    Returns:
        The network in evaluation mode with the interface of the original; see ``Imported``.

    Raises:
        WeightsError: Unknown system or network; or arrays that are missing, unexpected or of the
            wrong shape, all listed by their original names.
        ModelError: An unsupported configuration.
    """
    _discover()
    build = _BUILDERS.get(system)
    if build is None:
        raise WeightsError(f"there is no importer {system!r}", did_you_mean(system, _BUILDERS))
    try:
        return build(unwrapped(arrays), **config)
    except FoveateError:
        raise
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        # Importers expect the shapes and settings of the original.
        raise WeightsError(f"arrays or settings do not have the form of {system}") from error


def checksums(x: torch.Tensor) -> torch.Tensor:
    """Return a checksum of large maps: mean, root mean square and a projection per sample.

    The projection is sum_i x_i cos(0.7 i + 0.1) / sqrt(n) over the sample's values in order, so
    that it depends on their order; all in double precision, as in the parity data.

    Args:
        x: (B, ...).

    Returns:
        (B, 3) float32.
    """
    flat = x.detach().cpu().double().flatten(1)
    count = flat.shape[1]
    wave = torch.cos(0.7 * torch.arange(count, dtype=torch.float64) + 0.1)
    columns = (flat.mean(1), flat.square().mean(1).sqrt(), flat @ wave / count**0.5)
    return torch.stack(columns, 1).float()
