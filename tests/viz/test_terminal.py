"""Terminal output: drawn in a terminal, plain elsewhere, and never steered by a name."""

from __future__ import annotations

import io
import re

import made_up
import pytest
from made_up import HOSTILE, segment
from rich.cells import cell_len
from rich.console import Console

from foveate.core import Result
from foveate.viz import print_line, print_result, print_summary

NAME = HOSTILE.replace("\ud800", "")


def console(terminal: bool, width: int = 80, encoding: str = "utf-8") -> Console:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True, newline="\n")
    return Console(
        file=stream,
        force_terminal=terminal,
        width=width,
        color_system="truecolor" if terminal else None,
        legacy_windows=False,
        _environ={},
    )


def printed(where: Console) -> str:
    stream = where.file
    assert isinstance(stream, io.TextIOWrapper)
    return stream.buffer.getvalue().decode(stream.encoding)  # type: ignore[attr-defined]


def bare(text: str) -> str:
    """Without the colours that rich sets."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_a_terminal_gets_bars_a_timeline_and_the_ledger() -> None:
    where = console(True)
    print_result(made_up.result(), where)
    text = printed(where)
    assert "\x1b[" in text
    for said in ("skate_park.mp4", "60.0 %", "━", "█", "decode", "8.41 MB", "total"):
        assert said in bare(text)
    assert all(cell_len(line) <= 80 for line in bare(text).splitlines())


def test_a_pipe_gets_plain_ascii_ornaments() -> None:
    where = console(False)
    print_result(made_up.result(), where)
    text = printed(where)
    assert text.isascii()
    assert "\x1b" not in text
    assert re.search(r"0:00\.0 to 0:\d\d\.\d +\d\d\.\d %  \w+", text)
    assert "1.04 G" in text


def test_no_color_makes_a_terminal_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    print_result(
        made_up.result(),
        Console(file=stream, force_terminal=True, _environ={"NO_COLOR": "1"}),
    )
    assert "\x1b" not in stream.getvalue()
    assert "█" not in stream.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_names_and_labels_steer_nothing(terminal: bool) -> None:
    where = console(terminal, width=200)
    answer = made_up.result(NAME).model_copy(
        update={"segments": [segment(0, 9, NAME)], "warnings": [NAME, "[/nonsense]"]}
    )
    wrong = Result.failed(NAME, "m", NAME, NAME)
    for one in (answer, wrong):
        print_result(one, where)
        print_line(one, where)
    text = bare(printed(where))
    assert "[bold]x[/bold]" in text
    assert "[/nonsense]" in text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text)


def test_one_line_per_file_and_a_summary() -> None:
    where = console(False, width=40)
    results = [made_up.result("a.mp4"), made_up.failed(), made_up.result("b.mp4")]
    for one in results:
        print_line(one, where)
    print_summary(results, where)
    first, second, third, last = printed(where).splitlines()
    assert first.split("\t") == ["a.mp4", "skateboarding", "60.0 %", "1.04 G MACs", "2.19 s"]
    assert second == "broken.mov\tfailed\tbroken.mov: no video stream (audio only)"
    assert third.startswith("b.mp4\t")
    assert last.startswith("3 inputs, 1 failed, 2.09 G MACs, ")


@pytest.mark.parametrize("width", [20, 60, 80, 200])
def test_lines_in_a_terminal_line_up_whatever_the_names(width: int) -> None:
    where = console(True, width=width)
    for name in ("a.mp4", "folder/" * 40 + "clip_17.mp4", "跳舞" * 30 + ".mp4"):
        print_line(made_up.result(name), where)
    print_line(made_up.failed("x" * 500), where)
    lines = bare(printed(where)).splitlines()
    assert len(lines) == 4
    assert len({cell_len(line) for line in lines[:3]}) == 1
    if width >= 70:
        assert all(cell_len(line) <= width for line in lines)
        assert "clip_17.mp4" in lines[1] or width < 200


def test_a_stream_that_knows_no_unicode_gets_codes_instead_of_an_error() -> None:
    for terminal in (True, False):
        where = console(terminal, encoding="ascii")
        answer = made_up.result("跳舞.mp4").model_copy(update={"segments": [segment(0, 9, "žluť")]})
        print_result(answer, where)
        print_line(answer, where)
        assert r"\u8df3\u821e.mp4" in printed(where)


@pytest.mark.parametrize("terminal", [True, False])
def test_results_with_little_in_them_print_little(terminal: bool) -> None:
    empty = Result(source="a.mp4", model="m")
    moment = Result(source="b.mp4", model="m", segments=[segment(0, 0, "none")])
    where = console(terminal)
    for one in (empty, moment, made_up.failed()):
        print_result(one, where)
        print_line(one, where)
    print_summary([], where)
    text = bare(printed(where))
    assert "no label" in text
    assert "failed: broken.mov: no video stream (audio only)" in text
    assert "0 inputs, 0 failed" in text


def test_long_lists_of_segments_are_cut_in_plain_text() -> None:
    where = console(False)
    print_result(made_up.result(segments=5000, length=9000.0), where)
    lines = printed(where).splitlines()
    assert len(lines) < 60
    assert any("and 4,980 more segments" in line for line in lines)


def test_thousands_of_segments_are_one_row_in_a_terminal() -> None:
    where = console(True)
    print_result(made_up.result(segments=5000, length=9000.0), where)
    assert len(bare(printed(where)).splitlines()) < 30


@pytest.mark.parametrize("terminal", [True, False])
def test_detections_are_summed_up_by_label(terminal: bool) -> None:
    where = console(terminal)
    print_result(made_up.detected(), where)
    print_line(made_up.detected(), where)
    text = bare(printed(where))
    assert "  car: 3 detections, 2 tracks, best 90.0 %\n" in text
    assert "  <b>: 1 detection, best 30.0 %\n" in text
    assert "4 detections" in text.splitlines()[-1]
    assert "no label" not in text
