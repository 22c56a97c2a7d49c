"""A network whose parts are graphs, called with NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from foveate.core import ConfigError, ModelError, WeightsError
from foveate.core.text import plural
from foveate.engines.runtimes import (
    BATCH,
    RUNS,
    Array,
    Call,
    Engine,
    check_engine,
    installed,
    open_graph,
)
from foveate.models.loaded import LoadedModel
from foveate.models.weights.builtin import CARD
from foveate.models.weights.exported import (
    ExportCard,
    ExportedNetwork,
    GraphCard,
    Precision,
    StateCard,
    TensorCard,
)
from foveate.models.weights.resolve import sha256_of
from foveate.models.weights.run import RunCard, read_run

State = dict[str, Array]


class PartFunctions:
    """Functions of NumPy arrays by name, which executors call: graphs, or parts of a torch module.

    Rows of a batch are independent. What a function remembers is an input and an output of it.

    Attributes:
        facts: See `ExportedNetwork`.
        device: Where they run: name of an engine, or a torch device.
    """

    facts: Any = None
    device: Any

    def has(self, name: str) -> bool:
        """Whether there is a function of that name."""
        raise NotImplementedError

    def sized(self, prefix: str, side: int) -> str:
        """The name of the function for frames of a side, which is made if it can be.

        Raises:
            ConfigError: It was exported for other sides.
        """
        raise NotImplementedError

    def inputs(self, name: str) -> Sequence[TensorCard]:
        """The inputs of a function."""
        raise NotImplementedError

    def state(self, name: str) -> Sequence[StateCard]:
        """How the next state of a function follows."""
        raise NotImplementedError

    def macs(self, name: str) -> int:
        """Multiply-adds of a call for a batch of one."""
        raise NotImplementedError

    def call(self, name: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Call a function with all its inputs, batch first.

        Raises:
            ModelError: It fails on them.
        """
        raise NotImplementedError

    def initial(self, name: str, rows: int) -> State:
        """The state before the first call: zeros."""
        keys = {key for one in self.state(name) for key in one.inputs}
        return {
            one.name: np.zeros(_shape(one, rows), one.dtype)
            for one in self.inputs(name)
            if one.name in keys
        }

    def step(
        self, name: str, given: Mapping[str, Array], state: State | None
    ) -> tuple[State, State]:
        """Call a function with state.

        Args:
            name: Its name.
            given: The inputs that are no state.
            state: Before the call; None at the start. It is not changed.

        Returns:
            The outputs that are no state, and the state after the call.
        """
        if state is None:
            state = self.initial(name, len(next(iter(given.values()))))
        found = self.call(name, {**given, **state})
        after = dict(state)
        for one in self.state(name):
            if one.output is None:
                after[one.inputs[0]] = state[one.inputs[0]] + 1
                continue
            for key, later in zip(one.inputs, one.inputs[1:], strict=False):
                after[key] = state[later]
            after[one.inputs[-1]] = found.pop(one.output)
        return found, after


