"""What the commands do, in one call of the library each; and the snippets of the documentation."""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path

import pytest

import foveate
from data.labelled import put, video
from foveate.data import read
from foveate.models.weights.run import read_run
from tiny_weights import NAME

QUICK = {"epochs": 2, "workers": 0, "augment": "none"}
CLASSES = ("jump", "run", "sit")

pytestmark = pytest.mark.usefixtures("run")  # enters the tiny weights


@pytest.fixture(scope="session")
def videos(tmp_path_factory) -> Path:
    """Twenty-four clips in three folders, all different."""
    root = tmp_path_factory.mktemp("library") / "videos"
    for at, label in enumerate(CLASSES):
        for i in range(8):
            put(root / label / f"{label}{i}.mp4", video(first=1000 * at + 40 * i, frames=15))
    return root


@pytest.fixture
def trained(run, videos, tmp_path):
    return foveate.train(videos, model=NAME, out=tmp_path / "1", device="cpu", **QUICK)


def test_train_gives_a_run_that_load_takes(videos, tmp_path) -> None:
    seen = []
    run = foveate.train(
        str(videos), model=NAME, out=tmp_path / "1", device="cpu", on_progress=seen.append, **QUICK
    )
    assert (run.folder, run.outcome, run.epochs) == (tmp_path / "1", "finished", 2)
    assert [moment.step for moment in seen if moment.stage == "train"][-1] == run.steps > 0
    assert seen[-1].epochs == 2
    assert run.card == read_run(run.folder)
    assert run.card.classes == list(CLASSES)
    assert run.card.figures == run.figures
    assert run.card.configuration["augment"] == "none"
    recogniser = foveate.load(run, device="cpu")
    assert recogniser.labels == CLASSES
    same = foveate.load(run.folder, device="cpu")
    clip = videos / "jump" / "jump0.mp4"
    assert recogniser.predict(clip).labels == same.predict(clip).labels


def test_train_resumes_and_refuses_as_the_command_does(videos, trained, tmp_path) -> None:
    again = foveate.train(out=trained.folder, resume=True, device="cpu")
    assert (again.steps, again.outcome) == (trained.steps, "finished")
    for call, said in (
        (lambda: foveate.train(videos, model=NAME, out=trained.folder), "there is a run"),
        (lambda: foveate.train(out=trained.folder, resume=True, seed=5), "begun with seed=0"),
        (lambda: foveate.train(out=tmp_path / "2", resume=True), "no training was begun"),
        (lambda: foveate.train(out=tmp_path / "2"), "no videos to train on"),
        (lambda: foveate.train(videos, out=tmp_path / "2", epoch=1), "did you mean epochs"),
        (lambda: foveate.train(videos, out=tmp_path / "2", epochs=0), "epochs"),
        (
            lambda: foveate.train(videos, out=tmp_path / "2", recipe="distil"),
            "did you mean distill",
        ),
        (lambda: foveate.train(videos, out=tmp_path / "2", config="resnet3ds"), "mean resnet3drs"),
        (lambda: foveate.train(videos, out=tmp_path / "2", look="magic"), "look"),
        (lambda: foveate.train(tmp_path / "none", out=tmp_path / "2"), "no such file or folder"),
    ):
        with pytest.raises(foveate.FoveateError) as caught:
            call()
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "2").exists()


def test_settings_come_from_the_file_and_then_from_the_call(videos, tmp_path) -> None:
    config = tmp_path / "my.yaml"
    config.write_text(f"model: {NAME}\nepochs: 5\nlr: 0.5\nworkers: 0\naugment: none\n")
    look = {"name": "centre", "size": 16}
    run = foveate.train(
        videos, out=tmp_path / "1", config=config, epochs=1, look=look, device="cpu"
    )
    kept = run.card.configuration
    assert (kept["epochs"], kept["lr"]) == (1, 0.5)
    assert (kept["look"]["name"], kept["look"]["size"]) == ("centre", 16)
    assert foveate.load(run, device="cpu").preset.look.name == "centre"


def test_records_and_requests_stand_for_videos(videos, trained, tmp_path) -> None:
    request = foveate.DataRequest(videos, split_seed=3)
    run = foveate.train(request, model=NAME, out=tmp_path / "2", device="cpu", **QUICK)
    assert run.card.digests != trained.card.digests
    assert foveate.evaluate(run, request, device="cpu").n > 0
    dataset = read(videos)
    other = foveate.train(dataset, model=NAME, out=tmp_path / "3", device="cpu", **QUICK)
    assert other.card.digests == trained.card.digests
    with pytest.raises(foveate.ConfigError, match="does not say where its data is"):
        foveate.train(out=other.folder, resume=True)


