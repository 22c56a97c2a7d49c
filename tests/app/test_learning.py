"""`data`, `train`, `evaluate` and `bench`, as typed."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import clips
from data.labelled import put, video
from foveate.app.bench import recogniser_with
from foveate.app.requests import BenchRequest
from tiny_weights import ARCH, NAME

CLASSES = ("jump", "run", "sit")
QUICK = ("--set", "epochs=2", "--set", "workers=0", "--set", "augment=none", "--set",
         "freeze=none", "--no-check")  # fmt: skip


@pytest.fixture(scope="session")
def videos(tmp_path_factory) -> Path:
    """Thirty clips in three folders, all different."""
    root = tmp_path_factory.mktemp("videos")
    for at, label in enumerate(CLASSES):
        for i in range(10):
            put(root / label / f"{label}{i}.mp4", video(first=1000 * at + 40 * i, frames=15))
    return root


@pytest.fixture
def trained(run, videos, tmp_path) -> Path:
    out = tmp_path / "runs" / "1"
    out.parent.mkdir()
    said = run("train", videos, "--model", NAME, "--out", out, *QUICK)
    assert said.code == 0, said.err
    assert said.out.strip() == str(out)
    assert "21 train, 5 val, 4 test clips of 3 classes" in said.err
    assert "finished: 2 epochs" in said.err
    return out


def test_check_names_what_is_wrong(run, videos, tmp_path) -> None:
    said = run("data", "check", videos)
    assert said.code == 0
    assert "30 clips, all good" in said.out
    assert "jump: 10" in said.out
    (tmp_path / "jump").mkdir()
    (tmp_path / "run").mkdir()
    put(tmp_path / "jump" / "a.mp4")
    (tmp_path / "run" / "bad.mp4").write_text("no video")
    said = run("data", "check", tmp_path, "--workers", "0")
    assert said.code == 1
    assert "1 bad clip" in said.out
    assert "run/bad.mp4" in said.out


def test_make_renders_a_set(run, tmp_path) -> None:
    said = run("data", "make", "mocap15", tmp_path / "m", "--clips", "2", "--size", "64x48",
               "--workers", "1")  # fmt: skip
    assert said.code == 0, said.err
    assert len((tmp_path / "m" / "clips.csv").read_text().splitlines()) == 3
    for words, text in (
        (("mocap51", tmp_path / "n"), "did you mean mocap15"),
        (("mocap15", tmp_path / "n", "--size", "big"), "--size big: must be WIDTHxHEIGHT"),
        (("mocap15", tmp_path / "n", "--mode", "x"), "mode"),
        (("mocap15", tmp_path / "m"), "already there"),
    ):
        said = run("data", "make", *words)
        assert said.code == 2
        assert text in said.err
        assert len(said.err.strip().splitlines()) == 1
    assert not (tmp_path / "n").exists()


def test_from_folder_to_answers(run, videos, trained, tmp_path) -> None:
    """The three commands, and what they write."""
    card = json.loads((trained / "run.json").read_text())
    assert card["classes"] == list(CLASSES)
    assert card["input"]["clip_frames"] == 3  # 0.6 s at the 5 frames/s of the weights
    assert card["started_from"] == NAME
    page, figures = tmp_path / "page.html", tmp_path / "figures.json"
    said = run("evaluate", videos, "--model", trained, "--report", page, "--json", figures)
    assert said.code == 0, said.err
    assert ", 4 videos)" in said.out.splitlines()[0]
    assert "top1@video,views=1" in said.out
    assert "warning" not in said.err
    found = json.loads(figures.read_text())
    assert (found["n"], found["failed"], len(found["predictions"])) == (4, 0, 4)
    assert found["predictions"][0]["macs"] > 0
    text = page.read_text()
    assert "Metrics with their intervals" in text
    wrong = [p for p in found["predictions"] if p["top"][0][0] not in p["truth"]]
    assert text.count("data:image/jpeg") == 3 * len(wrong)
    said = run("evaluate", videos, "--model", trained, "--against", figures)
    assert "no difference found" in said.out
    clip = next((videos / "jump").iterdir())
    answer = json.loads(run("predict", clip, "--model", trained, "--json", "-").out)
    assert {label["label"] for label in answer["labels"]} == set(CLASSES)
    assert answer["model"] == str(trained)


def test_what_was_seen_in_training_is_said(run, videos, trained) -> None:
    said = run("evaluate", videos, "--model", trained, "--split", "train")
    assert "these clips were used for training" in said.err
    said = run("evaluate", videos, "--model", trained, "--split-seed", "9")
    assert "some of these videos may have been seen" in said.err


def test_bench_compares_and_goes_on_past_a_model_that_does_not_fit(
    run, videos, trained, tmp_path
) -> None:
    table, plot = tmp_path / "b.json", tmp_path / "b.svg"
    said = run("bench", videos, "--models", f"{trained},{NAME}", "--json", table, "--plot", plot)
    assert said.code == 1
    assert "not measured" in said.err
    assert "has no label for the class" in said.err
    assert "| recogniser" in said.out
    (row,) = json.loads(table.read_text())["figures"]["rows"]
    assert row["macs"]["value"] > 0
    assert ET.fromstring(plot.read_text()).tag.endswith("svg")
    said = run("bench", videos, "--models", NAME)
    assert said.code == 2
    assert "no model can be measured" in said.err


def extents_of(model: Path, *sets: str) -> dict[str, object]:
    """Look → the share of the frame that its windows cover when `bench` compares looks."""
    request = BenchRequest(path=model, models=str(model), sets=list(sets))

    def made(look):
        return recogniser_with(str(model), look, request, None, None)

    return {
        look: getattr(
            recogniser_with(str(model), look, request, None, None).preset.look, "extent", None
        )
        for look in ("full", "centre", "resize", "motion-patch")
    }


def test_looks_are_trained_on_used_and_compared_by_name(run, videos, tmp_path) -> None:
    out, table = tmp_path / "patched", tmp_path / "t.json"
    said = run("train", videos, "--model", NAME, "--look", "motion-patch", "--set", "look.size=16",
               "--set", "look.extent=0.4", "--out", out, *QUICK)  # fmt: skip
    assert said.code == 0, said.err
    assert json.loads((out / "run.json").read_text())["preset"]["look"]["size"] == 16
    assert "look motion-patch" in run("evaluate", videos, "--model", out).out
    looks = "full,centre,random,resize,motion-patch,mv-patch,activation-patch,oracle"
    said = run("bench", videos, "--models", out, "--looks", looks, "--json", table)
    assert said.code == 0, said.err
    rows = {row["name"]: row for row in json.loads(table.read_text())["figures"]["rows"]}
    assert ",".join(rows) == looks
    equal = {rows[name]["macs"]["value"] for name in ("centre", "random", "resize", "motion-patch")}
    assert len(equal) == 1  # all have the size of the run's own look
    assert rows["full"]["macs"]["value"] > 2 * equal.pop()
    assert rows["oracle"]["macs"]["value"] > 10 * rows["full"]["macs"]["value"]
    assert "less full" in said.out
    assert extents_of(out) == {"full": None, "centre": 0.4, "resize": 0.4, "motion-patch": 0.4}
    # Only what measures motion can size its window by it; the others keep the default.
    auto = extents_of(out, "look.extent=auto")
    assert auto == {"full": None, "centre": 0.5, "resize": 0.5, "motion-patch": "auto"}
    for words, text in (
        (("bench", videos, "--models", out, "--looks", "full,orakel"), "--looks orakel: unknown"),
        (("bench", videos, "--models", out, "--looks", "oracle", "--format", "unlabelled"),
         "needs labelled videos"),
        (("bench", videos, "--models", out, "--plot-cost", "bytes"), "known: macs, ms, cpu-ms"),
        (("bench", videos, "--models", out, "--plot", tmp_path / "a.bmp"), "name it *.svg"),
        (("predict", videos, "--look", "oracle"), "needs labelled videos"),
        (("train", videos, "--look", "oracle", "--out", tmp_path / "o"), "needs labelled videos"),
        (("train", videos, "--look", "resize", "--recipe", "contrastive", "--out", tmp_path / "o"),
         "the recipe contrastive sees whole clips"),
        (("predict", videos, "--look", "motion-patch", "--set", "look.sampling=motion"),
         "takes frames at an even rate"),
    ):  # fmt: skip
        said = run(*words)
        assert said.code == 2
        assert text in said.err
        assert len(said.err.strip().splitlines()) == 1
    answers = run("predict", next((videos / "jump").iterdir()), "--look", "activation-patch",
                  "--set", "look.size=16", "--json", "-")  # fmt: skip
    steps = json.loads(answers.out)["trace"]["steps"]
    assert [step["part"] for step in steps[:2]] == ["glance", "network"]
    assert steps[0]["boxes"] == []
    assert "motion:activation" in steps[1]["modalities"]


def test_training_starts_from_a_run_and_goes_on_with_one(run, videos, trained, tmp_path) -> None:
    again = tmp_path / "again"
    said = run("train", videos, "--model", trained, "--out", again, *QUICK, "--set", "epochs=1")
    assert said.code == 0, said.err
    said = run("train", "--resume", again)
    assert said.code == 0
    assert "finished: 1 epochs" in said.err
    said = run("train", "--resume", again, "--set", "batch=3")
    assert said.code == 2
    assert "the run was begun with batch=16, not 3" in said.err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["train"], "needs data and --out"),
        (["train", "VIDEOS", "--out", "OUT", "--recipe", "supervise"], "did you mean supervised"),
        (["train", "VIDEOS", "--out", "OUT", "--set", "epoch=3"], "epochs"),
        (["train", "VIDEOS", "--out", "OUT", "--set", "epochs=0"], "epochs"),
        (["train", "VIDEOS", "--out", "OUT", "--model", "movinet-a9"], "did you mean 'movinet-a"),
        (["train", "nowhere", "--out", "OUT"], "nowhere: no such file or folder"),
        (["train", "VIDEOS", "--out", "OUT", "--format", "kinetic"], "did you mean kinetics"),
        (["train", "VIDEOS", "--out", "OUT", "--fold", "0"], "names no folds"),
        (["train", "--resume", "nowhere"], "no training was begun"),
        (["evaluate", "VIDEOS", "--model", NAME, "--split", "tst"], "did you mean test"),
        (["evaluate", "VIDEOS", "--model", NAME], "has no label for the class"),
        (["evaluate", "VIDEOS", "--model", "OUT"], "no model or preset"),
        (["evaluate", "VIDEOS", "--model", "VIDEOS"], "no trained model"),
        (["evaluate", "VIDEOS", "--model", NAME, "--against", "no.json"], "cannot be read"),
        (["evaluate", "VIDEOS", "--model", NAME, "--json", "no/where.json"], "does not exist"),
    ],
    ids=lambda value: None if isinstance(value, str) else "-".join(map(str, value[:1])),
)
def test_a_mistake_costs_one_line(run, videos, tmp_path, monkeypatch, words, text) -> None:
    monkeypatch.chdir(tmp_path)
    named = {"VIDEOS": str(videos), "OUT": str(tmp_path / "out")}
    said = run(*(named.get(word, word) for word in words))
    assert said.code == 2
    assert text in said.err
    said_lines = [line for line in said.err.splitlines() if not line.startswith("21 train")]
    assert len(said_lines) == 1, said.err
    assert not (tmp_path / "out" / "run.json").exists()


def test_every_fault_of_an_annotation_is_told(run, videos, tmp_path) -> None:
    table = tmp_path / "clips.csv"
    table.write_text("path,label,split\njump/jump0.mp4,jump,train\nx.mp4,jump,train\n"
                     "jump/jump1.mp4,jump,tarin\n")  # fmt: skip
    said = run("train", table, "--videos", videos, "--out", tmp_path / "o")
    assert said.code == 2
    assert "clips.csv:3" in said.err
    assert "clips.csv:4" in said.err


def test_bad_clips_are_named_before_the_first_step(run, videos, tmp_path) -> None:
    root = tmp_path / "v"
    for label in CLASSES[:2]:
        for i in range(10):
            put(root / label / f"{i}.mp4", (videos / label / f"{label}{i}.mp4").read_bytes())
    (root / "run" / "3.mp4").write_bytes(clips.encode(frames=15)[:300])
    said = run("train", root, "--model", NAME, "--out", tmp_path / "o", *QUICK[:-1])
    assert "bad clip: run/3.mp4" in said.err
    assert said.code == 0, said.err  # one of twenty
    (root / "run" / "4.mp4").write_bytes(b"")
    said = run("train", root, "--model", NAME, "--out", tmp_path / "p", *QUICK[:-1])
    assert said.code == 2
    assert "2 of 20 clips cannot be used" in said.err


def test_folds_and_print_config(run, videos, tmp_path) -> None:
    rows = [f"{label}/{label}{i}.mp4,{label},{i % 3}" for label in CLASSES for i in range(10)]
    table = tmp_path / "clips.csv"
    table.write_text("path,label,fold\n" + "\n".join(rows) + "\n")
    words = ("train", table, "--videos", videos, "--model", NAME, *QUICK)
    said = run(*words, "--out", tmp_path / "o")
    assert said.code == 2
    assert "say --fold NAME" in said.err
    said = run(*words, "--out", tmp_path / "o", "--fold", "1")
    assert said.code == 0, said.err
    assert "9 test clips" in said.err
    said = run(*words, "--print-config")
    assert f"model: {NAME}" in said.out
    assert "epochs: 2" in said.out


def test_interrupted_and_resumed_as_a_user_does(videos, published, tmp_path) -> None:
    """Ctrl-C saves and says how to go on; going on finishes the run."""
    launch = Path(__file__).with_name("launch.py")
    out = tmp_path / "run"
    command = [sys.executable, launch, published, "train", videos, "--model", ARCH, "--out", out,
               *QUICK, "--set", "size=32", "--set", "frames=3", "--set", "rate=5",
               "--set", "epochs=400", "--set", "batch=4"]  # fmt: skip
    child = subprocess.Popen([str(c) for c in command], stderr=subprocess.PIPE, text=True)
    for _ in range(2400):
        if (out / "log.jsonl").is_file() and (out / "log.jsonl").stat().st_size > 300:
            break
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 130, said
    assert f"go on with: foveate train --resume {out}" in said
    assert list((out / "checkpoints").glob("step-*.safetensors"))


def test_evaluate_takes_the_options_of_predict(run, videos, trained, tmp_path) -> None:
    rows, page = tmp_path / "rows.csv", tmp_path / "page.html"
    said = run("evaluate", videos, "-m", trained, "-q", "--csv", rows)
    assert (said.code, said.out) == (0, ""), said.err
    table = list(csv.DictReader(rows.read_text().splitlines()))
    assert len(table) == 4
    assert all(row["right"] == str(int(row["predicted"] == row["truth"])) for row in table)
    fewer = tmp_path / "fewer.csv"
    assert (
        run("evaluate", videos, "-m", trained, "-q", "--budget", "1fps", "--csv", fewer).code == 0
    )
    macs = [sum(int(r["macs"]) for r in csv.DictReader(f.open())) for f in (rows, fewer)]
    assert macs[1] < macs[0]
    said = run("evaluate", videos, "-m", trained, "--threshold", "0.99")
    assert "answered@video,views=1,threshold=0.99" in said.out
    said = run("evaluate", videos, "-m", trained, "--classes", "jump", "--csv", rows)
    assert {row["truth"] for row in csv.DictReader(rows.open())} == {"jump"}
    assert "Wilson" in said.out
    said = run("evaluate", videos, "-m", trained, "--controls", "--report", page)
    assert said.code == 0, said.err
    assert "motion energy" in said.out
    assert "Controls" in page.read_text()
    said = run("evaluate", videos, "-m", trained, "--look", "resize", "--print-config")
    assert "name: resize" in said.out


def test_bench_takes_the_options_of_predict(run, videos, trained, tmp_path) -> None:
    rows = tmp_path / "rows.csv"
    said = run("bench", videos, "--models", trained, "--budget", "1fps", "-q", "--csv", rows)
    assert (said.code, said.out) == (0, ""), said.err
    (row,) = csv.DictReader(rows.open())
    assert row["metric"] == "top1@video,views=1"
    said = run("bench", videos, "--models", trained, "--look", "full", "--looks", "full,resize")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "--look and --looks" in said.err


def test_timelines_are_written_and_converted(run, videos, trained, tmp_path) -> None:
    table, tasks = tmp_path / "t.csv", tmp_path / "t.json"
    assert run("evaluate", videos, "-m", trained, "-q", "--timelines", table).code == 0
    said = run("data", "timelines", table, tasks, "--to", "label-studio", "--fps", "25")
    assert (said.code, said.out.count("4 videos")) == (0, 1), said.err
    assert json.loads(tasks.read_text())[0]["predictions"]
    said = run("data", "timelines", tasks, tmp_path / "net.json")
    assert set(json.loads((tmp_path / "net.json").read_text())["results"]) == {
        row["path"] for row in csv.DictReader(table.open())
    }
    table.write_text("path,label,start,end\na.mp4,x,3,1\nb.mp4,,0,1\n")
    said = run("data", "timelines", table, tmp_path / "net.json")
    assert said.code == 2
    assert "2 faults, the first is t.csv:2" in said.err
    assert "t.csv:3" in said.err


def test_imported_predictions_are_measured(run, videos, tmp_path) -> None:
    (tmp_path / "set").mkdir()
    clip = Path(shutil.copy(next((videos / "jump").iterdir()), tmp_path / "set"))
    truth, said, figures = tmp_path / "set" / "clips.csv", tmp_path / "said.csv", tmp_path / "f"
    rows = "".join(f"{clip.name},jump,{start},{start + 1},test\n" for start in (0, 2))
    truth.write_text(f"path,label,start,end,split\n{rows}")
    said.write_text(f"path,label,start,end,score\n{clip.name},jump,0,1,.9\n")
    done = run("evaluate", truth, "--predictions", said, "--json", figures)
    assert done.code == 0, done.err
    assert "localisation-map@video,views=1,tiou=0.5:0.05:0.95" in done.out
    (found,) = json.loads(figures.read_text())["localisation"]
    assert (found["segments"], found["average_precision"]["tiou=0.5"]) == (2, 0.5)
    said.write_text("path,label,start,end,score\nno.mp4,jump,0,1,.9\n")
    for words, text in (
        (("--predictions", said), "predicted video 'no.mp4'"),
        (("--predictions", said, "--controls"), "--predictions and --controls"),
        ((), "nothing to measure"),
    ):
        done = run("evaluate", truth, *words)
        assert (done.code, done.err.count("\n")) == (2, 1), done.err
        assert text in done.err


def test_bad_options_of_measuring_are_one_line(run, videos, trained) -> None:
    for words, text in (
        (("--classes", "jumpp"), "did you mean jump"),
        (("--classes", ","), "no classes are named"),
        (("--budget", "fast"), "fast"),
        (("--look", "nowhere"), "--look nowhere: unknown"),
        (("--csv", "no/where.csv"), "does not exist"),
    ):
        for command in (("evaluate", videos, "-m"), ("bench", videos, "--models")):
            said = run(*command, trained, *words)
            assert (said.code, said.err.count("\n"), said.out) == (2, 1, ""), said.err
            assert text in said.err


def start_of(published: Path, *words: object) -> subprocess.Popen[str]:
    """A training as a process group of its own."""
    launch = Path(__file__).with_name("launch.py")
    command = [sys.executable, launch, published, "train", *words]
    return subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


@pytest.mark.parametrize("when", ["data check", "features", "steps"])
def test_sigterm_to_the_process_group_ends_as_cleanly_as_ctrl_c(
    videos, published, tmp_path, when
) -> None:
    out = tmp_path / "run"
    words = ["--model", NAME, "--out", out, "--set", "epochs=100000", "--set", "batch=4",
             "--set", "patience=null", "--set", "freeze=backbone"]  # fmt: skip
    if when == "steps":
        words[-1] = "freeze=none"
        words += ["--model", ARCH, "--set", "size=32", "--set", "frames=3", "--set", "rate=5"]
    child = start_of(published, videos, *words, *(() if when == "data check" else ("--no-check",)))
    sign = {"data check": None, "features": out / "training.json", "steps": out / "run.json"}[when]
    assert child.stderr is not None
    said = child.stderr.readline()  # the counts of clips, before the check
    for _ in range(2400):
        if sign is None or sign.is_file():
            break
        time.sleep(0.025)
    os.killpg(child.pid, signal.SIGTERM)
    printed, rest = child.communicate(timeout=60)
    said += rest
    assert child.returncode == 130, said
    assert "Traceback" not in said
    assert "bad clip" not in said
    assert "died" not in said
    begun = (out / "training.json").is_file()
    assert begun or when != "steps"
    hint = f"go on with: foveate train --resume {out}" if begun else "nothing was written"
    assert said.count(hint) == 1
    assert not printed


def test_what_to_type_next_is_said_and_a_run_is_finished(run, videos, tmp_path) -> None:
    out = tmp_path / "run"
    said = run("train", videos, "--model", NAME, "--out", out, *QUICK)
    assert "at most 2 epochs; training ends after 5 without a better" in said.err
    lines = [line for line in said.err.splitlines() if line.startswith("epoch ")]
    assert [line.split(":")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert "clips/s" in lines[0]
    next_words = said.err.splitlines()[-1].removeprefix("next: foveate ").split()
    assert run(*next_words).code == 0
    said = run("train", "--finish", out)
    assert (said.code, said.out.strip()) == (0, str(out))
    assert "finished with the best model so far: top1" in said.err
    said = run("train", "--resume", out, "--set", "epochs=3")
    assert "resumed at epoch 3 of 3" in said.err
    assert "finished: 3 epochs" in said.err
    both = tmp_path / "both"
    said = run("train", videos, "--model", NAME, "--out", both, *QUICK, "--set",
               "freeze=head-first")  # fmt: skip
    lines = said.err.splitlines()
    assert "the head is trained; now all layers, as long as validation improves" in lines
    figures = [line.split(": ")[1] for line in lines if line.startswith(("frozen b", "all lay"))]
    assert len(figures) == 2
    assert next(line.removeprefix("best: ") for line in lines if "best: " in line) in figures
    said = run("train", "--finish", tmp_path / "no")
    assert (said.code, said.err.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--model", "movinet-a9"), "did you mean 'movinet-a"),
        (("--device", "foo"), "not on this machine"),
        (("--set", "report_to=wandb"), "foveate[wandb]"),
    ],
)
def test_a_mistake_does_not_block_the_folder(run, videos, tmp_path, words, text) -> None:
    out = tmp_path / "run"
    said = run("train", videos, "--model", NAME, "--out", out, *words)
    assert said.code == 2
    assert text in said.err
    assert not out.exists()
    assert "opening" not in said.err