class EngineNetwork(PartFunctions):
    """The graphs of one network in an engine; a graph is opened at the latest when it is called.

    Args:
        name: Of the model, for messages.
        folder: Of the graphs.
        card: What the folder says of them.
        engine: Runs them.
        precision: Of the computation.
        threads: Threads of one call.
        more: Makes the graphs for frames of another side and returns their folder and card; None
            if there are only those that were exported.

    Attributes:
        kind: See `ExportedNetwork`.
        streaming: Whether it runs frame by frame.
        mixes_frames: See `ExportedNetwork`.
        exits: Names of the exits, in order.
        least_score: See `ExportedNetwork`.
        overlap: See `ExportedNetwork`.
        engine: Name of the engine.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        card: ExportedNetwork,
        engine: Engine,
        precision: Precision,
        threads: int = 1,
        more: Callable[[int], tuple[Path, ExportedNetwork]] | None = None,
    ) -> None:
        self.name, self.kind, self.engine = name, card.kind, engine
        self.device, self.facts = engine, card.facts
        self.streaming, self.mixes_frames = card.kind == "stream", card.mixes_frames
        self.exits = tuple(card.exits)
        self.least_score, self.overlap = card.least_score, card.overlap
        self._how = (engine, precision, threads)
        self._more = more
        self._graphs: dict[str, tuple[Path, GraphCard]] = {}
        self._opened: dict[str, Call] = {}
        self._add(folder, card)

    def _add(self, folder: Path, card: ExportedNetwork) -> None:
        for name, graph in card.graphs.items():
            self._graphs.setdefault(name, (folder, graph))

    def has(self, name: str) -> bool:
        """Whether there is a graph of that name."""
        return name in self._graphs

    def sized(self, prefix: str, side: int) -> str:
        """The name of the graph for frames of a side, which is made if it can be.

        Raises:
            ConfigError: It was exported for other sides.
        """
        name = f"{prefix}-{side}"
        if name not in self._graphs and self._more is not None:
            self._add(*self._more(side))
        if name not in self._graphs:
            known = [n.rpartition("-")[2] for n in self._graphs if n.startswith(f"{prefix}-")]
            raise ConfigError(
                f"{self.name}: exported for frames of {', '.join(known)} pixels, not of {side}",
                f"export it again with --size {','.join([*known, str(side)])}",
            )
        return name

    def spans(self, side: int, count: int) -> Iterator[tuple[str, slice]]:
        """The graphs that run the next frames of streams, and which of the frames each takes.

        Args:
            side: Of the frames in pixels.
            count: Number of frames.

        Raises:
            ConfigError: See `sized`.
        """
        single, several, start = self.sized("step", side), f"chunk-{side}", 0
        size: Any = self.card(several).inputs[0].shape[1] if self.has(several) else count + 1
        while start < count:
            graph, taken = (several, size) if count - start >= size else (single, 1)
            yield graph, slice(start, start + taken)
            start += taken

    def advance(self, frames: Array, state: State | None) -> tuple[State, State]:
        """Run the next frames of streams.

        Args:
            frames: (B, n, S, S, 3) uint8, n at least 1.
            state: Before them; None at the start. It is not changed.

        Returns:
            Outputs after the last frame that are no state (a published file has its head within),
            and the state.
        """
        found: State = {}
        for graph, span in self.spans(frames.shape[2], frames.shape[1]):
            card = self.card(graph).inputs[0]
            given = frames[:, span] if len(card.shape) == 5 else frames[:, span.start]
            if card.dtype == "uint8":
                given = np.ascontiguousarray(given)
            else:  # published files take 0..1
                given = (given.astype(np.float32) / 255).reshape(len(given), *card.shape[1:])
            found, state = self.step(graph, {card.name: given}, state)
        assert state is not None
        return found, state

    def head(self, state: State) -> State:
        """Logits, and features, for all that streams have seen."""
        return self.call("head", {one.name: state[one.name] for one in self.card("head").inputs})

    def open(self, *graphs: str) -> None:
        """Open graphs now, so that the first call takes no longer than others; all if none named.

        Raises:
            ModelError: The engine cannot open a file.
        """
        for name in graphs or self._graphs:
            folder, card = self._graphs[name]
            self._opened[name] = open_graph(folder, card, *self._how)

    def card(self, name: str) -> GraphCard:
        """Inputs, outputs, state and cost of a graph."""
        return self._graphs[name][1]

    def inputs(self, name: str) -> Sequence[TensorCard]:
        """The inputs of a graph."""
        return self.card(name).inputs

    def state(self, name: str) -> Sequence[StateCard]:
        """How the next state of a graph follows."""
        return self.card(name).state

    def macs(self, name: str) -> int:
        """Multiply-adds of a call for a batch of one."""
        return self.card(name).macs

    def call(self, name: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Call a graph with all its inputs; row by row if it was exported for a batch of one."""
        if name not in self._opened:
            self.open(name)
        run, card = self._opened[name], self.card(name)
        first = inputs[card.inputs[0].name]
        rows, shape = len(first), tuple(card.inputs[0].shape)
        if shape[1:] != first.shape[1:]:
            raise ModelError(
                f"{self.name}: {name} was exported for an input of shape {shape}, not {first.shape}"
            )
        if rows == 1 or BATCH in card.inputs[0].shape:
            return run(inputs)
        each = [run({key: value[i : i + 1] for key, value in inputs.items()}) for i in range(rows)]
        return {key: np.concatenate([one[key] for one in each]) for key in each[0]}


def open_exported(
    folder: Path,
    name: str,
    *,
    engine: Engine | None = None,
    precision: Precision | None = None,
    threads: int = 1,
    memory: str | None = None,
    more: Callable[[int], Path] | None = None,
) -> LoadedModel:
    """Open an exported model; see `EngineNetwork`.

    Args:
        folder: The run folder.
        name: As requested, for messages and results.
        engine: One that runs the format of the folder; the first that is installed if None.
        precision: Of the computation; that of the graphs if None.
        threads: Threads of one call.
        memory: What means over time must remember (`Preset.memory`).
        more: Exports the same model for frames of another side and returns the folder.

    Raises:
        WeightsError: The folder is damaged.
        ConfigError: An engine, a precision or a memory that the graphs do not have.
        MissingExtra: The engine is not installed.
    """
    card = read_run(folder)
    exported = _exported(folder, card)
    engine = _engine_for(exported, name, engine)
    precision = precision or exported.precision
    check_engine(engine, precision, exported.precision)
    if memory != exported.memory:
        raise ConfigError(
            f"memory={memory}: {name} was exported with {exported.memory or 'none'}",
            "export it again with --set memory=...",
        )

    def sides_of(part: str) -> Callable[[int], tuple[Path, ExportedNetwork]] | None:
        if more is None:
            return None

        def make(side: int) -> tuple[Path, ExportedNetwork]:
            other = more(side)
            return other, _exported(other, read_run(other)).networks[part]

        return make

    networks: dict[str, Any] = {
        part: EngineNetwork(name, folder, one, engine, precision, threads, sides_of(part))
        for part, one in exported.networks.items()
    }
    for network in networks.values():
        if network.kind != "parts":  # of which a look may use some only
            network.open()
    return LoadedModel(
        name=name,
        networks=networks,
        labels=tuple(card.classes),
        input=card.input.spec(),
        output=card.output,
        method=card.method,
        card=card,
    )


