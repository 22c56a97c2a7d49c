"""The log: the same run, the same bytes, truncated to where a checkpoint was taken."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from foveate.core import FoveateError, MissingExtra
from foveate.train.kit import log as log_module
from foveate.train.kit.log import TRACKERS, Log, require_tracker


def step(log: Log, number: int) -> None:
    row = {"event": "step", "epoch": 0, "step": number, "lr": 0.1, "loss": 1 / number}
    log.write(**row, grad_norm=None)


def contents(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "log.jsonl").read_bytes(), (folder / "log.csv").read_bytes()


def test_rows_are_there_at_once_in_both_forms(tmp_path: Path) -> None:
    log = Log(tmp_path)
    step(log, 3)
    log.write(event="epoch", epoch=0, step=3, loss=0.5, figures={"top1": 0.25})
    lines, table = (data.decode() for data in contents(tmp_path))
    assert [json.loads(line)["event"] for line in lines.splitlines()] == ["step", "epoch"]
    assert json.loads(lines.splitlines()[0])["loss"] == 1 / 3
    log.close()
    assert table == "event,epoch,step,loss,top1\nepoch,0,3,0.5,0.25\n"


def test_a_resumed_run_cuts_off_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    broken = tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
        log = Log(folder)
        step(log, 1)
        lengths = log.lengths()
        step(log, 2)
        log.close()
    for name in ("log.jsonl", "log.csv"):
        with (broken / name).open("ab") as file:
            file.write(b'{"event": "st')  # torn by a kill
    log = Log(broken, lengths)
    step(log, 2)
    log.close()
    assert contents(broken) == contents(whole)


def test_a_new_run_starts_new_files(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("left by a run that died before its first checkpoint\n")
    log = Log(tmp_path)
    step(log, 1)
    log.close()
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1


def test_a_log_shorter_than_its_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("")
    with pytest.raises(FoveateError, match=r"log\.jsonl: shorter than the checkpoint says"):
        Log(tmp_path, {"log.jsonl": 10, "log.csv": 10})


def test_processes_that_do_not_lead_write_nothing(tmp_path: Path) -> None:
    log = Log(None)
    step(log, 1)
    assert log.lengths() == {}
    log.close()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FoveateError, match=r"log\.jsonl: cannot be written"):
        Log(tmp_path / "nowhere")


class FullDisk(io.BytesIO):
    """A buffered file on a full disk: what was written is refused when it is flushed."""

    def flush(self) -> None:
        raise OSError(28, "No space left on device")

    def close(self) -> None:
        self.flush()


def test_a_full_disk_is_one_line_and_closing_is_quiet(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log._files["log.jsonl"] = FullDisk()
    for refused in (lambda: step(log, 1), log.lengths):
        with pytest.raises(FoveateError, match="No space left on device"):
            refused()
    log.close()


def test_lengths_are_on_the_disk_before_they_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    log = Log(tmp_path)
    step(log, 1)
    handles = [file.fileno() for file in log._files.values()]
    assert log.lengths() == {p.name: p.stat().st_size for p in tmp_path.iterdir()}
    assert synced == handles
    log.close()


def test_tensorboard_gets_the_same_numbers(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = Log(tmp_path, tracker="tensorboard")
    for number in (1, 2, 3):
        step(log, number)
    log.close()
    again = Log(tmp_path, {"log.jsonl": 0, "log.csv": 0}, "tensorboard", step=1)
    step(again, 2)
    again.close()
    seen: Any = EventAccumulator(str(tmp_path / "tensorboard"))
    seen.Reload()
    losses = {event.step: event.value for event in seen.Scalars("step/loss")}
    assert losses == pytest.approx({1: 1.0, 2: 0.5}), "step 3 was forgotten with the resume"


def test_wandb_gets_the_same_numbers_and_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []

    class Service:
        def log(self, values: dict[str, float], step: int) -> None:
            sent.append((values, step))

        def finish(self) -> None:
            sent.append("finished")

    def init(**given: Any) -> Service:
        sent.append((given["id"], given["name"], given["resume"]))
        return Service()

    ids = iter(["one", "two"])
    util = SimpleNamespace(generate_id=lambda: next(ids))
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init, util=util))
    log = Log(tmp_path, tracker="wandb")
    log.write(event="epoch", epoch=0, step=3, loss=0.5, figures={"top1": 0.25})
    log.close()
    Log(tmp_path, {"log.jsonl": 0, "log.csv": 0}, "wandb", step=3).close()
    started = ("one", tmp_path.name, "allow")
    values = {"epoch/loss": 0.5, "epoch/top1": 0.25}
    assert sent == [started, (values, 3), "finished", started, "finished"]


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "find_spec", lambda name: None)
    require_tracker("none")
    for name in TRACKERS:
        with pytest.raises(MissingExtra, match=rf"foveate\[{name}\]"):
            require_tracker(name)
