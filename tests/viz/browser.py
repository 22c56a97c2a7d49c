"""Pages and plots as a browser lays them out: what overlaps, what is cut off, what is blank."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
HEIGHT = 900  # of the part of a page that is on the screenshot

# For every page: the boxes of its texts and circles in pixels, and how wide it is. Each line of a
# paragraph is a text.
_MEASURE = """
function measure(frame) {
  const page = frame.contentDocument, root = page.documentElement, texts = [];
  const walker = page.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  const box = r => [r.left, r.top, r.right, r.bottom];
  for (let node; node = walker.nextNode();) {
    const parent = node.parentElement;
    if (!node.data.trim() || parent.closest("style, title, head")) continue;
    const range = page.createRange();
    range.selectNodeContents(node);
    const svg = parent.closest("svg"), area = parent.closest(".wide");
    for (const rect of range.getClientRects())
      if (rect.width && rect.height && parent.checkVisibility())
        texts.push({text: node.data.trim(), box: box(rect), scrolls: area !== null,
                    size: parseFloat(getComputedStyle(parent).fontSize) *
                          (svg ? svg.getScreenCTM().a : 1),
                    svg: svg && box(svg.getBoundingClientRect())});
  }
  return {
    width: frame.clientWidth,
    reach: root.scrollWidth,
    texts: texts,
    marks: [...page.querySelectorAll("circle")].map(mark => box(mark.getBoundingClientRect())),
  };
}
onload = () => {
  const found = [...document.querySelectorAll("iframe")].map(measure);
  document.getElementById("found").textContent = JSON.stringify(found).replaceAll("<", "\\u003c");
};
"""


@dataclass(frozen=True)
class Text:
    """One line of text: its box `(left, top, right, bottom)`, and that of its drawing if any.

    Attributes:
        scrolls: Whether it lies in a part of the page that scrolls sideways.
        size: Of the font, in pixels of the screen.
    """

    text: str
    box: tuple[float, float, float, float]
    scrolls: bool
    size: float
    svg: tuple[float, float, float, float] | None


@dataclass(frozen=True)
class Page:
    """A page in a window of `width` pixels, of which it takes `reach`, and its first pixels."""

    width: int
    reach: int
    texts: list[Text]
    marks: list[tuple[float, float, float, float]]
    pixels: np.ndarray

    def faults(self) -> list[str]:
        """What a reader would complain about, one line each."""
        found = [
            f"{a.text[:40]!r} overlaps {b.text[:40]!r}"
            for k, a in enumerate(self.texts)
            for b in self.texts[k + 1 :]
            if _overlap(a.box, b.box)
        ]
        found += [
            f"{text.text[:40]!r} covers a point"
            for text in self.texts
            if any(_overlap(text.box, mark) for mark in self.marks)
        ]
        for text in self.texts:
            left, top, right, bottom = text.svg or (0, 0, self.width, math.inf)
            if text.scrolls and not text.svg:
                right = math.inf
            box = text.box
            if box[0] < left - 1 or box[1] < top - 1 or box[2] > right + 1 or box[3] > bottom + 1:
                found.append(f"{text.text[:40]!r} is cut off")
            if text.size < 9:
                found.append(f"{text.text[:40]!r} is too small to read")
        if (abs(self.pixels - np.median(self.pixels, (0, 1))).max(2) > 40).sum() < 500:
            found.append("the page is blank")
        return found


def _overlap(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether two boxes share more than what lines of text have between them."""
    wide, tall = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return wide > 1 and tall > 3


def lay_out(pages: Mapping[str, str], widths: Sequence[int], folder: Path) -> dict[Any, Page]:
    """Open pages of HTML or SVG in Chromium, all at once, in windows of each width.

    Returns:
        `(name, width)` → the page.
    """
    assert CHROMIUM is not None
    frames = []
    for name, text in pages.items():
        file = folder / f"{name}.{'svg' if text.lstrip().startswith('<svg') else 'html'}"
        file.write_text(text, "utf-8", "replace")
        frames += [
            f'<iframe src="{file.name}" style="display:block;border:0;width:{width}px;'
            f'height:{HEIGHT}px"></iframe>'
            for width in widths
        ]
    (folder / "all.html").write_text(
        '<!DOCTYPE html><html><meta charset="utf-8"><body style="margin:0;background:#fff">'
        f'{"".join(frames)}<script type="application/json" id="found"></script>'
        f"<script>{_MEASURE}</script>",
        "utf-8",
    )
    done = subprocess.run(
        [
            CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            "--allow-file-access-from-files", f"--user-data-dir={folder / 'profile'}",
            "--virtual-time-budget=5000", "--dump-dom", f"--screenshot={folder / 'all.png'}",
            f"--window-size={max(widths)},{HEIGHT * len(frames) + 200}",
            (folder / "all.html").as_uri(),
        ],
        capture_output=True, timeout=120, check=True,
    )  # fmt: skip
    (text,) = re.findall(r'id="found">(.*?)</script>', done.stdout.decode("utf-8"), re.DOTALL)
    screen = np.asarray(Image.open(folder / "all.png").convert("RGB"))
    keys = product(pages, widths)
    return {
        key: Page(
            one["width"], one["reach"], [Text(**text) for text in one["texts"]], one["marks"],
            screen[k * HEIGHT : (k + 1) * HEIGHT, : key[1]],
        )
        for k, (key, one) in enumerate(zip(keys, json.loads(text), strict=True))
    }  # fmt: skip