def _engine_for(exported: ExportCard, name: str, engine: Engine | None) -> Engine:
    """The engine of a folder, checked.

    Raises:
        ConfigError: None, or another one than was asked for, runs its format.
    """
    known = RUNS[exported.format]
    if not known:
        raise ConfigError(
            f"{name}: exported as {exported.format}, which is for other programs",
            "foveate export MODEL --format onnx makes a folder that predict runs",
        )
    if engine is None:
        return next((one for one in known if one in installed()), known[0])
    if engine not in known:
        raise ConfigError(
            f"engine {engine}: does not run {name}, which was exported as {exported.format}",
            f"one of: {', '.join(known)}",
        )
    return engine


def _exported(folder: Path, card: RunCard) -> ExportCard:
    """The graphs of a run folder, every file compared with its digest.

    Raises:
        WeightsError: A file is missing or changed, or the card contradicts itself.
    """
    exported = card.exported
    if exported is None or exported.networks.keys() != card.networks.keys():
        raise WeightsError(f"{folder.name}/{CARD}: exported.networks: not those of the model")
    for network in exported.networks.values():
        for graph in network.graphs.values():
            _check_state(folder, graph)
            for file, wanted in graph.files.items():
                if sha256_of(folder / file) != wanted:
                    hint = "copy the folder again; its files belong together"
                    raise WeightsError(f"{folder.name}/{file}: does not match {CARD}", hint)
    return exported


def _check_state(folder: Path, graph: GraphCard) -> None:
    """Refuse a state that names no input or output of the graph.

    Raises:
        WeightsError: It does.
    """
    inputs, outputs = ({one.name for one in part} for part in (graph.inputs, graph.outputs))
    keys = [key for one in graph.state for key in one.inputs]
    made = {one.output for one in graph.state if one.output is not None}
    if not set(keys) <= inputs or len(set(keys)) < len(keys) or not made <= outputs:
        raise WeightsError(f"{folder.name}/{CARD}: exported: a state that the graph does not have")


def logits_of(network: EngineNetwork, clip: Array) -> Iterator[Array]:
    """The logits (classes,) of an exported network after each frame, of a clip, or at each exit.

    Of a detector, its boxes and scores in each frame. Of a stream, the last row is there twice:
    found frame by frame, and with as many frames in each call as the graphs take.
    """
    if network.kind == "detector":
        found = network.call(network.sized("detect", clip.shape[1]), {"frames": clip})
        rows = found["boxes"].reshape(len(clip), -1)
        yield from np.concatenate([rows, found["scores"]], 1)
        return
    if network.kind == "exits":
        given = {"pictures": clip}
        for at in range(len(network.exits)):
            found = network.call(f"exit-{at}", given)
            yield found["logits"].mean(0)
            given = {"maps": found["next:maps"]}
        return
    if not network.streaming:
        graph = network.sized("clip", clip.shape[1])
        yield network.call(graph, {"frames": clip[None]})["logits"][0]
        return
    state: State | None = None
    for at in range(len(clip)):
        _, state = network.advance(clip[None, at : at + 1], state)
        yield network.head(state)["logits"][0]
    _, state = network.advance(clip[None], None)
    yield network.head(state)["logits"][0]


def _shape(card: TensorCard, rows: int) -> list[int]:
    """The shape of a state of several rows; a graph for one row is called row by row."""
    shape = [1 if isinstance(size, str) else size for size in card.shape]
    return [shape[0] * rows, *shape[1:]]


def stacked(states: Sequence[State]) -> State:
    """The states of several sources as one batch; one state is not copied."""
    if len(states) == 1:
        return states[0]
    return {key: np.concatenate([one[key] for one in states]) for key in states[0]}


def taken_apart(values: State, rows: Sequence[int]) -> list[State]:
    """A batch's arrays by source (copies, so that one source does not hold all others)."""
    if len(rows) == 1:
        return [values]
    ends = np.cumsum(rows)
    return [
        {key: value[end - count : end].copy() for key, value in values.items()}
        for end, count in zip(ends, rows, strict=True)
    ]


def summary(exported: ExportCard) -> str:
    """One line on what was exported."""
    graphs = sum(len(one.graphs) for one in exported.networks.values())
    return (
        f"{plural(graphs, 'graph')} ({exported.format}, {exported.precision}), largest difference "
        f"of a logit {exported.parity:.1e} of the largest"
    )
