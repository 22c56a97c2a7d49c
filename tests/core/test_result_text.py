"""A Result as one line, as a few lines, as HTML and as a table."""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import pytest

from foveate.core import (
    Cost,
    Detection,
    MissingExtra,
    Result,
    Score,
    Segment,
    StageCost,
    Trace,
    TraceStep,
)
from foveate.core.result_text import COLUMNS

HOSTILE = "<script>alert('x')</script>\"&\x00\x1b[31m\u202e\n"


def example(label: str = "kick", segments: int = 2) -> Result:
    return Result(
        source="clip.mp4",
        model="net.k600",
        preset="fast",
        duration=2.0,
        labels=[
            Score(label=label, index=3, score=0.5),
            Score(label="jump", index=1, score=0.25),
        ],
        segments=[
            Segment(start=k, end=k + 1, label=label, index=3, score=0.5) for k in range(segments)
        ],
        cost=Cost.of(
            [
                StageCost(name="decode", calls=2, frames=7, bytes=9_000, seconds=0.5),
                StageCost(name="network", calls=1, macs=49_700_000, seconds=0.25),
            ]
        ),
        trace=Trace(size=[4, 2], steps=[TraceStep(time=1.0, frames=[0.5, 1.0], exit="final")]),
        warnings=["over budget"],
    )


def detected() -> Result:
    found = [
        Detection(time=t, box=[1, 2, 3, 4 + t], label="car", index=2, score=0.5, track=7)
        for t in (0, 1)
    ]
    other = Detection(time=1, box=[0, 0, 9, 9], label="person", index=0, score=0.75)
    return Result(source="a.mp4", model="m", task="detect", detections=[*found, other])


def test_the_line_has_source_label_and_cost() -> None:
    said = "clip.mp4: kick 50.0 %, 2 segments, 49.7 M MACs, 750 ms"
    assert str(example()) == f"{example()}" == said
    assert repr(example()) == f"Result({said})"
    assert str(detected()) == "a.mp4: 3 detections of 2 labels, 0 MACs, 0 s"
    failed = Result.failed("a/b.mp4", "m", "media", "a/b.mp4: empty")
    assert str(failed) == "a/b.mp4: failed: empty"
    assert str(Result(source="a", model="m")) == "a: no label, 0 MACs, 0 s"


def test_the_line_is_one_line_for_any_names() -> None:
    result = example(HOSTILE).model_copy(update={"source": HOSTILE})
    for text in (str(result), repr(result)):
        assert text.isprintable()


def test_the_summary_has_labels_segments_cost_and_warnings() -> None:
    assert example().summary().splitlines() == [
        "clip.mp4: kick 50.0 %, 2 segments, 49.7 M MACs, 750 ms",
        "  model net.k600, preset fast, 2.00 s of video",
        "  labels      kick 50.0 %",
        "              jump 25.0 %",
        "  segments    0:00.0 to 0:01.0  kick 50.0 %",
        "              0:01.0 to 0:02.0  kick 50.0 %",
        "  cost        decode: 2 calls, 500 ms, 7 frames, 9.00 kB",
        "              network: 1 call, 250 ms, 49.7 M MACs",
        "  warnings    over budget",
    ]
    assert detected().summary().splitlines()[2:] == [
        "  detections  car: 2 detections, 1 track, best 50.0 %",
        "              person: 1 detection, best 75.0 %",
    ]


def test_the_summary_of_a_long_video_stays_short() -> None:
    lines = example(segments=2000).summary().splitlines()
    assert len(lines) < 40
    assert "              and 1,980 more" in lines


class Tags(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not attrs
        self.found.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize(
    "result", [example(HOSTILE), detected(), Result.failed("a", "m", "k", HOSTILE)]
)
def test_html_is_small_escaped_and_loads_nothing(result: Result) -> None:
    page = Tags(result._repr_html_())
    assert set(page.found) <= {"div", "strong", "table", "tr", "td"}
    assert str(result) in page.text
    assert len(example(segments=2000)._repr_html_()) < 4_000


def test_without_pandas_one_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtra) as caught:
        example().to_pandas()
    assert str(caught.value) == ("pandas is not installed (type: pip install 'foveate[pandas]')")


TABLES: list[tuple[str, Result, dict[str, Any]]] = [
    ("labels", example(), {"label": "kick", "index": 3, "score": 0.5}),
    ("segments", example(), {"start": 0.0, "end": 1.0, "label": "kick", "score": 0.5}),
    ("detections", detected(), {"time": 0.0, "x1": 1.0, "y2": 4.0, "label": "car", "track": 7}),
    ("steps", example(), {"time": 1.0, "frames": [0.5, 1.0], "exit": "final", "part": None}),
]


@pytest.mark.parametrize(("what", "result", "first"), TABLES)
def test_tables_have_their_columns_and_the_source(
    what: Any, result: Result, first: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a fake pandas, so that this runs without the extra."""
    stand_in = SimpleNamespace(DataFrame=lambda rows, columns: (rows, columns))
    monkeypatch.setitem(sys.modules, "pandas", stand_in)
    rows, columns = result.to_pandas(what)
    assert tuple(columns) == COLUMNS[what]
    assert all(set(row) == set(columns) for row in rows)
    assert first.items() <= rows[0].items()
    assert {row["source"] for row in rows} == {result.source}
    empty, columns = Result(source="a", model="m").to_pandas(what)
    assert (list(empty), tuple(columns)) == ([], COLUMNS[what])


def test_another_table_is_rejected() -> None:
    with pytest.raises(ValueError, match="no table 'boxes'; there are labels, segments"):
        example().to_pandas("boxes")  # type: ignore[arg-type]


@pytest.mark.parametrize(("what", "result", "first"), TABLES)
def test_pandas_takes_the_rows(what: Any, result: Result, first: dict[str, Any]) -> None:
    pandas = pytest.importorskip("pandas", reason="needs the extra pandas")
    frame = result.to_pandas(what)
    assert isinstance(frame, pandas.DataFrame)
    assert tuple(frame.columns) == COLUMNS[what]
    for column in first.keys() & {"label", "exit"}:
        assert frame[column][0] == first[column]
    assert len(pandas.concat([frame, Result(source="b", model="m").to_pandas(what)])) == len(frame)
