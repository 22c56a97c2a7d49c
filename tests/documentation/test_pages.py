"""The code blocks of README, Quickstart and how-to pages run as written."""

from __future__ import annotations

from pathlib import Path

import pytest

from documentation.run_page import blocks

ROOT = Path(__file__).parents[2]
RUNNER = Path(__file__).with_name("run_page.py")
PAGES = [
    ROOT / "README.md",
    ROOT / "docs" / "index.md",
    ROOT / "docs" / "quickstart.md",
    *sorted((ROOT / "docs" / "how-to").glob("*.md")),
]
RUN = [page for page in PAGES if any(b.reason is None for b in blocks(page.read_text("utf-8")))]


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(page: Path, run_python) -> None:
    run_python(RUNNER, page)


def test_few_blocks_are_not_run() -> None:
    found = [block for page in PAGES for block in blocks(page.read_text("utf-8"))]
    left_out = [block for block in found if block.reason is not None]
    assert len(left_out) * 4 <= len(found), [block.reason for block in left_out]
