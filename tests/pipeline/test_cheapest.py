"""The look `auto`: measured once per model, engine, size and codec, then remembered."""

from pathlib import Path

import pytest

from clips import encode
from foveate.media import open_source
from foveate.pipeline import cheapest
from foveate.pipeline.engines import remembered
from foveate.policy.looks.frames import Uniform

LOOKS = ("uniform", "motion-patch")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def data() -> bytes:
    return encode("matroska", "libx264", 50, size=(128, 96))


@pytest.mark.parametrize("best", LOOKS)
def test_the_cheaper_look_is_taken_and_remembered(make, monkeypatch, data, best) -> None:
    measured = []

    def times(recogniser, auto, source, fps):
        measured.append(source)
        return {name: 0.1 + (name != best) for name in auto.looks}

    monkeypatch.setattr(cheapest, "_measured", times)
    lines: list[str] = []
    first = make(look={"name": "auto"})
    first._notice = lines.append
    result = first.predict(data)
    expected = make(look={"name": best}).predict(data)
    assert result.labels == expected.labels
    assert result.cost.macs == expected.cost.macs
    assert bool(result.trace.steps[0].boxes) == (best == "motion-patch")
    assert len(lines) == 1
    assert f"look auto: {best} for h264 128x96" in lines[0]
    # Another recogniser on this machine knows it, another codec is measured anew.
    second = make(look={"name": "auto"})
    assert second.predict(data).cost.macs == expected.cost.macs
    assert [one.cost.macs > 0 for one in second.stream(data)] == [True] * 10
    assert len(measured) == 1
    second.predict(encode("matroska", "mpeg4", 50, size=(128, 96)))
    assert len(measured) == 2
    assert set(remembered().values()) == {best}


def test_it_measures_both(make, data) -> None:
    recogniser = make(look={"name": "auto"})
    times = cheapest._measured(recogniser, recogniser.plan.look, data, None)
    assert set(times) == set(LOOKS)
    assert min(times.values()) > 0
    assert recogniser.predict(data).labels


def test_the_beginning_of_a_look_ends(data) -> None:
    look = cheapest.Beginning(Uniform(5.0), seconds=3.0)
    sample = open_source(data)
    assert [look.window(sample, start, 2.0) is None for start in (0.0, 2.0, 4.0)] == [
        False, False, True,
    ]  # fmt: skip
    sample.close()


def test_what_cannot_be_read_twice_is_looked_at_whole(make, data, tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    path.write_bytes(data)
    with path.open("rb") as file:
        result = make(look={"name": "auto"}).predict(file)
    assert not result.trace.steps[0].boxes
    assert not remembered()
