"""`examples/own_videos`: thirty clips in three folders become a model, by the commands it names."""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch

from foveate.data.mocap15 import FPS, clip_specs, render_clip
from foveate.media.encode import encode

PAGE = Path(__file__).parents[2] / "examples" / "own_videos" / "README.md"
CLASSES = ("getup_faceup", "spinkick", "walk")
PER_CLASS = 10
SMALL = (160, 120)


def test_the_example_works_as_written(run, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    for label in CLASSES:
        specs = [s for s in clip_specs(PER_CLASS * 15, 5, size=SMALL) if s.label == label]
        (tmp_path / "videos" / label).mkdir(parents=True)
        for spec in specs:
            frames = list(render_clip(spec).frames())[:50]
            encode(tmp_path / "videos" / label / f"{spec.index}.mp4", frames, FPS)
    (block,) = re.findall(r"```sh\n(foveate data check.*?)```", PAGE.read_text(), re.S)
    commands = [line.split()[1:] for line in block.strip().splitlines()]
    assert [command[0] for command in commands] == ["data", "train", "evaluate"]
    for command in commands:
        said = run(*command)
        assert said.code == 0, said.err
    assert Path("report.html").stat().st_size > 10_000
    said = run("evaluate", "videos", "--model", "runs/mine", "--json", "figures.json", "--split",
               "train")  # fmt: skip
    figures = {
        f["name"]: f["value"] for f in json.loads(Path("figures.json").read_text())["figures"]
    }
    assert figures["top1@video,views=1"] > 0.8  # it learned what it was shown
    clip = next(Path("videos/walk").iterdir())
    assert run("predict", clip, "--model", "runs/mine", "--json", "-").code == 0
