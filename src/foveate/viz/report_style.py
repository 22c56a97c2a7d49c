"""The style sheet of the report: one column of calm paper, light or dark as the reader has it."""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #f6f7f8; --card: #fff; --ink: #1b2127; --soft: #5a6570; --line: #e2e6ea;
  --bar: #4a86cf; --groove: #eceff2; --bad: #b3261e; --bad-paper: #fdf1ef;
  --warn: #7a5200; --warn-paper: #fdf6e3;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #121518; --card: #1a1e22; --ink: #e7eaee; --soft: #9ea9b5; --line: #2c3238;
    --bar: #5b95da; --groove: #272d33; --bad: #ff9d94; --bad-paper: #33201f;
    --warn: #ecc36a; --warn-paper: #2d2719;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 66rem; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
  font-variant-numeric: tabular-nums;
}
h1, h2, h3, p, dl, dd, ul, table, figure { margin: 0; padding: 0; }
h1 { font-size: 1.9rem; line-height: 1.2; letter-spacing: -.015em; overflow-wrap: anywhere; }
h2 { font-size: 1.02rem; font-weight: 600; line-height: 1.35; overflow-wrap: anywhere; }
h3, caption {
  font-size: .78rem; font-weight: 600; letter-spacing: .04em; color: var(--soft);
  text-align: left; margin-bottom: .45rem; text-transform: uppercase;
}
a { color: inherit; }
.soft { color: var(--soft); }
.tally { display: flex; flex-wrap: wrap; gap: .75rem 2.75rem; margin: 1.5rem 0 2rem; }
.tally dt { font-size: .82rem; color: var(--soft); }
.tally dd { font-size: 1.4rem; font-weight: 600; line-height: 1.25; }
.tally .bad { color: var(--bad); }
.item {
  background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  margin-bottom: .6rem; content-visibility: auto; contain-intrinsic-size: auto 3.2rem;
}
.many .item { margin: 0; border-width: 0 1px 1px; border-radius: 0; }
.many .item:first-of-type { border-top-width: 1px; border-radius: 10px 10px 0 0; }
.many .item:last-of-type { border-radius: 0 0 10px 10px; }
.many .head { padding-block: .5rem; }
.many h2, .many .best, .many .said, .many .number { line-height: 1.5rem; }
.many h2 { font-weight: 500; }
.many [open] h2 { font-weight: 600; }
.head {
  display: grid; grid-template-columns: minmax(0, 5fr) minmax(0, 4fr) 5rem 8.5rem;
  gap: .25rem 1.1rem; align-items: center; padding: .8rem 1.2rem;
}
summary.head { cursor: pointer; list-style: none; border-radius: 10px; }
summary.head::-webkit-details-marker { display: none; }
summary.head:hover { background: var(--groove); }
summary.head:focus-visible { outline: 2px solid var(--bar); outline-offset: 1px; }
summary h2::before { content: "\\25b8\\a0"; color: var(--soft); }
[open] > summary h2::before { content: "\\25be\\a0"; }
.best, .said { overflow-wrap: anywhere; }
.said { color: var(--bad); grid-column: 2 / -1; }
.number { text-align: right; white-space: nowrap; }
.body {
  padding: .3rem 1.2rem 1.3rem; display: grid; grid-template-columns: minmax(0, 1fr); gap: 1.6rem;
}
.facts { color: var(--soft); font-size: .88rem; overflow-wrap: anywhere; }
.pair { display: grid; grid-template-columns: minmax(0, 5fr) minmax(0, 7fr); gap: 1.6rem 2.5rem; }
.wide { overflow-x: auto; }
.wide svg { display: block; width: 100%; min-width: 38rem; height: auto; }
.wide table { min-width: 31rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { padding: .3rem 0 .3rem 1rem; text-align: right; border-top: 1px solid var(--line); }
th { font-weight: 500; color: var(--soft); font-size: .82rem; }
td { white-space: nowrap; }
thead th { border-top: 0; }
th:first-child, td:first-child { padding-left: 0; text-align: left; }
tbody th { color: var(--ink); font-size: inherit; font-weight: 400; overflow-wrap: anywhere; }
tfoot th, tfoot td { font-weight: 600; color: var(--ink); font-size: inherit; }
td.gauge { width: 34%; min-width: 4.5rem; }
.bar { display: block; height: .5rem; border-radius: 3px; background: var(--groove); }
.bar span { display: block; height: 100%; border-radius: 3px; background: var(--bar); }
.trace {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .7rem 2rem;
}
.trace dt { font-size: .82rem; color: var(--soft); }
.trace dd { font-size: .92rem; overflow-wrap: anywhere; }
.note { border-radius: 8px; padding: .6rem .9rem; overflow-wrap: anywhere; font-size: .92rem; }
.note.bad { background: var(--bad-paper); color: var(--bad); }
.note.warn { background: var(--warn-paper); color: var(--warn); }
.note ul { padding-left: 1.1rem; }
.failures { margin-bottom: 1.5rem; }
.failures h2 { margin-bottom: .3rem; }
.frames { display: flex; flex-wrap: wrap; gap: .6rem; }
.frames img { display: block; height: 76px; width: auto; max-width: 100%; border-radius: 5px; }
.frames figcaption { font-size: .78rem; color: var(--soft); margin-top: .15rem; }
footer { margin-top: 2rem; color: var(--soft); font-size: .82rem; }
@media (max-width: 60rem) { .pair { grid-template-columns: minmax(0, 1fr); } }
@media (max-width: 46rem) {
  .head { grid-template-columns: minmax(0, 1fr) auto; }
  .head .cost { display: none; }
  .head h2 { grid-column: 1 / -1; }
  .said { grid-column: 1 / -1; }
}
@page { margin: 14mm; }
@media print {
  :root {
    color-scheme: light;
    --paper: #fff; --card: #fff; --ink: #000; --soft: #444; --line: #ccc; --groove: #e6e6e6;
    --bar: #4a86cf; --bad: #8c1d18; --bad-paper: #fff; --warn: #5c3d00; --warn-paper: #fff;
  }
  body { max-width: none; padding: 0; font-size: 10pt; }
  .item { content-visibility: visible; border-color: #bbb; }
  div:not(.crowd) > .item::details-content { content-visibility: visible; height: auto; }
  .wide { overflow: visible; }
  .wide svg, .wide table { min-width: 0; }
  .pair { grid-template-columns: minmax(0, 1fr); }
  .note { border: 1px solid currentColor; }
  .body { gap: 1.1rem; }
  .head, .body > :not(.pair), .pair > *, .note, figure, tr { break-inside: avoid; }
  .head { break-after: avoid; }
  .bar span, .bar, svg { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
