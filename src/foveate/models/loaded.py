"""A model with its weights, however it was found: its networks by name, and how to feed them."""

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

NETWORK = "network"  # the name of the only network, and of the method that runs it


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """What `foveate.models.load` returns.

    Attributes:
        name: Of the run folder, as it was asked for, or of the weights.
        networks: By name, in evaluation mode, with gradients enabled.
        labels: Name of every output, in order; none where the classifier is fresh.
        input: How frames are prepared.
        output: Whether the classes exclude each other (`softmax`) or not (`sigmoid`).
        method: What joins the networks; `network` where there is one.
        card: Of the run folder, None for weights of the table.
        entry: Of the table of weights, None for a run folder.
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
            raise ModelError(f"{self.name}: not one network but several: {names}")
        return next(iter(self.networks.values()))

    def input_of(self, part: str) -> InputSpec:
        """How what a network takes is prepared: as its own card says, or the model's."""
        own = None if self.card is None else self.card.networks[part].input
        return self.input if own is None else own.spec()
