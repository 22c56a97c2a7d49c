"""Every script of `examples/` runs on generated clips, and says what it promises."""

from __future__ import annotations

import ast
import json
import os
import runpy
import shutil
import subprocess
import sys
import tomllib
from itertools import islice
from pathlib import Path

import pytest

from foveate.data.mocap15 import FPS, clip_specs, render_clip
from foveate.media.encode import encode
from foveate.primitives.pipeline import Pipeline

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
# Script → its argument in the folder of the test, and what it must print and write.
RUN = {
    "own_folder": ("videos", "95 % interval", "runs/own_folder/run.json"),
    "streams": ("clip.mp4", "best labels over all steps", None),
    "motion_patches": ("clip.mp4", "motion-patch  cartwheel", "patch-00.jpg"),
    "compressed_domain": ("videos", "published  decided at", "runs/compressed/run.json"),
    "compare_models": ("videos", "motion patch", "comparison.json"),
}


def test_every_script_is_known_and_on_the_page() -> None:
    page = (EXAMPLES / "README.md").read_text("utf-8")
    scripts = {path.stem for path in EXAMPLES.glob("*.py")}
    assert scripts == set(RUN)
    assert all(f"examples/{name}.py" in page for name in scripts)


@pytest.mark.parametrize("name", RUN)
def test_an_example_runs(name: str, run_python, tmp_path) -> None:
    argument, printed, written = RUN[name]
    assert printed in run_python(EXAMPLES / f"{name}.py", argument)
    assert written is None or (tmp_path / written).is_file()


def test_autovideos_quick_start_trains_on_six_classes(tmp_path, monkeypatch, capsys) -> None:
    six = {"backflip", "cartwheel", "crawl", "jump", "punch", "walk"}
    for spec in [s for s in clip_specs(5 * 15, 5, size=(96, 72)) if s.label in six]:
        (tmp_path / "videos" / spec.label).mkdir(parents=True, exist_ok=True)
        frames = islice(render_clip(spec).frames(), 12)
        encode(tmp_path / "videos" / spec.label / f"{spec.index}.mp4", frames, FPS)
    folder = EXAMPLES / "autovideo_style"
    code = ast.parse((folder / "quick_start.py").read_text("utf-8")).body[1:]
    code = [one for one in code if not isinstance(one, ast.Import | ast.ImportFrom)]
    assert code[-1].end_lineno - code[0].lineno < 10
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["quick_start.py", "videos"])
    runpy.run_path(str(folder / "quick_start.py"))
    said = capsys.readouterr().out
    assert "resize-shorter(size=72), then random-crop(size=64), then flip" in said
    assert "top-1 on test clips:" in said
    run = tmp_path / "runs" / "autovideo"
    assert set(json.loads((run / "run.json").read_text())["classes"]) == six
    # The YAML file beside the script is the same pipeline.
    assert Pipeline.read(run / "pipeline.json") == Pipeline.read(folder / "pipeline.yaml")


def test_a_package_adds_primitives_by_its_entry_points(tmp_path) -> None:
    """Installed as pip would: a folder in `sys.path` with the package and its metadata."""
    source = EXAMPLES / "primitive_package"
    shutil.copytree(source / "src", tmp_path / "site")
    project = tomllib.loads((source / "pyproject.toml").read_text("utf-8"))["project"]
    info = tmp_path / "site" / "foveate_mean_pool-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0.1.0\n"
    )
    points = project["entry-points"]["foveate.primitives"].items()
    lines = "".join(f"{name} = {value}\n" for name, value in points)
    (info / "entry_points.txt").write_text(f"[foveate.primitives]\n{lines}")
    script = """
import warnings
warnings.simplefilter("error")
import foveate_mean_pool  # its classes first: no entry point is loaded yet
import foveate
from foveate.models import registry
spec = foveate.Pipeline(
    sampler={"kind": "every", "rate": 2}, recogniser={"kind": "mean-pool", "width": 8},
    transforms=["scan-lines", {"kind": "one-of", "transforms": ["scan-lines"]}],
)
assert foveate.Pipeline.model_validate_json(spec.to_json()) == spec
assert isinstance(spec.recogniser, foveate_mean_pool.MeanPool)
assert spec.settings()["sampler"] == {"kind": "every", "frames": None, "rate": 2.0}
network = registry._ENTRIES["mean-pool"].build(num_classes=2, width=8)
print(sum(p.numel() for p in network.parameters()))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True,
        timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(3 * 8 * 25 + 8 + 8 * 2 + 2)
