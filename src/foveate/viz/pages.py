"""HTML pages and SVG drawings from the templates of this package.

A page is one file that runs no script and loads nothing; its own content security policy forbids
both. Strings are escaped, and control characters in them are made visible, whatever they contain.
"""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.core import FoveateError, units
from foveate.core.files import replacing
from foveate.core.text import plural, shorten, visible

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

Thumbnails = Mapping[str, Sequence[tuple[float, bytes]]]
"""Name of an input → `(seconds, JPEG bytes)` of a few frames, as `to_jpeg` returns them."""

_LONG = 300  # characters of a name that are worth printing


def render(template: str, **values: Any) -> str:
    """Fill in a template of this package.

    Args:
        template: Name of a file in `templates`.
        values: Its variables.

    Returns:
        HTML or SVG; another template includes it with the filter `safe`.
    """
    return _environment().get_template(template).render(values)


def write_page(path: str | os.PathLike[str], text: str) -> None:
    """Write a page atomically: the file has the old text or the whole new one.

    Raises:
        FoveateError: The file cannot be written; an old one is left as it was.
    """
    page = text.encode("utf-8", errors="replace")
    target = Path(path)
    try:
        if target.exists() and not target.is_file():
            # A pipe or a device is written to; for a folder this fails.
            target.write_bytes(page)
        else:
            # A link stays a link; the file that it points to is replaced.
            with replacing(Path(os.path.realpath(target))) as file:
                file.write(page)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        name = visible(target.name or str(target))
        raise FoveateError(f"{name}: cannot be written ({reason})") from None


@cache
def _environment() -> Environment:
    # The terminal shares modules with the pages, and `predict` should begin at once.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("foveate.viz"),
        autoescape=True,
        auto_reload=False,
        finalize=lambda value: visible(value) if type(value) is str else value,
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {
        "clock": units.clock,
        "isolated": _isolated,
        "jpeg": lambda data: f"data:image/jpeg;base64,{b64encode(data).decode('ascii')}",
        "macs": units.macs,
        "number": units.count,
        "percent": units.percent,
        "plural": plural,
        "px": lambda value: f"{value:.1f}",
        "seconds": units.seconds,
        "share": units.share,
        "shorten": shorten,
        "si": units.si,
        "size": units.size,
    }
    return environment


def _isolated(text: str) -> Markup:
    """A label, file name or message whose writing direction does not affect what follows it."""
    from markupsafe import Markup

    return Markup("<bdi>{}</bdi>").format(visible(shorten(text, _LONG)))
