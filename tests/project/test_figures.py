"""Figures in the documentation have files behind them, and the files say how they came to be."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from foveate.evaluate.results import read_result

ROOT = Path(__file__).parents[2]
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMED = {
    name
    for page in PAGES
    for name in re.findall(r"benchmarks/results/([\w.-]+\.json)", page.read_text("utf-8"))
}


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_result_is_whole_and_told_on_a_page(path: Path) -> None:
    result = read_result(path)
    assert result.protocol
    assert path.name in NAMED


def test_no_page_names_a_result_that_is_not_there() -> None:
    assert NAMED
    assert {path.name for path in RESULTS} >= NAMED
