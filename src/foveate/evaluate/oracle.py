"""The oracle: the window that somebody would choose who knows the answer, and asks the network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from foveate.core import ConfigError, Sample, Selection
from foveate.evaluate.truth import Labelled, columns_of, items_of
from foveate.models.spec import InputSpec
from foveate.pipeline import views
from foveate.pipeline.cascade import CascadeNetwork
from foveate.pipeline.network import Network
from foveate.pipeline.recogniser import Recogniser
from foveate.pipeline.session import Plan, Session
from foveate.policy import OracleGrid, PatchLook

_TOGETHER = 7  # windows in one call of the network

Box = tuple[float, float, float, float]


class OracleRecogniser(Recogniser):
    """A recogniser that looks where the right class is likeliest: what patches could reach.

    Every window of the grid is tried on the network, so it is dear, and its MACs say so. What it
    gains over the whole view is what a better choice of windows could gain.

    Args:
        plain: With a look that chooses windows, whose size and rate are kept.
        dataset: Knows the answers.
        split: Which videos it will be asked for.
        cells: Windows along each side of the frame.

    Raises:
        ConfigError: The videos have no single label each, or the look chooses no windows.
    """

    def __init__(
        self, plain: Recogniser, dataset: Labelled, split: str | None, cells: int = 7
    ) -> None:
        look, network = plain._plan.look, plain._network
        if not isinstance(look, PatchLook) or isinstance(network, CascadeNetwork):
            raise ConfigError("the oracle chooses windows", "start from a look such as resize")
        super().__init__(
            network, plain._plan, plain.preset, plain.labels, plain.preset_name, plain._limits
        )
        self._shown = network
        items = items_of(dataset, split)
        if any(len(item.labels) != 1 for item in items):
            raise ConfigError("the oracle needs videos of one label each")
        columns = columns_of(dataset.classes, plain.labels, plain.name)
        column = dict(zip(dataset.classes, columns, strict=True))
        self._answers = {_key(item.source): column[item.labels[0]] for item in items}
        self._grid = OracleGrid(
            look.size, look.rate, look.frame, look.chunk, look.extent, cells=cells
        )

    def opener(
        self, source: Any, fps: float | None = None, plan: Plan | None = None
    ) -> Callable[[], Session]:
        """Opens a source with a look that knows its answer."""
        plan = plan or self._plan
        tried = Tried(self._shown, plan.spec, plan.device, self._answers[_key(source)],
                      self._grid.size, plan.output)  # fmt: skip
        look = replace(self._grid, score=tried)
        return super().opener(source, fps, replace(plan, look=look))


class Tried:
    """How likely the network finds a class in each of several windows of the same frames.

    Args:
        network: Is shown the windows.
        spec: Of its input.
        device: Where it runs.
        column: Of the class.
        size: Side in pixels of what it is shown.
        output: Whether the classes exclude each other.
    """

    def __init__(
        self,
        network: Network,
        spec: InputSpec,
        device: torch.device,
        column: int,
        size: int,
        output: str = "softmax",
    ) -> None:
        self._network, self._spec, self._device = network, spec, device
        self._column, self._size, self._output = column, size, output

    def __call__(
        self, sample: Sample, times: tuple[float, ...], boxes: Sequence[Box]
    ) -> tuple[np.ndarray[Any, Any], int]:
        """Probabilities (K,) of K windows, and the multiply-adds that it took."""
        chosen = [Selection(times, (box,) * len(times), size=self._size) for box in boxes]
        clip = views.fetch(sample, self._spec, chosen[0])
        frame = sample.info.width, sample.info.height
        if not len(clip):
            return np.zeros(len(boxes)), 0
        found: list[np.ndarray[Any, Any]] = []
        macs = 0
        for first in range(0, len(chosen), _TOGETHER):
            part = chosen[first : first + _TOGETHER]
            x = torch.cat(
                [
                    views.to_views(
                        views.cut_out(clip, frame, self._spec, one), self._spec, self._device
                    )
                    for one in part
                ]
            )
            network: Any = self._network
            evidence, state = network(x, None)
            macs += network.observe_macs(tuple(x.shape)) + network.answer_macs(len(part), state)
            logits = evidence.logits[evidence.exit].float()
            likely = logits.sigmoid() if self._output == "sigmoid" else logits.softmax(-1)
            found.append(likely[:, self._column].cpu().numpy())
        return np.concatenate(found), macs


def _key(source: Any) -> Any:
    """What a source is known by: its path, or the array itself."""
    return str(source) if hasattr(source, "__fspath__") or isinstance(source, str) else id(source)
