"""MkDocs hooks: add the pages that are generated from the code."""

from __future__ import annotations

from typing import Any

from mkdocs.structure.files import File
from reference import PAGES  # MkDocs has the folder of a hook in sys.path while it loads it


def on_files(files: Any, config: Any) -> Any:
    """Add `reference/command.md` and `reference/settings.md`."""
    for name, page in PAGES.items():
        files.append(File.generated(config, f"reference/{name}.md", content=page()))
    return files
