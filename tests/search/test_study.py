"""Studies: what is drawn, what a failed trial leaves, and that no trial is lost or run twice."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import pytest

from foveate.core import ConfigError
from foveate.evaluate.figures import history_svg
from foveate.search import study as studies
from foveate.search.study import (
    INTERRUPTED,
    JOURNAL,
    Limits,
    Runner,
    StudySettings,
    Trial,
    best_of,
    importances,
    open_study,
    read_trials,
)
from foveate.search.study_page import page_of
from foveate.search.study_ray import run_on_ray
from foveate.search.study_space import Space
from foveate.search.study_trials import Job, Outcome, name_of, run_in_child
from search import study_parts
from search.study_parts import Model

TWO = StudySettings(objectives=("accuracy", "macs"))


def at_once(objective, job, *, prune, **limits) -> Outcome:
    """The objective function in this process, for tests of what is drawn."""
    job.study.mkdir(exist_ok=True)
    return Outcome("complete", dict(objective(job, lambda value: None)))


@pytest.fixture
def quick(monkeypatch) -> None:
    """Trials in this process, and a journal that is not flushed to disk."""
    monkeypatch.setattr(studies, "run_in_child", at_once)
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def drawn(folder: Path, settings: StudySettings, *counts: int) -> list[dict]:
    """Parameters of a study that was stopped after each of these numbers of trials."""
    open_study(folder, settings)
    for count in counts:
        space = Space(Model, settings.space)
        Runner(folder, settings, space, study_parts.measure, Limits(count)).run()
    return [trial.parameters for trial in read_trials(folder, settings)]


def wait_for(happened, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_a_study_goes_on_as_if_it_had_not_been_stopped(sampler, tmp_path, quick) -> None:
    settings = TWO.model_copy(update={"sampler": sampler, "seed": 3})
    whole = drawn(tmp_path / "whole", settings, 18)
    assert drawn(tmp_path / "parts", settings, 5, 13, 18) == whole
    assert len({str(sorted(one.items())) for one in whole}) > 9
    for one in whole:
        large = one["recogniser/kind"] == "large"
        assert ("recogniser/large/lr" in one) == large
        assert ("recogniser/small/segments" in one) != large
    assert drawn(tmp_path / "other", settings.model_copy(update={"seed": 4}), 4) != whole[:4]
    shown = importances(tmp_path / "whole", settings)
    assert shown["macs"].keys() == {name for one in whole for name in one}
    assert shown["macs"]["frames"] > 0


def test_equal_parameters_are_measured_once_and_the_front_is_exact(tmp_path, quick) -> None:
    space = {"recogniser": {"kind": "large", "lr": 0.01}, "look": None, "frames": [1, 2, 3]}
    settings = TWO.model_copy(update={"space": space, "at_most": {"macs": 2e6}})
    drawn(tmp_path / "s", settings, 12)
    trials = read_trials(tmp_path / "s", settings)
    runs = (tmp_path / "s" / "runs.txt").read_text().split()
    assert len(trials) == 12
    assert sorted(runs, key=int) == [str(t.number) for t in trials if t.same_as is None]
    assert len(runs) == 3
    copies = [t for t in trials if t.same_as is not None]
    assert all(t.values["macs"] == trials[t.same_as].values["macs"] for t in copies)
    front = best_of(trials, settings)
    assert [t.parameters["frames"] for t in front] == [2, 1]  # 3 is above the bound
    assert best_of(trials, settings.model_copy(update={"objectives": ("macs",)})) == front[1:]


def test_the_front_keeps_ties_once_and_leaves_out_what_failed() -> None:
    def trial(number: int, accuracy: float, macs: float, **more) -> Trial:
        values = {"accuracy": accuracy, "macs": macs}
        return replace(Trial(number, "complete", {}, values), **more)

    trials = (
        trial(0, 0.5, 10), trial(1, 0.5, 10), trial(2, 0.9, 90), trial(3, 0.4, 20),
        trial(4, 1.0, 1, feasible=False), trial(5, 1.0, 1, state="failed"),
    )  # fmt: skip
    assert [one.number for one in best_of(trials, TWO)] == [2, 0]
    assert best_of(trials[4:], TWO) == ()


@pytest.mark.parametrize(
    ("objective", "limits", "reason"),
    [
        ("aborts", {}, f"crashed (signal {signal.SIGABRT.value})"),
        ("waits", {"seconds": 0.5}, "took more than 0.5 s"),
        ("fills", {"memory": 4e8}, "used more than 0.4 GB of memory"),
        ("lacks_a_package", {}, "timm is not installed (type: pip install 'foveate[zoo]')"),
        ("gives_nan", {}, "internal error: ValueError: Out of range float values"),
    ],
)
def test_a_trial_that_fails_says_why(objective, limits, reason, tmp_path) -> None:
    job = Job(0, tmp_path / "0", tmp_path, {})
    outcome = run_in_child(getattr(study_parts, objective), job, **limits)
    assert outcome.state == "failed"
    assert outcome.reason.startswith(reason)
    assert outcome.seconds < 30


def test_an_objective_function_is_found_by_name() -> None:
    assert name_of(study_parts.measure) == "search.study_parts:measure"
    with pytest.raises(ConfigError, match="cannot be imported by child processes"):
        name_of(lambda job, report: {})


def test_a_failed_trial_counts_and_stays_out_of_the_front(tmp_path) -> None:
    settings = StudySettings(objectives=("accuracy",))
    open_study(tmp_path, settings)
    Runner(tmp_path, settings, Space(Model), study_parts.lacks_a_package, Limits(1)).run()
    (trial,) = read_trials(tmp_path, settings)
    assert (trial.state, trial.reason[:21]) == ("failed", "timm is not installed")
    assert best_of((trial,), settings) == ()


def test_trials_that_are_behind_are_pruned_with_one_objective(tmp_path) -> None:
    space = {"recogniser": {"kind": "large", "lr": 0.01}, "look": None}
    settings = StudySettings(objectives=("accuracy",), space=space, seed=1)
    open_study(tmp_path, settings)
    for frames in (7, 2):
        one = Space(Model, {**space, "frames": frames})
        limits = Limits(len(read_trials(tmp_path, settings)) + 1)
        Runner(tmp_path, settings, one, study_parts.falls_behind, limits).run()
    assert [trial.state for trial in read_trials(tmp_path, settings)] == ["complete", "pruned"]
    assert not TWO.prunes


def test_two_processes_and_one_killed_lose_no_trial_and_run_none_twice(tmp_path) -> None:
    settings = TWO.model_copy(update={"sampler": "random", "context": {"seconds": 0.2}})
    open_study(tmp_path, settings)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, study_parts.__file__, str(tmp_path), "5"]
    first, second = (
        subprocess.Popen(command, env=environment, start_new_session=True) for _ in range(2)
    )
    runs = tmp_path / "runs.txt"
    wait_for(lambda: runs.is_file() and len(runs.read_text().split()) >= 2)
    before = [t for t in read_trials(tmp_path, settings) if t.state == "complete"]
    first.send_signal(signal.SIGKILL)
    first.wait()
    with (tmp_path / JOURNAL).open("ab") as journal:  # as if killed in the middle of a line
        journal.write(b'{"op_code": 4, "wor')
    assert second.wait(60) == 0
    study_parts.runner(tmp_path, Limits(6)).run()
    trials = read_trials(tmp_path, settings)
    kept = [t for t in trials if t.state != INTERRUPTED]
    assert len(kept) == 6
    assert all(t.state == "complete" for t in kept)
    assert [trials[t.number] for t in before] == before
    interrupted = [t for t in trials if t.state == INTERRUPTED]
    assert len(interrupted) <= 1
    for one in interrupted:
        assert sum(t.parameters == one.parameters for t in kept) == 1
    numbers = runs.read_text().split()
    assert len(set(numbers)) == len(numbers)
    assert {str(t.number) for t in kept if t.same_as is None} <= set(numbers)


def test_a_result_whose_study_was_killed_before_it_was_noted_counts(tmp_path, monkeypatch) -> None:
    settings = TWO.model_copy(update={"space": {"frames": [5]}})
    open_study(tmp_path, settings)

    def killed(*outcome) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(studies, "_tell", killed)
        with pytest.raises(KeyboardInterrupt):
            study_parts.runner(tmp_path, Limits(1)).run()
    assert read_trials(tmp_path, settings)[0].state == "running"
    study_parts.runner(tmp_path, Limits(1)).run()
    (trial,) = read_trials(tmp_path, settings)
    assert (trial.state, trial.values["macs"]) == ("complete", 5e6)
    assert (tmp_path / "runs.txt").read_text().split() == ["0"]


def test_other_settings_need_another_folder(tmp_path) -> None:
    open_study(tmp_path / "s", TWO)
    open_study(tmp_path / "s", TWO)
    other = TWO.model_copy(update={"context": {"data": "b"}})
    with pytest.raises(ConfigError, match=r"begun with context data=null, not \"b\""):
        open_study(tmp_path / "s", other)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ConfigError, match="is no folder of a study"):
        open_study(tmp_path, TWO)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"recogniser/kind": ["small", "large"], "frames": {"low": 1, "high": 8, "step": 1},
              "recogniser/small/segments": {"low": 4, "high": 16, "step": 4},
              "recogniser/large/lr": {"low": 1e-4, "high": 0.1, "log": True}}),
        ({"recogniser": ["large"], "look": ["none", "whole"], "frames": 1},
         {"recogniser/kind": "large", "frames": 1,
          "recogniser/large/lr": {"low": 1e-4, "high": 0.1, "log": True},
          "look/kind": ["none", "whole"]}),
        ({"recogniser": {"kind": "small", "segments": {"high": 8}}, "look/kind": ["patch"],
          "look/patch/size": [32, 64], "frames": 2, "recogniser/small/dropout": {"high": 0.5},
          "steps": [["a"], []], "settings": {"low": 1, "wide": 2},
          "recogniser/large/lr": 0.1},
         {"recogniser/kind": "small", "recogniser/small/segments": {"low": 4, "high": 8, "step": 4},
          "settings": {"low": 1, "wide": 2},
          "recogniser/small/dropout": {"low": 0, "high": 0.5}, "look/kind": "patch",
          "look/patch/size": [32, 64], "frames": 2, "steps": [["a"], []]}),
    ],
)  # fmt: skip
def test_a_space_is_read_from_the_fields_and_narrowed(given, expected) -> None:
    space = Space(Model, given)
    assert space.to_dict() == expected
    assert Space(Model, space.to_dict()).to_dict() == expected
    first = space.draw(lambda path, search: search.choices[0] if search.choices else search.low)
    assert Model.model_validate(first).recogniser.kind in expected["recogniser/kind"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"recogniser/kindd": "small"},
         "x.yaml: there is no recogniser/kindd (did you mean recogniser/kind?)"),
        ({"recogniser/kind": ["smal"]},
         "x.yaml: recogniser/kind: there is no smal (did you mean small?)"),
        ({"recogniser/small/segments": {"low": 0}},
         "x.yaml: recogniser/small/segments: low: must be at least 1"),
        ({"frames": "four"}, "x.yaml: frames: must be a whole number"),
        ({"look/patch/size": {"low": 8}}, "x.yaml: look/patch/size: the range needs high"),
        ({"frames": {"low": 5, "high": 3}}, "x.yaml: frames: from 5 to 3 is no range"),
        ({"frames": []}, "x.yaml: frames: no choices"),
        ({"steps": {"low": 1, "high": 2}}, "x.yaml: steps: low: must be a list"),
    ],
)  # fmt: skip
def test_a_wrong_space_is_one_line(given, message) -> None:
    with pytest.raises(ConfigError) as caught:
        Space(Model, given, "x.yaml")
    assert str(caught.value) == message


@pytest.mark.slow
def test_tasks_of_a_cluster_share_one_study(tmp_path, monkeypatch) -> None:
    pytest.importorskip("ray", reason="needs the extra `ray`")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # no token in the home folder
    open_study(tmp_path, TWO)
    run_on_ray(partial(study_parts.step, tmp_path, Limits(4)), "local", 2)
    trials = read_trials(tmp_path, TWO)
    assert [trial.state for trial in trials] == ["complete"] * 4
    runs = (tmp_path / "runs.txt").read_text().split()
    assert sorted(runs) == [str(trial.number) for trial in trials if trial.same_as is None]


def test_the_page_shows_every_trial_and_draws_the_front(tmp_path, quick) -> None:
    folder = tmp_path / "study"
    drawn(folder, TWO, 8)
    trials = list(read_trials(folder, TWO))
    trials[2] = Trial(2, "failed", {"frames": 3}, reason="used more than <4> GB of memory")
    front = best_of(tuple(trials), TWO)
    page = page_of(folder, TWO, tuple(trials), "One line.", {front[0].number: "best"})
    assert f"{front[0].number} (best)" in page
    assert "used more than &lt;4&gt; GB" in page
    assert page.count("<svg") == 3
    assert f"trial {front[-1].number}:" in page
    nothing = tuple(replace(one, state="failed") for one in trials)
    assert "No trial is within the bounds" in page_of(folder, TWO, nothing, "", {})


def test_a_history_has_a_step_for_every_better_trial() -> None:
    svg = history_svg({0: 3.0, 1: math.nan, 2: 4.0, 5: 1.0}, "ms", "{:g} ms".format, highest=False)
    drawing = ElementTree.fromstring(svg)
    space = "{http://www.w3.org/2000/svg}"
    assert [next(one.itertext()) for one in drawing.iter(f"{space}circle")] == [
        "trial 0: 3 ms", "trial 2: 4 ms", "trial 5: 1 ms",
    ]  # fmt: skip
    (best,) = (one for one in drawing.iter(f"{space}path") if "opacity" in one.attrib
               and one.attrib["opacity"] == ".6")  # fmt: skip
    assert best.attrib["d"].count("V") == 1
    ElementTree.fromstring(history_svg({}, "ms", str, highest=True))


def test_a_union_that_follows_another_is_drawn_only_where_all_kinds_fit() -> None:
    def allowed(kind: str) -> tuple[str, ...]:
        return ("whole",) if kind == "small" else ("patch", "whole")

    def drawn_of(recogniser, look) -> tuple[str, list[str]]:
        asked = []
        given = {"recogniser": recogniser, "look": look, "frames": 1}
        space = Space(Model, given, follows={"look": ("recogniser", allowed)})
        values = space.draw(lambda path, search: asked.append(path) or search.choices[0])
        return values["look"]["name"], asked

    both, one = {"kind": ["patch", "whole"]}, {"patch/size": 64}
    large, small = {"kind": "large", "lr": 0.1}, {"kind": "small", "segments": 4}
    assert drawn_of(large, both) == ("patch", ["look/kind"])
    assert drawn_of(large, one) == ("patch", [])
    assert drawn_of(small, both) == ("whole", [])
    assert drawn_of({"kind": "distilled", "teacher": "runs/1"}, one) == ("patch", [])
    assert drawn_of([{"kind": "small"}], both) == ("whole", ["recogniser"])
    either = {"kind": ["small", "large"], "segments": 4, "lr": 0.1}
    assert drawn_of(either, both) == ("whole", ["recogniser/kind"])
    with pytest.raises(ConfigError, match="look/kind: none fits recogniser small"):
        drawn_of(small, {"kind": "patch"})
