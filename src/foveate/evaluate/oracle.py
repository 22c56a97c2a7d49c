"""The oracle: the window for which the network gives the true class the highest probability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from foveate.core import ConfigError, Executor, Look, Sample, View, ViewRequest
from foveate.evaluate.truth import Labelled, columns_of, items_of
from foveate.pipeline import fetch
from foveate.pipeline.ledger import Ledger
from foveate.pipeline.recogniser import Recogniser
from foveate.pipeline.session import Plan, Session
from foveate.policy import OracleGrid, PatchLook
from foveate.policy.looks.adafocus import AdaFocusLook
from foveate.policy.stopping import probabilities

_TOGETHER = 7  # windows in one call of the network

Box = tuple[float, float, float, float]


class OracleRecogniser(Recogniser):
    """A recogniser that looks where the true class is most probable: what patches could reach.

    Every window of the grid is tried on the network; its MACs include that. Its gain over the
    whole view estimates what a better choice of windows could gain.

    Args:
        plain: With a look that chooses windows, whose size and rate are kept.
        dataset: Gives the true classes.
        split: Which videos it will process.
        cells: Windows along each side of the frame.

    Raises:
        ConfigError: The videos have no single label each, or the look chooses no windows.
    """

    def __init__(
        self, plain: Recogniser, dataset: Labelled, split: str | None, cells: int = 7
    ) -> None:
        look = plain.plan.look
        places = look.where if isinstance(look, AdaFocusLook) else look
        if not isinstance(places, PatchLook):
            raise ConfigError("the oracle chooses windows", "start from a look such as resize")
        super().__init__(
            plain.executor,
            plain.labels,
            look=look,
            decide=plain.plan.decide,
            budget=plain.plan.budget,
            window=plain.plan.window_seconds,
            output=plain.output,
            preset=plain.preset,
            preset_name=plain.preset_name,
            limits=plain.limits,
        )
        items = items_of(dataset, split)
        if any(len(item.labels) != 1 for item in items):
            raise ConfigError("the oracle needs videos of one label each")
        columns = columns_of(dataset.classes, plain.labels, plain.name)
        column = dict(zip(dataset.classes, columns, strict=True))
        self._answers = {_key(item.source): column[item.labels[0]] for item in items}
        self._grid = OracleGrid(
            places.size, places.rate, places.frame, places.chunk, places.extent, cells=cells
        )

    def _session(self, source: Any, sample: Sample, ledger: Ledger, plan: Plan) -> Session:
        """A session whose look knows the true class."""
        column = self._answers[_key(source)]
        tried = Tried(self.executor, ledger, column, self._grid.size, self.output)
        places = replace(self._grid, score=tried)
        look: Look = places
        if isinstance(plan.look, AdaFocusLook):  # the focus network alone chooses its places
            look = replace(plan.look, where=places)
        return super()._session(source, sample, ledger, replace(plan, look=look))


class Tried:
    """The probability of a class in each of several windows of the same frames.

    Args:
        executor: Runs the network.
        ledger: Is charged under `policy`.
        column: Of the class.
        size: Side of the network input in pixels.
        output: `softmax` or `sigmoid`.
    """

    def __init__(
        self,
        executor: Executor,
        ledger: Ledger,
        column: int,
        size: int,
        output: str = "softmax",
    ) -> None:
        self._executor, self._ledger = executor, ledger
        self._column, self._size, self._output = column, size, output

    def __call__(
        self, sample: Sample, times: tuple[float, ...], boxes: Sequence[Box]
    ) -> np.ndarray[Any, Any]:
        """Probabilities (K,) of K windows."""
        spec = self._executor.input("network")
        frame = sample.info.width, sample.info.height
        asked = [ViewRequest(times, boxes=(box,) * len(times), size=self._size) for box in boxes]
        clip = sample.frames(times, fetch.decode_size_for(frame, spec, asked[0]))
        if not len(clip):
            return np.zeros(len(boxes))
        found: list[float] = []
        for first in range(0, len(asked), _TOGETHER):
            cut = [
                fetch.cut_out(clip, frame, spec, one) for one in asked[first : first + _TOGETHER]
            ]
            views = [{"rgb": View(pixels[None], clip.times, np.ones(1, bool))} for pixels in cut]
            states, _ = self._run("network", views, [None] * len(views))
            _, answers = self._run(self._executor.head or "head", [{} for _ in views], states)
            found += [
                float(probabilities(one.logits[one.exit], self._output)[self._column])
                for one in answers
            ]
        return np.array(found)

    def _run(self, part: str, views: Sequence[Any], states: Sequence[Any]) -> tuple[Any, Any]:
        pairs = zip(views, states, strict=True)
        macs = sum(self._executor.cost(part, view, state) for view, state in pairs)
        self._ledger.add("policy", calls=0, macs=macs)
        return self._executor.run(part, views, states)


def _key(source: Any) -> Any:
    """Key of a source: its path, or the identity of the array."""
    return str(source) if hasattr(source, "__fspath__") or isinstance(source, str) else id(source)
