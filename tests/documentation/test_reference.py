"""The generated reference pages name every command, option, policy and recipe."""

from __future__ import annotations

import re

from scripts import reference

from foveate.policy.build import DECISIONS, LOOKS
from foveate.primitives.base import GROUPS, registered
from foveate.train.api import RECIPES


def test_the_command_page_has_every_command_and_option() -> None:
    page = reference.command()
    headings = re.findall(r"^## `foveate (.+)`$", page, re.M)
    assert {"predict", "train", "data check", "weights import"} <= set(headings)
    predict = page.partition("## `foveate predict`")[2].partition("\n## ")[0]
    assert "| `--look` | `LOOK` |" in predict
    assert "| `--report` | `FILE` |" in predict
    assert r"| `--threads` | `N\|auto` | `1` |" in predict
    assert "--help" not in page


def test_the_settings_page_has_every_policy_and_recipe_with_its_bounds() -> None:
    page = reference.settings()
    headings = re.findall(r"^### `(.+)`$", page, re.M)
    known = [
        "budget",
        "decode",
        *LOOKS,
        *DECISIONS,
        *RECIPES,
        *reference.SEARCHES,
        *reference.EVENTS,
    ]
    assert sorted(headings) == sorted(known)
    events = page.partition("### `events`")[2].partition("\n### ")[0]
    assert "| `start_threshold` | float, > 0, ≤ 1 | `0.6` |" in events
    patch = page.partition("### `motion-patch`")[2].partition("\n### ")[0]
    assert "| `gate` | float, ≥ 0, ≤ 1 | `0.1` |" in patch
    search = page.partition("### `architecture`")[2].partition("\n### ")[0]
    assert "| `target` | str | required |" in search
    distill = page.partition("### `distill`")[2].partition("\n### ")[0]
    assert "| `teacher` | str |" in distill
    assert "`label_smoothing`" in distill.partition("As in `supervised`:")[2]


def test_the_pipelines_page_has_every_kind_with_its_bounds() -> None:
    page = reference.pipelines()
    headings = re.findall(r"^### `(.+)`$", page, re.M)
    assert sorted(headings) == sorted(kind for group in GROUPS for kind in registered(group))
    tsm = page.partition("### `tsm`")[2].partition("\n### ")[0]
    assert "| `dropout` | float, ≥ 0, < 1 | `0.5` |" in tsm


def test_tables_have_as_many_cells_as_columns() -> None:
    for page in (reference.command(), reference.settings(), reference.pipelines()):
        rows = [line for line in page.splitlines() if line.startswith("|")]
        assert rows
        assert {len(re.split(r"(?<!\\)\|", row)) for row in rows} == {6}
