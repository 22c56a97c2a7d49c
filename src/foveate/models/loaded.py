"""A loaded model: its networks by name, labels and input specification."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from foveate.core.errors import ModelError
from foveate.models.spec import InputSpec

if TYPE_CHECKING:
    from torch import nn

    from foveate.models.weights.run import RunCard
    from foveate.models.weights.table import WeightEntry

NETWORK = "network"  # name of a single network, and of the method that runs it


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model as `foveate.models.load` returns it.

    Attributes:
        name: Name of the run folder as requested, or of the weights.
        networks: By name, in evaluation mode, with gradients enabled.
        labels: Names of the outputs, in order; empty if the classifier is randomly initialised.
        input: How frames are prepared.
        output: `softmax` for exclusive classes, `sigmoid` for independent ones.
        method: How the networks are combined; `network` for a single one.
        card: Card of the run folder, None for weights of the table.
        entry: Entry in the table of weights, None for a run folder.
    """

    name: str
    networks: Mapping[str, nn.Module]
    labels: tuple[str, ...]
    input: InputSpec
    output: Literal["softmax", "sigmoid"] = "softmax"
    method: str = NETWORK
    card: RunCard | None = None
    entry: WeightEntry | None = None

    @property
    def network(self) -> nn.Module:
        """The only network.

        Raises:
            ModelError: There are several.
        """
        if len(self.networks) != 1:
            names = ", ".join(self.networks)
            raise ModelError(f"{self.name}: has several networks: {names}")
        return next(iter(self.networks.values()))

    def input_of(self, part: str) -> InputSpec:
        """The input of a network: from its own card, or else the model's."""
        own = None if self.card is None else self.card.networks[part].input
        return self.input if own is None else own.spec()
