"""A folder to try documentation and examples in: the bundled clip, and labelled clips."""

from __future__ import annotations

import shutil
from itertools import islice
from pathlib import Path

import pytest

import forks
from foveate.data.mocap15 import FPS, clip_specs, render_clip
from foveate.media.encode import encode

ROOT = Path(__file__).parents[2]
CLASSES = ("getup_faceup", "spinkick", "walk")
PER_CLASS = 8
SIZE = (160, 120)
FRAMES = 40


@pytest.fixture(scope="session")
def labelled(tmp_path_factory) -> Path:
    """A folder per class with rendered clips of 1.6 seconds."""
    folder = tmp_path_factory.mktemp("labelled") / "videos"
    for label in CLASSES:
        (folder / label).mkdir(parents=True)
    specs = [s for s in clip_specs(PER_CLASS * 15, 5, size=SIZE) if s.label in CLASSES]
    for spec in specs:
        frames = islice(render_clip(spec).frames(), FRAMES)
        encode(folder / spec.label / f"{spec.index}.mp4", frames, FPS)
    return folder


@pytest.fixture
def run_python(labelled, tmp_path):
    """`run_python(script, *arguments)` in a folder with `clip.mp4` and `videos/`; its output."""
    shutil.copyfile(ROOT / "examples" / "demo" / "cartwheel.mp4", tmp_path / "clip.mp4")
    shutil.copytree(labelled, tmp_path / "videos")
    environment = {
        "FOVEATE_OFFLINE": "1",
        "FOVEATE_CACHE": str(tmp_path / "cache"),
        "FOVEATE_WEIGHTS": "",
        "OMP_NUM_THREADS": "1",
    }

    def call(*words: str | Path) -> str:
        done = forks.python(*words, cwd=tmp_path, environment=environment)
        out, errors = done.out.decode(), done.err.decode()
        assert done.code == 0, f"{out}\n{errors}"
        return out

    return call
