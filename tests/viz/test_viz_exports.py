"""The public names of the package, and that nothing heavy is imported before it is needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from foveate import viz


def test_every_exported_name_is_there() -> None:
    for name in viz.__all__:
        assert callable(getattr(viz, name))
    assert dir(viz) == sorted(viz.__all__)
    with pytest.raises(AttributeError, match="no_such"):
        viz.no_such  # noqa: B018


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("foveate.viz", ("cv2", "numpy", "rich", "torch")),
        ("foveate.viz.report", ("cv2", "numpy", "rich", "torch")),
        ("foveate.viz.terminal", ("cv2", "numpy", "torch")),
        ("foveate.viz.overlay", ("rich", "torch")),
    ],
)
def test_a_module_loads_only_what_it_draws_with(module: str, without: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print([m for m in {without!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
