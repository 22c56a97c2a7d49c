"""The command, in this process and as a user starts it, over the tiny model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

import forks
import tiny_weights
from clips import encode
from foveate.app.main import app
from foveate.models import registry
from foveate.models.weights import table
from foveate.pipeline import presets
from foveate.train.kit import memory

LAUNCH = Path(__file__).with_name("launch.py")


@dataclass
class Said:
    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def published(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    tiny_weights.publish(folder)
    return folder


@pytest.fixture
def run(published, monkeypatch):
    """`run("predict", "a.mp4")` in this process; torch is loaded only once."""
    table.entries()  # weights and families are discovered once; that must not be undone below
    monkeypatch.setattr(table, "_ENTRIES", table._ENTRIES)
    # It changes malloc for the rest of the process, which other tests share.
    monkeypatch.setattr(memory, "keep_freed_memory", lambda: False)
    registry.available()
    monkeypatch.setitem(registry._ENTRIES, tiny_weights.ARCH, None)
    for name in ("FOVEATE_WEIGHTS", "FOVEATE_CACHE", "FOVEATE_OFFLINE"):
        monkeypatch.setenv(name, "")
    before = presets.Preset.model_fields["model"].default
    tiny_weights.enter(published)

    def call(*arguments: str | Path) -> Said:
        words = [str(a) for a in arguments]
        if words[0] == "predict":
            words[1:1] = ["--model", tiny_weights.NAME]
        done = CliRunner().invoke(app, words)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Said(done.exit_code, done.stdout, done.stderr)

    yield call
    presets.Preset.model_fields["model"].default = before
    presets.Preset.model_rebuild(force=True)


@pytest.fixture
def start(published):
    """`start("predict", "a.mp4")` as a process of its own; bytes in names are kept."""

    def call(*arguments: str | bytes | Path, **how) -> Said:
        done = forks.python(LAUNCH, published, *arguments, **how)
        return Said(done.code, done.out.decode(), done.err.decode())

    return call


@pytest.fixture(scope="session")
def clips(tmp_path_factory) -> Path:
    """A folder with two good videos, a text and a damaged one."""
    folder = tmp_path_factory.mktemp("clips")
    (folder / "one.mp4").write_bytes(encode(frames=30))
    (folder / "sub").mkdir()
    (folder / "sub" / "two.mkv").write_bytes(encode("matroska", frames=60, first=40))
    (folder / "text.mp4").write_text("not a video at all")
    (folder / "notes.txt").write_text("not even named like one")
    (folder / "cut.mp4").write_bytes(encode(frames=30)[:500])
    return folder
