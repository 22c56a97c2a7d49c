"""Primitives, their search annotations and their registry."""

import warnings
from importlib.metadata import EntryPoint
from typing import Any, ClassVar, Literal

import pytest
from torch import nn

from foveate.core import lazy
from foveate.models import registry
from foveate.primitives import base
from foveate.primitives.base import Primitive, Search, registered


class Every(Primitive):
    """A sampler of somebody else."""

    group: ClassVar[str] = "samplers"
    kind: Literal["every"] = "every"
    frames: int = 3


class Lost(Primitive):
    group: ClassVar[str] = "nowhere"
    kind: Literal["lost"] = "lost"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"low": 2, "high": 1}, "no range"),
        ({"choices": ()}, "no choices"),
        ({"low": 0, "high": 1, "log": True}, "logarithmic"),
    ],
)
def test_ranges_that_cannot_be_drawn_from(values: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Search(**values)


def test_annotations() -> None:
    assert Search.int(4, 16, step=4) == Search(4, 16, 4, integer=True)
    assert Search.float(1e-4, 1e-1, log=True) == Search(1e-4, 1e-1, log=True)
    assert Search.choice("a", "b").choices == ("a", "b")


def points(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    """Pretend that installed packages have these entry points."""
    found = [EntryPoint(name, value, base.ENTRY_POINTS) for name, value in values.items()]
    monkeypatch.setattr(lazy, "entry_points", lambda group: found)
    monkeypatch.setattr(base, "registered", registered.__wrapped__)


def test_entry_points_add_primitives(monkeypatch: pytest.MonkeyPatch) -> None:
    points(monkeypatch, every=f"{__name__}:Every")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert base.registered("samplers")["every"] is Every
        assert "every" not in base.registered("recognisers")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("no_such_module:X", "cannot be imported"),
        (f"{__name__}:points", "no Primitive"),
        (f"{__name__}:Lost", "'nowhere' is none of samplers"),
    ],
)
def test_broken_entry_points_are_left_out_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, value: str, said: str
) -> None:
    points(monkeypatch, one=value)
    with pytest.warns(UserWarning, match=said):
        assert "one" not in base.registered("samplers")


def test_an_architecture_of_another_package_is_found_by_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run folder names it, and nothing else has imported the package."""

    class Point:
        name, value = "theirs", "theirs:Theirs"

        def load(self) -> type[Every]:
            registry.register("theirs")(lambda num_classes=2: nn.Linear(1, num_classes))
            return Every

    registry.available()
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
    monkeypatch.setattr(lazy, "entry_points", lambda group: [Point()])
    registry.import_entry_points.cache_clear()
    assert registry.create("theirs", num_classes=3).out_features == 3
    registry.import_entry_points.cache_clear()
