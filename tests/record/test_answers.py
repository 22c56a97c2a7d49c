"""The library answers what it answered when `answers.json` was recorded.

`python scripts/record_answers.py` writes the record anew, `--check` prints every difference.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from scripts import record_answers as recorder

from record import inputs

RECORD = json.loads(recorder.RECORD.read_text("utf-8"))
GENERATED, SHARED = RECORD["generated"], RECORD["shared"]


@pytest.fixture(scope="module")
def generated(tmp_path_factory) -> Iterator[recorder.Answers]:
    folder = tmp_path_factory.mktemp("generated")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOVEATE_CACHE", str(folder / "cache"))
        yield recorder.Answers(folder, inputs.clips(), recorder.cases())


@pytest.fixture(scope="module")
def on_shared(tmp_path_factory, shared) -> Iterator[recorder.Answers]:
    folder = tmp_path_factory.mktemp("shared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOVEATE_CACHE", str(folder / "cache"))
        patch.setenv("FOVEATE_WEIGHTS", str(shared / "weights"))
        yield recorder.Answers(folder, recorder.shared_clips(shared), recorder.shared_cases())


def test_the_record_is_of_all_cases() -> None:
    assert GENERATED["cases"].keys() == recorder.cases().keys()
    assert SHARED["cases"].keys() == recorder.shared_cases().keys()
    assert GENERATED["clips"].keys() == inputs.clips().keys()
    assert tuple(SHARED["clips"]) == inputs.SHARED
    for section in (GENERATED, SHARED):
        assert all(rows.keys() == section["clips"].keys() for rows in section["cases"].values())


@pytest.mark.parametrize("clip", GENERATED["clips"])
def test_the_clip_is_the_recorded_one(generated, clip: str) -> None:
    if clip in recorder.not_the_recorded(GENERATED, generated):
        made = GENERATED["environment"]
        pytest.skip(f"encoded to other bytes than with PyAV {made['av']}: {clip} is not compared")


@pytest.mark.parametrize("case", GENERATED["cases"])
def test_answers_are_the_recorded_ones(generated, case: str) -> None:
    found = list(recorder.differences_of_case(GENERATED, case, generated))
    assert not found, _message(found, GENERATED)


@pytest.mark.shared
@pytest.mark.parametrize("case", SHARED["cases"])
def test_answers_on_shared_clips_are_the_recorded_ones(on_shared, case: str) -> None:
    found = list(recorder.differences_of_case(SHARED, case, on_shared))
    assert not found, _message(found, SHARED)


def _message(found: list[str], section: dict[str, Any]) -> str:
    """The differences, and where the record was made if that was elsewhere."""
    made = section["environment"]
    elsewhere = [] if made == recorder.environment() else [f"recorded with {made}"]
    return "\n".join(["", *found, *elsewhere])


# --- the comparison itself ----------------------------------------------------------------

ROW = GENERATED["cases"]["motion-patch"]["cut"]


def change(at: str, to: Callable[[Any], Any]) -> dict[str, Any]:
    """A copy of a recorded row with the value at a path of keys changed."""
    row = copy.deepcopy(ROW)
    *path, last = at.split("/")
    inner = row
    for key in path:
        inner = inner[int(key) if isinstance(inner, list) else key]
    key = int(last) if isinstance(inner, list) else last
    inner[key] = to(inner[key])
    return row


@pytest.mark.parametrize(
    ("at", "to"),
    [
        ("labels/0/1", lambda x: x + 2e-5),
        ("labels/4/0", lambda x: "another"),
        ("segments/0/1", lambda x: x + 0.04),
        ("segments/0/2", lambda x: "another"),
        ("macs", lambda x: x + 1),
        ("frames_decoded", lambda x: x - 1),
        ("exits/final", lambda x: x + 1),
        ("stages/network/0", lambda x: x + 1),
        ("stages/decode/2", lambda x: x + 1),
        ("trace/3", lambda x: x[::-1]),
        ("trace/0", lambda x: x + 1),
        ("box/0", lambda x: x + 0.1),
        ("gates/1", lambda x: x + 1e-3),
        ("warnings", lambda x: ["careful"]),
        ("duration", lambda x: None),
    ],
)
def test_a_change_is_found(at: str, to: Callable[[Any], Any]) -> None:
    found = recorder.differences(ROW, change(at, to), {})
    assert len(found) == 1
    assert at.split("/")[0].removesuffix("s") in found[0]


def test_the_last_digits_of_scores_may_differ() -> None:
    assert not recorder.differences(ROW, ROW, {})
    assert not recorder.differences(ROW, change("labels/0/1", lambda x: x + 5e-6), {})
    elsewhere = change("trace/3", lambda x: x[::-1])
    assert not recorder.differences(ROW, elsewhere, {}, same=False)
    assert not recorder.differences(ROW, change("labels/0/1", lambda x: x + 5e-4), {}, same=False)


def test_an_error_in_place_of_an_answer_is_found() -> None:
    assert recorder.differences(ROW, {"error": "internal"}, {})
    assert recorder.differences({"raised": "media"}, {"error": "media"}, {})


def test_a_stage_that_moved_is_the_same_where_that_is_declared() -> None:
    calls, macs, frames = ROW["stages"]["network"]
    moved = change("stages", lambda x: {k: v for k, v in x.items() if k != "network"})
    renamed = copy.deepcopy(moved)
    renamed["stages"]["features"] = [calls, macs, frames]
    assert recorder.differences(ROW, renamed, {})
    assert not recorder.differences(ROW, renamed, {"moved": {"network": "features"}})
    split = copy.deepcopy(moved)
    split["stages"] |= {"stem": [1, 5, 0], "trunk": [calls - 1, macs - 5, frames]}
    assert not recorder.differences(ROW, split, {"moved": {"network": ["stem", "trunk"]}})
    split["stages"]["trunk"][1] += 1
    assert recorder.differences(ROW, split, {"moved": {"network": ["stem", "trunk"]}})
    joined = copy.deepcopy(moved)
    head = joined["stages"].pop("head")
    joined["stages"]["all"] = [a + b for a, b in zip(head, (calls, macs, frames), strict=True)]
    assert not recorder.differences(ROW, joined, {"moved": {"network": "all", "head": "all"}})


def test_calls_of_a_stage_are_free_where_that_is_declared() -> None:
    more = change("stages/policy/0", lambda x: x + 1)
    assert recorder.differences(ROW, more, {})
    assert not recorder.differences(ROW, more, {"uncounted": ["policy"]})
    more["stages"]["policy"][1] += 1
    assert recorder.differences(ROW, more, {"uncounted": ["policy"]})
