"""Exported models: the same answers in every engine, without PyTorch, and refusals in one line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nontrivial import randomise
from torch import nn

import foveate
from clips import encode
from foveate.app import export as app
from foveate.app.evaluate import opened
from foveate.app.requests import BenchEnginesRequest, ExportRequest
from foveate.core import ConfigError, InputSpec, MissingExtra, ModelError, View, WeightsError
from foveate.engines import cache
from foveate.engines.export import PARITY, export, moving_frames, suited
from foveate.engines.functions import CHUNK, functions_of
from foveate.engines.network import open_exported
from foveate.models import LoadedModel, registry
from foveate.models.movinet_config import TINY, lite, table_text
from foveate.models.weights.run import InputCard, NetworkCard, RunCard, read_run, write_run
from foveate.pipeline.engines import fastest, load_model, remembered
from foveate.pipeline.executors import StreamExecutor
from foveate.pipeline.exported import exported_executor
from foveate.pipeline.presets import Preset, edit, resolve
from foveate.pipeline.recogniser import Recogniser
from foveate.policy import Context
from graphs import TorchGraphs
from tiny_weights import LABELS, SPEC

pytest.importorskip("onnxruntime", reason="needs the extra onnxruntime")
pytest.importorskip("onnxscript", reason="needs the extra onnxruntime")
ZOO = os.environ.get("FOVEATE_ZOO") == "1"


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    config = lite(replace(TINY, blocks=TINY.blocks[:2]))  # fewer layers are exported sooner
    return randomise(registry.create("movinet-a0-stream-lite", config=config, num_classes=7))


@pytest.fixture(scope="module")
def folder(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One export for all tests here: it takes seconds."""
    out = tmp_path_factory.mktemp("engines") / "exported"
    card = export(LoadedModel("tiny", {"network": network}, LABELS, SPEC), out)
    assert card.exported is not None
    assert 0 < card.exported.parity < PARITY
    return out


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def frames(seed: int, count: int = CHUNK + 2) -> dict[str, View]:
    random = np.random.default_rng(seed)
    array = random.integers(0, 256, (1, count, 32, 32, 3)).astype(np.uint8)
    return {"rgb": View(array, tuple(i / 5 for i in range(count)), np.ones(1, bool))}


def logits(executor: Any, views: list[Any]) -> np.ndarray:
    """(streams, classes) after two chunks of several streams in common calls."""
    states, _ = executor.run("network", views, [None] * len(views))
    states, _ = executor.run("network", views[::-1], states)
    _, found = executor.run("head", [{}] * len(views), states)
    return np.stack([one.logits["final"] for one in found])


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_streams_in_one_step_give_the_logits_of_the_network(
    engine: Any, folder: Path, network: nn.Module
) -> None:
    pytest.importorskip(engine)
    loaded: Any = open_exported(folder, "tiny", engine=engine)
    views = [frames(seed) for seed in range(3)]
    wanted = logits(StreamExecutor(network, torch.device("cpu"), SPEC), views)
    found = logits(exported_executor(loaded.network, SPEC), views)
    assert np.abs(found - wanted).max() < PARITY * np.abs(wanted).max()
    assert not np.allclose(found[0], found[1], rtol=1e-2)
    spans = [(graph, span.stop) for graph, span in loaded.network.spans(32, CHUNK + 2)]
    assert spans == [("chunk-32", CHUNK), ("step-32", CHUNK + 1), ("step-32", CHUNK + 2)]


def test_graphs_of_another_size_are_compared_at_that_size(network: nn.Module) -> None:
    """A model of whole frames whose look shows smaller patches."""
    spec = replace(SPEC, size=48)
    one = functions_of(LoadedModel("tiny", {"network": network}, LABELS, spec), (32,))["network"]
    assert set(one.functions) == {"step-32", "chunk-32", "head"}
    (clip,) = suited([], one, spec, (32,))
    assert clip.shape[1:] == (32, 32, 3)
    assert one.reference(clip).shape == (len(clip), len(LABELS))


