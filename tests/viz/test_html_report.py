"""The report is one whole, inert, balanced page, and its file appears whole or not at all."""

from __future__ import annotations

import base64
import os
import re
import stat
import time
from html.parser import HTMLParser
from pathlib import Path

import made_up
import pytest
from made_up import HOSTILE

from foveate.core import FoveateError, Result, Score
from foveate.viz.report import report, write_report
from foveate.viz.why import Reason
from foveate.viz.why_page import Explained, reasons_page

VOID = {"meta", "img", "br", "link", "input", "hr"}
HOSTILE_NAME = HOSTILE.replace("\ud800", "") + '"><img src=http://x.test/a onerror=alert(1)>'


class Page(HTMLParser):
    """Reads a page and complains about a tag that is not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"{tag} has an attribute twice"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"{tag} closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def assert_inert(page: Page) -> None:
    """Nothing in the page runs or reaches out."""
    assert not page.named("script")
    assert not page.named("link")
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href", "action", "data", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/jpeg;base64,")), tag


def test_a_page_is_balanced_inert_and_says_what_was_found() -> None:
    html = report([made_up.result(), made_up.failed()], title="Holiday")
    page = Page(html)
    assert_inert(page)
    for text in ("Holiday", "skate_park.mp4", "skateboarding", "60.0 %", "1.04 G MACs", "8.41 MB"):
        assert text in page.text
    assert "broken.mov: no video stream (audio only)" in page.text
    assert "url(" not in html
    assert "@import" not in html


def test_everything_from_outside_is_text() -> None:
    hostile = Result(
        source=HOSTILE_NAME,
        model=HOSTILE_NAME,
        preset=HOSTILE_NAME,
        labels=[Score(label=HOSTILE_NAME, index=0, score=0.5)],
        segments=[made_up.segment(0, 1, HOSTILE_NAME)],
        warnings=[HOSTILE_NAME],
    )
    wrong = Result.failed(HOSTILE_NAME, "m", HOSTILE_NAME, HOSTILE_NAME)
    html = report([hostile, wrong] * 3, {HOSTILE_NAME: [(0.0, b"x")]}, HOSTILE_NAME)
    page = Page(html)
    assert_inert(page)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "b", "iframe"})
    assert [attributes["src"] for attributes in page.named("img")] == [
        f"data:image/jpeg;base64,{base64.b64encode(b'x').decode()}"
    ] * 6
    assert "<script>alert('x')</script>" in page.text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", html)


def test_a_page_of_reasons_is_inert_and_says_what_was_found() -> None:
    reasons = [
        Reason(0.0, None, 0.5, source="vectors"),
        Reason(1.0, (0, 0, 9, 9), 7.0, True, source=HOSTILE_NAME),
        Reason(2.0, None),
    ]
    inputs = [Explained(HOSTILE_NAME, reasons, [(reasons[1], b"x")], [HOSTILE_NAME])]
    html = reasons_page([*inputs, Explained("empty.mp4", [], [])], HOSTILE_NAME)
    page = Page(html)
    assert_inert(page)
    assert "the network sees each frame as a whole (3 frames)." in page.text
    assert "(fallback) in 1 of 3 frames." in page.text
    assert "Motion from nothing (not measured)." in page.text
    # The frame of the plot and one bar per frame with a gate, in another colour where it fell back.
    axes, *bars = page.named("rect")
    assert [bar["fill"] for bar in bars] == ["#4a86cf", "#eb6e5a"]
    assert all(float(bar["height"] or "") <= float(axes["height"] or "") for bar in bars)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", html)


def test_the_page_forbids_network_and_scripts() -> None:
    policies = [
        attributes["content"]
        for attributes in Page(report([])).named("meta")
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policies
    assert "default-src 'none'" in (policies[0] or "")
    assert "script-src" not in (policies[0] or "")


def test_the_page_is_accessible() -> None:
    page = Page(report([made_up.result()], {"skate_park.mp4": [(1.0, b"x")]}))
    names = [tag for tag, _ in page.tags]
    assert names.count("h1") == 1
    assert names.count("table") == names.count("caption") == 2
    assert all(attributes.get("scope") for attributes in page.named("th"))
    assert page.named("html")[0]["lang"] == "en"
    assert page.named("img")[0]["alt"] == "Frame at 0:01.0"
    assert page.named("svg")[0]["role"] == "img"


def luminance(colour: str) -> float:
    digits = colour * 2 if len(colour) == 3 else colour
    linear = [(int(digits[k : k + 2], 16) / 255) ** 2.2 for k in (0, 2, 4)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_has_contrast_in_light_dark_and_print() -> None:
    colours: dict[str, str] = {}
    roots = re.findall(r":root \{(.*?)\}", report([]), re.DOTALL)
    assert len(roots) == 3
    for root in roots:
        colours |= dict(re.findall(r"--([a-z-]+): #([0-9a-f]{3,6})", root))
        pairs = [("ink", "paper"), ("ink", "card"), ("soft", "paper"), ("soft", "card")]
        for text, paper in [*pairs, ("bad", "card"), ("bad", "bad-paper"), ("warn", "warn-paper")]:
            light, dark = sorted((luminance(colours[text]), luminance(colours[paper])))[::-1]
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, paper)


def test_few_inputs_are_open_and_many_are_folded() -> None:
    few = Page(report([made_up.result(), made_up.failed()]))
    assert all("open" in attributes for attributes in few.named("details"))
    many = Page(report([made_up.result(f"{k}.mp4") for k in range(9)] + [made_up.failed()]))
    assert len(many.named("details")) == 10
    assert not any("open" in attributes for attributes in many.named("details"))
    # What failed is linked from the top, to a place that exists.
    (link,) = many.named("a")
    ids = {f"#{attributes['id']}" for attributes in many.named("h2") if "id" in attributes}
    assert link["href"] in ids
    assert not Page(report([made_up.result()])).named("details")


def test_a_failure_is_listed_with_its_name_said_once() -> None:
    wrong = Result.failed("a/b/cut.mp4", "m", "media", "a/b/cut.mp4: truncated")
    html = report([wrong, *(made_up.result(f"{k}.mp4") for k in range(4))])
    assert "<bdi>a/b/cut.mp4</bdi></a>: <bdi>truncated</bdi></li>" in html


@pytest.mark.parametrize("results", [[], [made_up.failed()], [Result(source="a", model="m")]])
def test_no_results_and_empty_results_give_a_page(results: list[Result]) -> None:
    html = report(results)
    assert_inert(Page(html))
    assert "nan" not in Page(html).text


def test_a_thousand_results_are_fast_and_not_huge() -> None:
    results = [made_up.result(f"{k}.mp4", seed=k, length=12.0, segments=6) for k in range(1000)]
    # Time of this process alone: others may hold the machine.
    started = time.process_time()
    html = report(results)
    assert time.process_time() - started < 2
    assert len(html) < 10_000_000
    assert "1,000" in html


def test_the_file_is_written_whole_and_replaces_an_old_one(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    write_report(path, [made_up.result()], title="Grüße 跳舞")
    assert path.read_text(encoding="utf-8") == report([made_up.result()], title="Grüße 跳舞")
    assert os.listdir(tmp_path) == ["report.html"]
    plain = tmp_path / "plain"
    plain.touch()
    # Others may read it as they may read any new file.
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "kept.html").write_text("old")
    (tmp_path / "link.html").symlink_to("kept.html")
    write_report(tmp_path / "link.html", [])
    assert (tmp_path / "link.html").is_symlink()
    assert "no inputs" in (tmp_path / "kept.html").read_text(encoding="utf-8")


def test_an_unwritable_path_is_one_line(tmp_path: Path) -> None:
    for path in (
        tmp_path / "no" / "folder.html",
        tmp_path,
        tmp_path / "a\0b",
        tmp_path / ("x" * 300),
    ):
        with pytest.raises(FoveateError, match=r"cannot be written \(.+\)") as caught:
            write_report(path, [made_up.result()])
        assert "\n" not in str(caught.value)
        assert str(tmp_path.parent) not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(FoveateError, match="No space left"):
        write_report(path, [made_up.result()])
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["report.html"]


def test_detections_are_summed_up_by_label() -> None:
    html = report([made_up.detected()])
    assert_inert(Page(html))
    assert '<span class="best">4 detections</span>' in html
    assert "<bdi>car</bdi></th><td>3</td><td>2</td><td>90.0 %</td>" in html
    assert "<bdi>&lt;b&gt;</bdi></th><td>1</td>" in html
