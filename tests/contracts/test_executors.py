"""Every executor: batches equal single sources, states are values, costs are known beforehand."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import is_dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from nontrivial import randomise

import foveate.pipeline
from foveate.core import InputSpec, View
from foveate.models import LoadedModel, registry
from foveate.models.coviar import MODALITIES, CompressedNet, ExitNetwork
from foveate.pipeline.adafocus import AdaFocusExecutor
from foveate.pipeline.adamml import AdaMMLExecutor
from foveate.pipeline.cascade import CascadeExecutor
from foveate.pipeline.detection import DetectExecutor
from foveate.pipeline.ensemble import EnsembleExecutor
from foveate.pipeline.executors import ClipExecutor, StreamExecutor
from foveate.pipeline.exported import ExportedDetector, exported_executor
from graphs import graphs_of

SPEC = InputSpec(size=32, frames_per_second=5.0, clip_frames=4)
CPU = torch.device("cpu")


def _cascade(exported: bool = False) -> CascadeExecutor:
    torch.manual_seed(0)
    networks: Any = {
        name: ExitNetwork(CompressedNet(name, "test_resnet", 7)) for name in MODALITIES
    }
    shown = _graphs(networks, "cascade") if exported else networks
    return CascadeExecutor(shown, ("mv", "iframe"), spec=SPEC)


def _over(kind: Any, name: str) -> Any:
    return kind(randomise(registry.create_tiny(name)), CPU, SPEC)


def _ensemble() -> EnsembleExecutor:
    members = {name: _over(StreamExecutor, "movinet-a0-stream") for name in ("even", "odd")}
    return EnsembleExecutor(members, SPEC)


def _detector() -> DetectExecutor:
    torch.manual_seed(0)
    small = {"channels": (16, 32, 64), "repeats": (2, 2, 2)}
    network = registry.create(
        "lsts", num_classes=7, detector="fastestdet", detector_settings=small, embedding=8, count=4
    )
    return DetectExecutor(randomise(network), CPU, SPEC)


def _adafocus(exported: bool = False) -> AdaFocusExecutor:
    tiny = registry.entry("uni-adafocus").tiny | {"size": 32, "patch": 16, "glances": 4}
    network: Any = randomise(registry.create("uni-adafocus", **tiny))
    if exported:
        network = _graphs({"network": network}, "adafocus", frames=8)["network"]
    return AdaFocusExecutor(network, SPEC, candidates=8)


def _adamml(exported: bool = False) -> AdaMMLExecutor:
    tiny = {**registry.entry("adamml").tiny, "modalities": ("rgb",), "frames": 4}
    network: Any = randomise(registry.create("adamml", **tiny))
    if exported:
        network = _graphs({"network": network}, "adamml")["network"]
    return AdaMMLExecutor(network, SPEC, ("rgb",))


def _graphs(networks: dict[str, Any], method: str = "network", **options: Any) -> Any:
    labels = tuple(f"class {i}" for i in range(7))
    return graphs_of(LoadedModel("tiny", networks, labels, SPEC, method=method), **options)


def _exported(name: str) -> Any:
    network = randomise(registry.create_tiny(name))
    return exported_executor(_graphs({"network": network})["network"], SPEC)


def _exported_detector() -> ExportedDetector:
    spec = replace(SPEC, resize="squash", crop="none")
    network = randomise(registry.create_tiny("fastestdet"))
    labels = ("person", "dog", "kite")
    loaded = LoadedModel("tiny", {"network": network}, labels, spec, method="detector")
    return ExportedDetector(graphs_of(loaded)["network"], SPEC)


EXAMPLES: dict[str, Callable[[], Any]] = {
    "StreamExecutor": lambda: _over(StreamExecutor, "movinet-a0-stream"),
    "ClipExecutor": lambda: _over(ClipExecutor, "movinet-a0"),
    "CascadeExecutor": _cascade,
    "EnsembleExecutor": _ensemble,
    "DetectExecutor": _detector,
    "AdaFocusExecutor": _adafocus,
    "AdaMMLExecutor": _adamml,
    "ExportedStream": lambda: _exported("movinet-a0-stream"),
    "ExportedClip": lambda: _exported("movinet-a0"),
    "ExportedDetector": _exported_detector,
    "CascadeExecutor, exported": lambda: _cascade(exported=True),
    "AdaFocusExecutor, exported": lambda: _adafocus(exported=True),
    "AdaMMLExecutor, exported": lambda: _adamml(exported=True),
}
METHODS = ("input", "stage", "run", "cost", "batch_key")


def executors() -> set[str]:
    """Names of the classes below `foveate.pipeline` that can run and are no base of others."""
    found: dict[str, Any] = {}
    for module in pkgutil.iter_modules(foveate.pipeline.__path__, "foveate.pipeline."):
        for name, one in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if one.__module__ == module.name and all(hasattr(one, m) for m in METHODS):
                found[name] = one
    return {name for name, one in found.items() if not one.__subclasses__()}


def views(executor: Any, part: str, seed: int) -> dict[str, View]:
    """Frames of one row for a part, random."""
    random = np.random.default_rng(seed)
    modality = {"mv": "mv", "iframe": "iframe", "move": "motion"}.get(part.partition(".")[0], "rgb")
    times = tuple(i / 5 for i in range(4))
    if modality == "mv":
        array = random.normal(size=(1, 4, 32, 32, 2)).astype(np.float32)
    elif modality == "motion":
        array = random.normal(size=(1, 4, 8, 8, 3)).astype(np.float32)
    else:
        array = random.integers(0, 256, (1, 4, 32, 32, 3)).astype(np.uint8)
        array = array.astype(np.float32) if modality == "iframe" else array
    regions = ((0.0, 0.0, 32.0, 32.0),) * 4
    return {modality: View(array, times, np.ones((1, 4), bool), regions)}


def first(executor: Any) -> str:
    return executor.parts[0]


def answer(executor: Any, seed: int = 3) -> tuple[str, dict[str, View]]:
    """The part that answers, and its views: the head, or a frame that is no key frame."""
    if executor.head is not None:
        return executor.head, {}
    part = "nonkey" if "nonkey" in executor.parts else "move"
    return part, views(executor, part, seed)


def said(evidence: Any) -> list[np.ndarray]:
    """The numbers of an answer."""
    if evidence.logits:
        return list(evidence.logits.values())
    return [one for frame in evidence.detections for one in (frame.boxes, frame.scores)]


def flat(value: Any) -> list[np.ndarray]:
    """The arrays of a state, in order of their names."""
    if is_dataclass(value):
        value = vars(value)
    if isinstance(value, dict):
        return [one for key in sorted(value) for one in flat(value[key])]
    return [np.asarray(value.tolist())] if hasattr(value, "shape") else []


def test_every_executor_has_an_example() -> None:
    assert executors() == {name.partition(",")[0] for name in EXAMPLES}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_batch_equals_its_sources(name: str) -> None:
    executor = EXAMPLES[name]()
    part = first(executor)
    seen = [views(executor, part, seed) for seed in (1, 2)]
    keys = [executor.batch_key(part, view, None) for view in seen]
    assert keys[0] == keys[1]
    hash(keys[0])
    together, _ = executor.run(part, seen, [None, None])
    for view, state in zip(seen, together, strict=True):
        (alone,), _ = executor.run(part, [view], [None])
        for a, b in zip(flat(state), flat(alone), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    head, none = answer(executor)
    states, evidence = executor.run(head, [none, none], together)
    assert len(states) == len(evidence) == 2
    for one, state in zip(evidence, together, strict=True):
        _, (alone,) = executor.run(head, [none], [state])
        assert said(one)
        for a, b in zip(said(one), said(alone), strict=True):
            assert a.size
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    first_one, second = (np.concatenate([a.ravel() for a in said(one)]) for one in evidence)
    assert first_one.shape != second.shape or not np.allclose(first_one, second)


@pytest.mark.parametrize("name", EXAMPLES)
def test_states_are_values(name: str) -> None:
    executor = EXAMPLES[name]()
    part = first(executor)
    (state,), _ = executor.run(part, [views(executor, part, 1)], [None])
    before = [one.copy() for one in flat(state)]
    head, none = answer(executor)
    executor.run(head, [none], [state])
    if "Cascade" not in name:  # its parts run once each
        executor.run(part, [views(executor, part, 2)], [state])
    assert all(np.array_equal(a, b) for a, b in zip(before, flat(state), strict=True))


@pytest.mark.parametrize(
    ("name", "torch_name"),
    [
        ("ExportedStream", "StreamExecutor"),
        ("ExportedClip", "ClipExecutor"),
        ("CascadeExecutor, exported", "CascadeExecutor"),
    ],
)
def test_an_exported_network_does_what_the_module_does(name: str, torch_name: str) -> None:
    """The same answers, costs and stages, part by part."""
    graphs, modules = EXAMPLES[name](), EXAMPLES[torch_name]()
    states: list[Any] = [None, None]
    parts = [part for part in modules.parts if part != "glance"]
    assert parts == list(graphs.parts)
    for step, part in enumerate([*parts, parts[0]] if len(parts) == 1 else parts):
        fresh = states[0] is None or modules.stage(part) != modules.stage(parts[step - 1])
        view = views(modules, part, step) if fresh or len(parts) == 1 else {}
        for at, one in enumerate((modules, graphs)):
            assert one.cost(part, view, states[at]) == modules.cost(part, view, states[0])
            assert one.stage(part) == modules.stage(part)
        new = [
            one.run(part, [view], [state])[0][0]
            for one, state in zip((modules, graphs), states, strict=True)
        ]
        assert modules.cost("head", {}, new[0]) == graphs.cost("head", {}, new[1])
        found = [
            one.run("head", [{}], [state])[1][0]
            for one, state in zip((modules, graphs), new, strict=True)
        ]
        assert found[0].exit == found[1].exit
        wanted, got = (next(reversed(list(one.logits.values()))) for one in found)
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
        if found[0].features is not None:
            np.testing.assert_allclose(found[1].features, found[0].features, rtol=1e-4, atol=1e-5)
        states = new


@pytest.mark.parametrize("name", EXAMPLES)
def test_parts_have_an_input_a_stage_and_a_cost(name: str) -> None:
    executor = EXAMPLES[name]()
    part = first(executor)
    view = views(executor, part, 1)
    head, none = answer(executor)
    for one in (*executor.parts, head):
        assert isinstance(executor.stage(one), str)
    assert executor.input(part) == SPEC
    look = executor.cost(part, view, None)
    (state,), _ = executor.run(part, [view], [None])
    last = executor.cost(head, none, state)
    assert isinstance(look, int)
    assert isinstance(last, int)
    assert look >= 0
    assert look + last > 0