def test_a_folder_predicts_what_the_model_predicts(folder: Path, network: nn.Module) -> None:
    context = Context(SPEC)
    preset = Preset()
    module = Recogniser(
        StreamExecutor(network, torch.device("cpu"), SPEC), LABELS,
        look=preset.look.build(context), window=SPEC.clip_seconds, preset=preset,
    )  # fmt: skip
    clip = encode(frames=70)
    wanted, found = module.predict(clip), foveate.load(folder).predict(clip)
    assert [s.label for s in found.segments] == [s.label for s in wanted.segments]
    scores = {one.label: one.score for one in wanted.labels}
    assert {one.label: one.score for one in found.labels} == pytest.approx(scores, rel=1e-3)
    assert found.cost.macs == wanted.cost.macs
    assert [s.name for s in found.cost.stages] == [s.name for s in wanted.cost.stages]
    assert found.trace is not None
    assert wanted.trace is not None
    times = [[step.frames for step in r.trace.steps] for r in (found, wanted)]
    assert times[0] == times[1]


def test_predict_on_an_exported_folder_imports_no_torch(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(encode(frames=20))
    code = (
        "import sys\n"
        "sys.modules['torch'] = None\n"  # importing it fails from here on
        "from foveate.app.main import main\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "predict", str(tmp_path / "clip.mp4"), "--model", str(folder),
         "--json", "-"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["labels"]
    assert "Traceback" not in done.stderr


def test_the_cache_is_filled_once_and_then_no_weights_are_opened(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def make(model: str, target: Path, *options: Any) -> None:
        made.append((model, options))
        shutil.copytree(folder, target)

    monkeypatch.setattr(cache, "_make", make)
    monkeypatch.setattr(cache, "digest_of", lambda model: "ab" * 32)
    lines: list[str] = []
    preset = Preset(model="tiny.test")
    for _ in range(2):
        loaded, place = load_model(preset, engine="onnxruntime", notice=lines.append)
        assert place is None
        assert loaded.labels == LABELS
    assert len(made) == 1
    assert lines == ["exporting tiny.test for onnxruntime, once"]
    network: Any = loaded.network
    assert network.sized("step", 32) == "step-32"
    with pytest.raises(ConfigError, match="frames of 32 pixels, not of 48"):
        network.sized("step", 48)  # the copy has one size only
    assert made[-1][1][2] == 48  # it was asked for


class HiddenBuffer(nn.Module):
    """Keeps the last frame in a buffer, as ports of streaming networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("last", torch.zeros(1, 3, 4, 32, 32))
        self.classifier = nn.Linear(3, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x + self.last
        self.last.copy_(x)
        return self.classifier(y.mean((2, 3, 4)))


class HiddenAttribute(HiddenBuffer):
    """The same as a plain attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.before = torch.zeros(1, 3, 4, 32, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x + self.before
        self.before = x
        return self.classifier(y.mean((2, 3, 4)))


@pytest.mark.parametrize("kind", [HiddenBuffer, HiddenAttribute])
def test_hidden_state_cannot_be_exported(kind: Any, tmp_path: Path) -> None:
    loaded = LoadedModel("own", {"network": kind().eval()}, LABELS, InputSpec(32, 5.0, 4))
    with pytest.raises(ModelError, match="keeps state between calls"):
        export(loaded, tmp_path / "out")


def test_a_changed_file_is_refused(copy: Path) -> None:
    file = copy / "network.head.onnx"
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(WeightsError, match=r"network\.head\.onnx: does not match run\.json"):
        foveate.load(copy)
    file.unlink()
    with pytest.raises(WeightsError, match=r"network\.head\.onnx: cannot be read"):
        foveate.load(copy)


def changed(folder: Path, change: Any) -> None:
    card = json.loads((folder / "run.json").read_text())
    change(card["exported"])
    (folder / "run.json").write_text(json.dumps(card))


def test_a_contradictory_card_is_refused(copy: Path) -> None:
    changed(copy, lambda card: card["networks"]["network"]["graphs"]["step-32"]["state"].append(
        {"inputs": ["elsewhere"]}
    ))  # fmt: skip
    with pytest.raises(WeightsError, match="a state that the graph does not have"):
        foveate.load(copy)
    changed(copy, lambda card: card["networks"].update(other=card["networks"].pop("network")))
    with pytest.raises(WeightsError, match="not those of the model"):
        foveate.load(copy)
    changed(copy, lambda card: card.update(surprise=1))
    with pytest.raises(WeightsError, match="surprise"):
        foveate.load(copy)


def test_paths_in_a_card_stay_in_the_folder(copy: Path) -> None:
    def leave(card: Any) -> None:
        files = card["networks"]["network"]["graphs"]["head"]["files"]
        files["../head.onnx"] = files.pop("network.head.onnx")

    changed(copy, leave)
    with pytest.raises(WeightsError, match=r"run\.json"):
        foveate.load(copy)


def test_what_the_graphs_do_not_have_is_refused_in_one_line(folder: Path, copy: Path) -> None:
    for options, text in (
        ({"engine": "torch"}, "engine torch: does not run"),
        ({"engine": "litert"}, "engine litert: does not run"),
        ({"engine": "quick"}, "engine 'quick': unknown"),
        ({"precision": "int8"}, "precision int8: the graphs are fp32"),
        ({"precision": "bf16", "engine": "onnxruntime"}, "onnxruntime does not have it"),
        ({"precision": "fp8"}, "precision 'fp8': unknown"),
        ({"memory": "cumulative"}, "was exported with none"),
        ({"device": "cuda:0"}, "runs on the CPU"),
        ({"look": "activation-patch"}, "has no part 'glance'"),
    ):
        with pytest.raises(ConfigError, match=text):
            foveate.load(folder, **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="the engine torch computes in fp32"):
        foveate.load(precision="bf16", engine="torch")
    with pytest.raises(WeightsError, match="has graphs and no weights"):
        foveate.models.load(str(folder))
    changed(copy, lambda card: card.update(format="torchexport"))
    with pytest.raises(ConfigError, match="for other programs"):
        foveate.load(copy)


def test_export_refuses_before_it_works(tmp_path: Path, folder: Path) -> None:
    for model, options, text in (
        ("movinet-a0-stream-lite.k600", {"format": "onxx"}, "did you mean onnx"),
        (str(folder), {}, "is exported already"),
    ):
        with pytest.raises(ConfigError, match=text):
            foveate.export(model, tmp_path / "out", **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="not an empty folder"):
        foveate.export("movinet-a0-stream-lite.k600", folder)
    module = nn.Linear(1, 1)
    with pytest.raises(ConfigError, match="needs `labels=` and `input=`"):
        foveate.export(module, tmp_path / "out")
    one = LoadedModel("tiny", {"network": module}, LABELS, SPEC, method="elsewhere")
    with pytest.raises(ModelError, match="method 'elsewhere' cannot be exported"):
        export(one, tmp_path / "out")
    plain = LoadedModel("tiny", {"network": module}, LABELS, SPEC)
    for options, text in (
        ({"format": "litert", "precision": "int8"}, "needs clips to measure ranges on"),
        ({"precision": "bf16"}, "needs no other graphs"),
        ({"precision": "int8"}, "needs clips to measure ranges on"),
    ):
        with pytest.raises(ConfigError, match=text):
            export(plain, tmp_path / "out", **options)  # type: ignore[arg-type]


# --- LiteRT ----------------------------------------------------------------------------------


@pytest.mark.parametrize("gated", [False, True])
def test_stacked_kernels_give_the_logits_of_the_network(gated: bool, network: nn.Module) -> None:
    module = randomise(registry.create_tiny("movinet-a0-stream")) if gated else network
    one = functions_of(LoadedModel("tiny", {"network": module}, LABELS, SPEC), temporal="stacked")
    graphs = TorchGraphs("tiny", one["network"], single=True)
    maps = [one.shape for one in graphs.card("step-32").inputs[1:] if len(one.shape) == 4]
    assert maps
    assert all(shape[1] == shape[2] for shape in maps)  # (1, H, W, C)
    views = [frames(seed) for seed in range(2)]
    wanted = logits(StreamExecutor(module, torch.device("cpu"), SPEC), views)
    found = logits(exported_executor(graphs, SPEC), views)
    assert np.abs(found - wanted).max() < PARITY * np.abs(wanted).max()


def test_without_litert_torch_an_export_names_the_extra(
    network: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "litert_torch", None)
    loaded = LoadedModel("tiny", {"network": network}, LABELS, SPEC)
    with pytest.raises(MissingExtra, match=r"pip install 'foveate\[litert-export\]'"):
        export(loaded, tmp_path / "out", "litert")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="not in the format litert"):
        export(loaded, tmp_path / "out", "litert", precision="int8", clips=[moving_frames(SPEC)])


def test_litert_takes_the_published_file_unless_fp32_is_requested(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[tuple[str, bool]] = []

    def make(model: str, target: Path, *options: Any) -> None:
        made.append((target.name, options[-1]))
        raise ModelError("not made")

    pytest.importorskip("ai_edge_litert")
    monkeypatch.setattr(cache, "_make", make)
    for precision in (None, "int8", "fp32"):
        with pytest.raises(ModelError, match="not made"):
            load_model(Preset(), engine="litert", precision=precision)
    assert [published for _, published in made] == [True, True, False]
    assert made[0][0] == made[1][0] != made[2][0]
    own = "movinet-a0-stream-lite.fights"  # in a run folder of the package
    with pytest.raises(ConfigError, match="was not exported in int8"):
        load_model(Preset(model=own), engine="litert", precision="int8")
    with pytest.raises(ModelError, match="not made"):
        load_model(Preset(model=own), engine="litert")
    assert made[-1][1] is False


def test_auto_measures_litert_only_where_it_can_export(monkeypatch: pytest.MonkeyPatch) -> None:
    from foveate.pipeline import engines

    monkeypatch.setattr(engines, "installed", lambda: ["onnxruntime", "litert"])
    for found, wanted in ((None, ["torch", "onnxruntime"]),
                          (object(), ["torch", "onnxruntime", "litert"])):  # fmt: skip
        monkeypatch.setattr(engines, "find_spec", lambda name, found=found: found)
        assert engines._candidates("movinet-a0-stream-lite.k600", "fp32") == wanted


@pytest.mark.slow
def test_litert_files_are_written_and_run_without_torch(network: nn.Module, tmp_path: Path) -> None:
    pytest.importorskip("litert_torch", reason="needs the extra litert-export")
    card = export(
        LoadedModel("tiny", {"network": network}, LABELS, SPEC), tmp_path / "out", "litert"
    )
    assert card.exported is not None
    assert 0 < card.exported.parity < PARITY
    step = card.exported.networks["network"].graphs["step-32"]
    assert list(step.files) == ["network.step-32.tflite"]
    assert [one.name for one in step.inputs][:1] == ["frames"]
    (tmp_path / "clip.mp4").write_bytes(encode(frames=20))
    code = (
        "import sys\n"
        "sys.modules['torch'] = sys.modules['litert_torch'] = None\n"
        "from foveate.app.main import main\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "predict", str(tmp_path / "clip.mp4"), "--model",
         str(tmp_path / "out"), "--json", "-"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["labels"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["r3d-18", "tsn:resnet18"])
def test_networks_of_clips_become_litert_files(name: str, tmp_path: Path) -> None:
    pytest.importorskip("litert_torch", reason="needs the extra litert-export")
    shape = registry.entry(name).tiny_input
    module = randomise(registry.create_tiny(name))
    spec = InputSpec(shape[3], 5.0, shape[2])
    card = export(LoadedModel(name, {"network": module}, LABELS, spec), tmp_path / "out", "litert")
    assert card.exported is not None
    assert card.exported.parity < PARITY


def test_int8_graphs_are_smaller_and_follow_the_network(copy: Path, network: nn.Module) -> None:
    from foveate.engines.quantise import quantised

    card = read_run(copy).exported
    assert card is not None
    before = sum(file.stat().st_size for file in copy.glob("*.onnx"))
    one = quantised("tiny", copy, card.networks["network"], [moving_frames(SPEC)])
    assert sum(file.stat().st_size for file in copy.glob("*.onnx")) != before

    def change(values: Any) -> None:
        values["precision"] = "int8"
        values["networks"]["network"] = json.loads(one.model_dump_json())

    changed(copy, change)
    loaded: Any = open_exported(copy, "tiny")
    views = [frames(seed) for seed in range(2)]
    wanted = logits(StreamExecutor(network, torch.device("cpu"), SPEC), views)
    found = logits(exported_executor(loaded.network, SPEC), views)
    assert not np.allclose(found, wanted, rtol=1e-5)  # really quantised
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.98


def test_accuracy_of_model_and_export_is_measured_on_labelled_videos(
    folder: Path, copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = encode(frames=40)
    best = foveate.load(folder).predict(clip).labels[0].label
    card = json.loads((copy / "run.json").read_text())
    card["classes"] = [*card["classes"][1:], card["classes"][0]]  # the export answers otherwise
    (copy / "run.json").write_text(json.dumps(card))
    shown = {"train": encode(frames=30), "val": encode(frames=35), "test": clip}
    for split, content in shown.items():
        (tmp_path / "videos" / split / best).mkdir(parents=True)
        (tmp_path / "videos" / split / best / f"{split}.mp4").write_bytes(content)
    request = ExportRequest(model=str(folder), out=copy, labelled=tmp_path / "videos")
    assert request.data is not None
    app._accuracy(request, opened(request.data), Preset(model=str(folder)))
    assert "1.000 before, 0.000 exported, same label on 0.0%" in capsys.readouterr().out
    exported = read_run(copy).exported
    assert exported is not None
    assert exported.figures["top1-model"] == 1
    assert exported.figures["top1-exported"] == exported.figures["agreement"] == 0


# --- choosing --------------------------------------------------------------------------------


class Busy:
    """An executor that takes so many turns of a loop."""

    parts: tuple[str, ...] = ("network",)
    head = None
    persistent = False

    def __init__(self, turns: int) -> None:
        self.turns, self.calls = turns, 0

    def input(self, part: str) -> InputSpec:
        return SPEC

    def run(self, part: str, views: Any, states: Any) -> Any:
        self.calls += 1
        sum(range(self.turns))
        return states, [None] * len(views)


def test_the_fastest_engine_is_measured_once_and_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from foveate.pipeline import engines

    monkeypatch.setattr(engines, "installed", lambda: ["onnxruntime", "openvino"])
    monkeypatch.setattr(engines, "digest_of", lambda model: "ab" * 32)
    built: list[str] = []

    def build(name: str) -> Any:
        built.append(name)
        if name == "openvino":
            raise ModelError("no such operator")
        return Busy({"torch": 20000, "onnxruntime": 100}[name])

    lines: list[str] = []
    preset = Preset(model="other.test")
    assert fastest(preset, build, notice=lines.append) == "onnxruntime"
    assert built == ["torch", "onnxruntime", "openvino"]
    assert any("without openvino: no such operator" in line for line in lines)
    assert "onnxruntime" in lines[-1]
    assert "torch" in lines[-1]
    assert list(remembered().values()) == ["onnxruntime"]
    assert fastest(preset, build) == "onnxruntime"
    assert len(built) == 3
    assert fastest(preset, build, threads=2) == "onnxruntime"  # another key: measured again
    assert len(built) == 6


def test_without_engines_auto_is_torch_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from foveate.pipeline import engines

    monkeypatch.setattr(engines, "installed", list)
    lines: list[str] = []
    assert fastest(Preset(), lambda name: pytest.fail("built"), notice=lines.append) == "torch"
    assert lines == ["engine auto: torch (no other engine is installed here)"]


# --- the commands ----------------------------------------------------------------------------


def test_bench_engines_prints_a_table_and_remembers(
    folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    request = BenchEnginesRequest(model=str(folder), rounds=2, json_path=tmp_path / "table.json")
    assert app.bench(request) == 0
    out, err = capsys.readouterr()
    assert "onnxruntime fp32" in out
    assert "eight in one call" in out
    assert "torch" not in out
    assert "engine auto: " in err
    table = json.loads((tmp_path / "table.json").read_text())
    assert table["one"]["onnxruntime fp32"]["median"] > 0
    lines: list[str] = []
    best = fastest(
        Preset(model=str(folder)), lambda name: pytest.fail("built"), notice=lines.append
    )
    assert best in ("onnxruntime", "openvino")
    assert not lines


def test_export_as_torch_program(
    network: nn.Module, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arch = NetworkCard(arch="movinet-a0-stream-lite")
    card = RunCard(networks={"network": arch}, classes=list(LABELS), input=InputCard.of(SPEC))
    run = tmp_path / "run"
    tiny: Any = registry.create_tiny("movinet-a0-stream-lite")
    write_run(run, {"network": tiny}, card)
    loaded = LoadedModel("run", {"network": network}, LABELS, SPEC, card=read_run(run))
    written = export(loaded, tmp_path / "out", "torchexport", sides=(32, 48))
    assert written.exported is not None
    assert written.exported.weights == read_run(run).sha256
    graphs = written.exported.networks["network"].graphs
    assert set(graphs) == {"step-32", "chunk-32", "step-48", "chunk-48", "head"}
    program = torch.export.load(tmp_path / "out" / "network.head.pt2").module()
    mean = torch.rand(1, 24)
    inputs = {"head/sum": mean, "head/frames": torch.tensor([1])}
    logits, features = program(*(inputs[one.name] for one in graphs["head"].inputs))
    assert torch.allclose(logits, network.classify(mean), rtol=1e-4, atol=1e-5)  # type: ignore[operator]
    assert torch.allclose(features, mean)


def test_look_and_memory_travel_and_a_failed_export_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from foveate.engines import export as engine_export
    from foveate.pipeline.export import export as export_named

    arch = NetworkCard(arch="movinet-table-stream", settings={"table": table_text(TINY)})
    card = RunCard(networks={"network": arch}, classes=list(LABELS), input=InputCard.of(SPEC))
    run = tmp_path / "run"
    table: Any = registry.create("movinet-table-stream", table=table_text(TINY), num_classes=7)
    write_run(run, {"network": table}, card)
    asked: dict[str, Any] = {}

    def written(loaded: LoadedModel, folder: Path, format: str, **options: Any) -> RunCard:
        asked.update(options)
        (folder / "network.onnx").write_bytes(b"")
        if options["memory"] is None:
            raise ModelError("no such operator")
        return read_run(run)

    monkeypatch.setattr(engine_export, "export", written)
    out = tmp_path / "out"
    with pytest.raises(ModelError, match="no such operator"):
        export_named(str(run), out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
    preset = Preset(model=str(run), memory="exponential:4", top_k=2)
    export_named(edit(preset, {"look": {"name": "motion-patch", "size": 24}}), out)
    assert asked["sides"] == (24,)
    kept = resolve(str(out))[1]
    assert (kept.memory, kept.top_k, kept.look.name) == ("exponential:4", 2, "motion-patch")


def test_bench_and_bench_engines_are_two_commands(capsys: pytest.CaptureFixture[str]) -> None:
    from foveate.app.main import app as command

    for words, text in (
        (["bench", "--help"], "Compare models, or looks"),
        (["bench", "engines", "--help"], "Measure a model in every engine"),
    ):
        with pytest.raises(SystemExit):
            command(words, prog_name="foveate")
        assert text in capsys.readouterr().out


@pytest.mark.parametrize(("before", "after"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_idle_threads_sleep_unless_the_user_says_otherwise(
    before: str | None, after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from foveate.app import main

    monkeypatch.setenv("OMP_WAIT_POLICY", before or "")
    if before is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setattr(sys, "argv", ["foveate", "--version"])
    with pytest.raises(SystemExit):
        main.main()
    assert os.environ["OMP_WAIT_POLICY"] == after


@pytest.mark.parametrize("size", ["small", "172,x", "4", "0"])
def test_a_size_that_is_none_is_one_line(size: str, tmp_path: Path) -> None:
    request = ExportRequest(
        model="movinet-a0-stream-lite.k600", out=tmp_path / "out", size=size, offline=True
    )
    with pytest.raises(ConfigError, match="not sides in pixels"):
        app.run(request)


# --- the published file, and all networks ----------------------------------------------------


@pytest.mark.shared
def test_the_published_int8_file_runs_as_it_is(k600: str) -> None:
    pytest.importorskip("ai_edge_litert")
    clip = encode(frames=100)
    wanted = foveate.load(k600, offline=True).predict(clip)
    found = foveate.load(k600, offline=True, engine="litert").predict(clip)
    assert found.labels[0].label == wanted.labels[0].label
    assert wanted.cost.macs < found.cost.macs < 1.1 * wanted.cost.macs  # its head runs every frame


@pytest.mark.slow
@pytest.mark.skipif(not ZOO, reason="exports every network, minutes: set FOVEATE_ZOO=1")
@pytest.mark.parametrize("name", registry.available())
@pytest.mark.parametrize("format", ["onnx", "litert"])
def test_every_network_can_be_exported(format: Any, name: str, tmp_path: Path) -> None:
    if format == "litert":
        pytest.importorskip("litert_torch", reason="needs the extra litert-export")
    entry = registry.entry(name)
    side = 64 if name.startswith("swin") else entry.tiny_input[3]
    spec = InputSpec(side, 5.0, entry.tiny_input[2])
    loaded = LoadedModel(name, {"network": randomise(registry.create_tiny(name))}, LABELS, spec)
    card = export(loaded, tmp_path / "out", format)
    assert card.exported is not None
    assert card.exported.parity < PARITY
