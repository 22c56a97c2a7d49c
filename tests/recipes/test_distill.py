"""The distillation recipe: the teacher answers once, and the student learns from its answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from foveate.core import ConfigError
from foveate.models.movinet import MoViNet
from foveate.models.weights.run import read_run
from foveate.train.initial_model import build_initial_model
from foveate.train.kit.batches import TensorBatches
from foveate.train.kit.checkpoint import Checkpoints
from foveate.train.recipe import RecipeContext, run_recipe
from foveate.train.recipes import distill, supervised
from foveate.train.recipes.distill import DistillConfig, Teacher
from foveate.train.run_state import RunSummary
from train import tiny_motion
from train.tiny_motion import config

CLIPS: Any = tiny_motion.Clips(counts={"train": 96, "val": 60})


def top1(summary: RunSummary) -> float:
    return next(value for name, value in summary.figures.items() if name.startswith("top1"))


def lesson(teacher: Path | str, **changes: Any) -> DistillConfig:
    values = {
        "teacher": str(teacher), "flip": False, "epochs": 12, "lr": 1e-2, "batch": 16,
        "mixup": 0.0, "label_smoothing": 0.0, **changes,
    }  # fmt: skip
    return DistillConfig(**{**config().model_dump(), **values})


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tiny_motion.enter()
    folder = tmp_path_factory.mktemp("motion") / "teacher"
    settings = config(epochs=12, lr=1e-2, batch=16, mixup=0.0, label_smoothing=0.0)
    summary = run_recipe(
        supervised.RECIPE,
        settings,
        CLIPS,
        folder,
        on_progress=lambda now: None,
        source=CLIPS.source(16),
    )
    assert top1(summary) > 0.8
    return folder


def wrong(split: str, training: bool, spec: Any, team: Any) -> Any:
    """The task with training labels that say nothing: what is learned, the teacher taught."""
    found = CLIPS.source(16)(split, training, spec, team)
    if split == "train":
        found.y = torch.zeros_like(found.y)
    return found


def test_a_student_learns_from_its_teacher_alone(
    tmp_path: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    plain = Teacher.features
    monkeypatch.setattr(Teacher, "features", lambda self, x: seen.append(len(x)) or plain(self, x))
    summary = run_recipe(
        distill.RECIPE, lesson(teacher, share=1.0), CLIPS, tmp_path / "run",
        on_progress=lambda now: None, source=wrong,
    )  # fmt: skip
    assert top1(summary) > 0.75
    # Twelve epochs, but every training clip was shown to the teacher once.
    assert sum(seen) == 96
    card = read_run(tmp_path / "run")
    assert card.recipe == "distill"
    assert card.configuration["teacher"] == str(teacher)
    # Labels that say nothing teach nothing where the teacher is not heard.
    summary = run_recipe(
        distill.RECIPE, lesson(teacher, share=0.0, epochs=4), CLIPS, tmp_path / "deaf",
        on_progress=lambda now: None, source=wrong,
    )  # fmt: skip
    assert top1(summary) < 0.6


def test_a_resumed_student_does_not_ask_again(
    tmp_path: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(now: Any) -> None:
        if now.stage == "train" and now.step == 3 and now.figures is None:
            import os

            os.kill(os.getpid(), 2)

    settings = lesson(teacher, epochs=2, mixup=0.2)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run_recipe(
        distill.RECIPE,
        settings,
        CLIPS,
        whole,
        on_progress=lambda now: None,
        source=CLIPS.source(16),
    )
    first = run_recipe(
        distill.RECIPE, settings, CLIPS, broken, on_progress=stop, source=CLIPS.source(16)
    )
    assert first.outcome == "interrupted"

    def asked(self: Any, x: Any) -> Any:
        raise AssertionError("the teacher was asked again")

    monkeypatch.setattr(Teacher, "features", asked)
    run_recipe(
        distill.RECIPE,
        settings,
        CLIPS,
        broken,
        True,
        on_progress=lambda now: None,
        source=CLIPS.source(16),
    )
    names = ("model.safetensors", "log.jsonl")
    assert all((whole / n).read_bytes() == (broken / n).read_bytes() for n in names)


def test_a_clip_the_teacher_could_not_read_has_its_label(tmp_path: Path, teacher: Path) -> None:
    """Without the teacher's logits for a clip, its loss is the cross-entropy with its label."""
    settings = lesson(teacher, share=1.0, temperature=2.0)
    context = RecipeContext(
        distill.RECIPE, settings, CLIPS, tmp_path, False, Checkpoints(tmp_path / "checkpoints"),
        offline=True,
    )  # fmt: skip
    torch.manual_seed(3)
    start = build_initial_model(
        settings.model, CLIPS.classes, {}, size=settings.size, frames=settings.frames,
        rate=settings.rate,
    )  # fmt: skip
    answers = distill.teacher_logits(context, CLIPS.source(16))
    known = torch.ones(96, dtype=torch.bool)
    known[7] = False
    fewer = replace(answers, x=answers.x[known], index=answers.index[known])
    objective = distill._objective(context, start, fewer)
    batches = CLIPS.source(96)("train", False, None, context.group)
    batches = TensorBatches(batches.x[6:8], batches.y[6:8], 2)
    batch = next(batches.batches(0))
    batch["index"] = torch.tensor([6, 7])
    model = MoViNet.eval(start.model)
    with torch.no_grad():
        got = objective(model, batch, torch.Generator())
        logits = model(batch["x"].float() / 255)
    soft = (answers.x[6, 0] / 2).softmax(0)
    want = -4 * (soft * (logits[0] / 2).log_softmax(0)).sum()
    torch.testing.assert_close(got[0], want)
    plain = torch.nn.functional.cross_entropy(logits[1:], batch["y"][1:])
    torch.testing.assert_close(got[1], plain)


def test_what_cannot_be_distilled_is_said(tmp_path: Path, teacher: Path) -> None:
    def go(settings: DistillConfig, clips: Any = CLIPS) -> None:
        source = CLIPS.source(16)
        run_recipe(
            distill.RECIPE,
            settings,
            clips,
            tmp_path / "run",
            on_progress=lambda now: None,
            source=source,
        )

    with pytest.raises(ConfigError, match="needs a teacher"):
        go(lesson(""))
    other = tiny_motion.Clips(classes=("left", "right", "up"))
    with pytest.raises(ConfigError, match="other classes"):
        _refused(tmp_path / "a", lesson(teacher), other)
    with pytest.raises(ConfigError, match="mirror"):
        _refused(tmp_path / "b", lesson(teacher, flip=True, augment="light"), CLIPS)


def _refused(folder: Path, settings: DistillConfig, clips: Any) -> None:
    run_recipe(
        distill.RECIPE,
        settings,
        clips,
        folder,
        on_progress=lambda now: None,
        source=CLIPS.source(16),
    )
