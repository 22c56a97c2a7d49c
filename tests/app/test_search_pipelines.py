"""`search VIDEOS`: a study on rendered clips, as typed."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from data.labelled import put, video
from foveate.core.config import build
from foveate.core.search import Search
from foveate.primitives.pipeline import Pipeline
from foveate.search import pipelines, study
from foveate.search.pipelines import PipelineStudy, best_epoch, read_data
from foveate.search.study import read_settings
from foveate.search.study_trials import Job, Outcome, run_in_child

SPACE = """
recogniser:
  kind: model
  name: movinet-table-stream
  settings: {table: "8 | 8/2 16/133 | 8/2 16/333 | 16 16"}
sampler: {kind: uniform, frames: 3, rate: [4, 8]}
look: {kind: uniform, chunk: 1}
stopping: {kind: confident, threshold: [0.01, 1.0]}
engine: {name: torch}
training: {kind: supervised, freeze: none, epochs: 2, batch: 8, lr: 0.01, workers: 0, warmup: 0,
  weight_decay: 0.01, optimizer: adamw, label_smoothing: 0, backbone_lr: null, mixup: 0, cutmix: 0,
  settings: {size: 16, augment: none}}
"""


def at_once(objective, job: Job, **limits) -> Outcome:
    """The first trial in a child process; others in this one, which need not import PyTorch."""
    if job.number == 0 and objective is pipelines.measure:
        return run_in_child(objective, job, **limits)
    job.folder.mkdir(parents=True, exist_ok=True)
    return Outcome("complete", dict(objective(job, lambda value: None)), seconds=1.0)


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Sixteen training clips of eight sources, and test clips that cannot be read."""
    root = tmp_path_factory.mktemp("videos")
    rows = ["path,label,split,source"]
    for at, label in enumerate(("jump", "run")):
        for i in range(8):
            name = f"{label}{i}.mp4"
            put(root / name, video(first=1000 * at + 40 * i, frames=15))
            rows.append(f"{name},{label},train,{label}{i // 2}")
        put(root / f"test-{label}.mp4", b"no video")
        rows.append(f"test-{label}.mp4,{label},test,other")
    (root / "clips.csv").write_text("\n".join(rows))
    (root / "space.yaml").write_text(SPACE)
    return root


def command(videos: Path, out: Path, *more: str) -> list[str | Path]:
    return ["search", videos, "--space", videos / "space.yaml", "--out", out, "--sampler", "random",
            "--objective", "accuracy,macs", *more]  # fmt: skip


@pytest.fixture(scope="module")
def quick():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(study, "run_in_child", at_once)
        patched.setattr(pipelines, "run_in_child", at_once)
        yield


def test_a_study_finds_a_model_without_the_test_clips(run, videos, tmp_path, quick) -> None:
    out = tmp_path / "study"
    said = run(*command(videos, out, "--trials", "4"))
    assert said.code == 0, said.err
    assert said.out.strip() == str(out)
    assert f"next: foveate evaluate {videos} --model {out / 'best'}" in said.err
    found = PipelineStudy.read(out)
    assert [trial.state for trial in found.trials] == ["complete"] * 4
    # Groups are whole, and no test clip is among what trials are given.
    dataset = read_data(out)
    assert dataset.splits == ("train", "val")
    sides = {split: {r.group for r in dataset.subset(split).records} for split in dataset.splits}
    assert not sides["train"] & sides["val"]
    assert "test-jump" not in (out / "data.json").read_text()
    # What only prediction needs is not trained again.
    trainings = {trial.values["training"] for trial in found.trials}
    rates = {trial.parameters["sampler/uniform/rate"] for trial in found.trials}
    assert len(trainings) == len(rates)
    measured = [trial for trial in found.trials if trial.same_as is None]
    assert sum(trial.saved > 0 for trial in measured) == len(measured) - len(rates)
    listed = json.loads((out / "pareto.json").read_text())
    assert listed["best"] == found.front[0].number == listed["front"][0]["number"]
    assert "<svg" in found.page.read_text()
    card = json.loads((out / "best" / "run.json").read_text())
    assert card["preset"]["look"]["name"] == "uniform"
    assert card["figures"] == {}  # all clips were trained on
    assert (out / "best" / "pipeline.json").is_file()
    said = run("evaluate", videos, "--model", out / "best", "--split", "train", "--print-config")
    assert said.code == 0, said.err
    # The same command again runs nothing and leaves everything.
    before = (out / "best" / "model.safetensors").stat().st_mtime_ns
    said = run(*command(videos, out, "--trials", "4"))
    assert said.code == 0, said.err
    assert (out / "best" / "model.safetensors").stat().st_mtime_ns == before
    assert PipelineStudy.read(out).trials == found.trials
    # Bounds make another study.
    said = run(*command(videos, out, "--at-least", "accuracy=.9"))
    assert (said.code, "begun with at_least accuracy=null, not 0.9" in said.err) == (2, True)


