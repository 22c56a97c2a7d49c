"""Run the code blocks of one Markdown page in the current folder; started by `test_pages.py`.

Python blocks share one namespace. Of shell blocks every `foveate` command is run in this process.
A block whose fence has the title of a module, such as `src/foveate/policy/looks/middle.py`, becomes
that module, as if the file lay in the package. `<!-- not run: REASON -->` before a block leaves it
out.

    python run_page.py PAGE.md
"""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(
    r"(?:<!-- not run: (?P<reason>[^>]+?) -->\s*\n)?"
    r"^```(?P<kind>python|sh)\b(?P<options>[^\n]*)\n(?P<code>.*?)^```$",
    re.M | re.S,
)


@dataclass(frozen=True)
class Block:
    """One fenced block of Python or shell.

    Attributes:
        kind: `python` or `sh`.
        code: Its text.
        line: Of its first line in the page.
        module: Path of the module that it is, if its title names one.
        reason: Why it is not run, if it is not.
    """

    kind: str
    code: str
    line: int
    module: str | None
    reason: str | None


def blocks(text: str) -> list[Block]:
    """The Python and shell blocks of a page."""
    found = []
    for match in FENCE.finditer(text):
        title = re.search(r'title="src/([\w/]+)\.py"', match["options"])
        line = text.count("\n", 0, match.start("code")) + 1
        module = None if title is None else title[1]
        found.append(Block(match["kind"], match["code"], line, module, match["reason"]))
    return found


def commands(code: str) -> list[list[str]]:
    """The words of every command of a shell block, comments left out."""
    lines = code.replace("\\\n", " ").splitlines()
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def add_module(path: str, code: str) -> None:
    """Make a module importable at its place in the installed package."""
    package, _, name = path.replace("/", ".").rpartition(".")
    folder = Path("overlay", package)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text(code, "utf-8")
    importlib.import_module(package).__path__.append(str(folder.resolve()))
    importlib.import_module(f"{package}.{name}")


def run_command(words: list[str]) -> None:
    """Run a `foveate` command as `foveate.app` would, and fail with what it printed."""
    from typer.testing import CliRunner

    from foveate.app.main import app

    assert words[0] == "foveate", f"only foveate commands can be run, not {words[0]}"
    done = CliRunner().invoke(app, words[1:])
    if done.exit_code:
        detail = done.exception if done.exit_code == 1 and not done.stderr else ""
        raise SystemExit(f"{shlex.join(words)}: exit {done.exit_code}\n{done.output}{detail}")


def main(page: str) -> None:
    """Run the blocks of a page in order."""
    found = [block for block in blocks(Path(page).read_text("utf-8")) if block.reason is None]
    # Modules first: a registry looks for them at its first use.
    for block in found:
        if block.module is not None:
            add_module(block.module, block.code)
    namespace = {"__name__": "__page__"}
    for block in found:
        if block.module is not None:
            continue
        print(f"--- line {block.line} ({block.kind})", flush=True)
        if block.kind == "sh":
            for words in commands(block.code):
                run_command(words)
        else:
            # The lines of a traceback are those of the page.
            exec(compile("\n" * (block.line - 1) + block.code, page, "exec"), namespace)


if __name__ == "__main__":
    main(sys.argv[1])
