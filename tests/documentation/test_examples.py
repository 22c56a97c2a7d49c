"""Every script of `examples/` runs on generated clips, and says what it promises."""

from __future__ import annotations

from pathlib import Path

import pytest

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