def test_a_study_without_a_good_trial_says_why(run, videos, tmp_path, monkeypatch) -> None:
    failed = Outcome("failed", reason="used more than 1 GB of memory")
    monkeypatch.setattr(study, "run_in_child", lambda *job, **limits: failed)
    said = run(*command(videos, tmp_path, "--trials", "2"))
    assert said.code == 1
    end = "no trial is within the bounds; the first failed trial: used more than 1 GB of memory"
    assert said.err.splitlines()[-1] == f"foveate: {end}"
    assert "out of bounds" not in (tmp_path / "study.html").read_text()


@pytest.mark.parametrize("given", [{}, None])
def test_every_draw_of_the_whole_space_is_a_pipeline(given) -> None:
    chance, kinds = random.Random(0), set()

    def draw(path: str, search: Search) -> object:
        if search.choices:
            return chance.choice(search.choices)
        low, high = search.low, search.high
        return chance.randint(low, high) if search.integer else chance.uniform(low, high)

    space = pipelines.space_of(given)
    for _ in range(60):
        pipeline = build(Pipeline, space.draw(draw), "drawn")
        kinds.add(pipeline.recogniser.kind)
    assert kinds == ({"movinet"} if given is None else set(space.parameters()["recogniser/kind"]
                                                           .choices))  # fmt: skip
    assert "training/kind" in space.pinned() or given is not None


def test_the_best_epoch_is_that_of_the_exported_model(tmp_path) -> None:
    head = "event,epoch,step,loss,top1@clip,mean-class-accuracy@clip,loss@clip\n"
    rows = [
        "start,0,0,,0.5,0.5,0.9\n",
        "epoch,0,2,0.7,0.7,0.7,0.8\n",
        "epoch,1,4,0.6,0.7,0.7,0.7\n",
    ]
    (tmp_path / "log.csv").write_text(head + "".join(rows))
    assert best_epoch(tmp_path) == 2
    (tmp_path / "log.csv").write_text(head + rows[0].replace("0.5", "0.8") + rows[1])
    assert best_epoch(tmp_path) == 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--objective", "macs,milliseconds"], "study: objectives: one, or accuracy with one of"),
        (["--minimise", "accuracy"], "--minimise accuracy: a cost is minimised"),
        (["--minimise", "macs"], "--objective and --minimise: both name the objective"),
        (["--at-least", "accuracy"], "--at-least accuracy: not of the form NAME=VALUE"),
        (["--at-least", "speed=1"], "study: at_least.speed"),
        (["--refit", "all"], "refit all: unknown (one of: best, front, none)"),
        (["--set", "recogniser.nam=x"], "there is no recogniser/nam (did you mean"),
    ],
)  # fmt: skip
def test_wrong_requests_are_one_line(run, videos, tmp_path, more, message) -> None:
    base = command(videos, tmp_path / "x")
    if more[0] == "--minimise" and "accuracy" in more:
        base = base[:-2]
    said = run(*base, *more)
    assert said.code == 2
    assert len(said.err.splitlines()) == 1
    assert message in said.err
    assert not (tmp_path / "x").exists()


def test_the_space_can_be_printed_and_read_again(run, videos, tmp_path) -> None:
    said = run(*command(videos, tmp_path / "x"), "--print-space", "--set", "sampler.rate=4")
    assert said.code == 0
    assert "sampler/uniform/rate: 4.0" in said.out
    (tmp_path / "again.yaml").write_text(said.out)
    assert (
        pipelines.space_of(tmp_path / "again.yaml").to_dict()
        == pipelines.space_of(videos / "space.yaml", "sampler.rate=4").to_dict()
    )
    assert "recogniser/movinet/weights: k600" in run("search", videos, "--print-space").out
    assert not (tmp_path / "x").exists()
    with pytest.raises(Exception, match="no study was begun"):
        read_settings(tmp_path)