def test_evaluate_takes_a_model_by_any_name(videos, trained) -> None:
    seen = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = foveate.evaluate(
            trained, videos, device="cpu", on_progress=lambda *now: seen.append(now)
        )
    assert (found.split, found.failed, found.n) == ("test", 0, len(seen))
    assert seen[-1][:2] == (found.n, found.n)
    assert found.figure("top1").value is not None
    recogniser = foveate.load(trained, device="cpu")
    assert foveate.evaluate(recogniser, videos).predictions[0].top == found.predictions[0].top
    fewer = foveate.evaluate(str(trained.folder), videos, device="cpu", budget="1fps")
    assert fewer.figure("macs-per-video").value < found.figure("macs-per-video").value


def test_evaluate_warns_and_refuses_as_the_command_does(videos, trained) -> None:
    with pytest.warns(UserWarning, match="were used for training"):
        foveate.evaluate(trained, videos, split="train", device="cpu")
    with pytest.warns(UserWarning, match="some of these videos may have been seen"):
        foveate.evaluate(trained, foveate.DataRequest(videos, split_seed=9), device="cpu")
    recogniser = foveate.load(trained, device="cpu")
    for call, said in (
        (lambda: foveate.evaluate(trained, videos, split="tst"), "did you mean test"),
        (lambda: foveate.evaluate(recogniser, videos, top_k=1), "is already loaded, top_k"),
        (lambda: foveate.evaluate("nothing", videos), "no model or preset 'nothing'"),
        (lambda: foveate.evaluate(NAME, videos, device="cpu"), "has no label for the class"),
        (lambda: foveate.bench({}, videos), "no recogniser"),
        (lambda: foveate.bench({"a": trained}, videos, reference="b"), "no recogniser 'b'"),
    ):
        with pytest.raises(foveate.FoveateError) as caught:
            call()
        assert said in str(caught.value)


def test_bench_compares_recognisers_and_names(videos, trained) -> None:
    fast = foveate.load(trained, budget="1fps", device="cpu")
    seen = []
    table = foveate.bench(
        {"all": trained, "fast": fast}, videos, device="cpu",
        on_progress=lambda *now: seen.append(now),
    )  # fmt: skip
    first, second = table.rows
    assert (first.name, second.name, table.reference) == ("all", "fast", "all")
    assert second.macs.value < first.macs.value
    assert {name for name, *_ in seen} == {"all", "fast"}
    assert "| fast" in table.markdown()


def test_bench_of_videos_without_labels_measures_all_of_them(videos, trained) -> None:
    request = foveate.DataRequest(videos, format="unlabelled")
    table = foveate.bench({"a": trained, "b": trained}, request, device="cpu")
    assert [row.n for row in table.rows] == [24, 24]
    assert table.rows[0].accuracy is None
    assert table.rows[1].agreement == 1.0


def test_load_takes_a_budget_as_the_command_writes_it() -> None:
    recogniser = foveate.load(NAME, budget="50MMAC/s,2fps", device="cpu")
    budget = recogniser.preset.budget
    assert (budget.macs_per_second, budget.frames_per_second) == (50e6, 2.0)
    given = foveate.load(NAME, budget=foveate.Budget(frames_per_second=2.0), device="cpu")
    assert given.preset.budget.frames_per_second == 2.0
    with pytest.raises(foveate.ConfigError, match="budget soon: not understood"):
        foveate.load(NAME, budget="soon")


def test_a_recogniser_says_what_it_is() -> None:
    recogniser = foveate.load(NAME, look="keyframes-first", decide="confident", device="cpu")
    assert repr(recogniser) == (
        f"Recogniser({NAME}, look=keyframes-first, decide=confident, 7 labels, cpu)"
    )


def test_the_packages_train_and_evaluate_are_functions_too() -> None:
    import foveate.train.recipe
    from foveate.evaluate import Evaluation
    from foveate.train import SupervisedConfig

    assert callable(foveate.train)
    assert list(inspect.signature(foveate.train).parameters)[:3] == ["videos", "out", "model"]
    assert list(inspect.signature(foveate.evaluate).parameters)[:2] == ["recogniser", "videos"]
    assert foveate.train.SupervisedConfig is SupervisedConfig
    assert foveate.evaluate.Evaluation is Evaluation
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        foveate.train.nothing  # noqa: B018
