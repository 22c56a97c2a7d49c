"""What networks cost per frame."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch

from foveate.core import ConfigError, FoveateError
from foveate.models.macs import count_macs
from foveate.models.movinet import movinet
from foveate.search.costs import ENGINES, Latencies, Macs, Target
from foveate.search.space import SearchSpace

SPACES = {
    causal: SearchSpace(
        stem=8, widths=(8, 16), strides=(2, 2), project=16, hidden=16, layers=2, causal=causal
    )
    for causal in (True, False)
}  # fmt: skip


def drawn(causal: bool = True, seed: int = 0):
    return SPACES[causal].config(SPACES[causal].draw(random.Random(seed)))


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [("2ms", 2.0, "ms"), (" .5 ms/frame", 0.5, "ms"), ("20MMAC", 20e6, "MAC")],
)
def test_targets(text: str, value: float, unit: str) -> None:
    assert (Target.parse(text).value, Target.parse(text).unit) == (value, unit)


@pytest.mark.parametrize("text", ["0ms", "-2ms", "2", "ms", "1.2.3ms", "2s", "nanms"])
def test_wrong_targets_are_one_line(text: str) -> None:
    with pytest.raises(ConfigError, match="not understood") as caught:
        Target.parse(text)
    assert caught.value.hint == "write 2ms or 20MMAC, per frame"


@pytest.mark.parametrize("causal", [True, False])
def test_macs_are_those_of_the_network(causal: bool) -> None:
    config = drawn(causal)
    frames = 1 if causal else 4
    counted = count_macs(movinet(config, 3), (1, 3, frames, 32, 32)) / frames
    assert Macs(32, 4, 3)(config) == counted


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("causal", [True, False])
def test_every_part_of_a_network_is_measured_once(causal: bool, engine, monkeypatch) -> None:
    cost, config = Latencies(32, 4, 3, engine, rounds=1), drawn(causal)
    measured = cost.measure(config)
    assert list(measured) == [name for name, _ in cost.parts(config)]
    assert all(value >= 0 for value in measured.values())
    first = cost(config)
    assert first > 0
    monkeypatch.setattr(Latencies, "measure", lambda *_: pytest.fail("measured again"))
    assert cost(config) == first


def test_a_latency_is_the_sum_of_its_parts() -> None:
    cost, config = Latencies(32, 4, 3), drawn()
    keys = [key for _, key in cost.parts(config)]
    cost.table = dict.fromkeys(keys, 0.5)
    assert cost(config) == 0.5 * len(keys)
    clips, whole = Latencies(32, 4, 3), drawn(causal=False)
    keys = [key for _, key in clips.parts(whole)]
    clips.table = dict.fromkeys(keys, 0.5)
    assert clips(whole) == 0.5 * len(keys) / 4


def test_keys_tell_apart_what_takes_different_time() -> None:
    config = drawn()
    small, large = Latencies(32, 4, 3), Latencies(48, 4, 3)
    eager = Latencies(32, 4, 3, "eager")
    keys = [{key for _, key in one.parts(config)} for one in (small, large, eager)]
    # The classifier and the rest do not depend on the size of the frames.
    assert len(keys[0] & keys[1]) == 2
    assert not keys[0] & keys[2]


def test_a_table_is_kept(tmp_path: Path) -> None:
    cost = Latencies(32, 4, 3, rounds=1)
    value = cost(drawn())
    cost.save(tmp_path / "t.json")
    again = Latencies(32, 4, 3, rounds=1)
    again.load(tmp_path / "t.json")
    assert again.table == cost.table
    assert again(drawn()) == value


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"milliseconds": 3}', '{"milliseconds": {"a": "x"}}',
     '{"milliseconds": {"a": NaN}}', '{"milliseconds": {"a": -1}}'],
)  # fmt: skip
def test_a_damaged_table_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "t.json").write_text(content)
    with pytest.raises(FoveateError, match=r"t\.json: "):
        Latencies(32, 4, 3).load(tmp_path / "t.json")


def test_a_table_of_another_processor_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps({"processor": "abacus", "milliseconds": {}}))
    with pytest.raises(FoveateError, match="another processor"):
        Latencies(32, 4, 3).load(tmp_path / "t.json")


def test_measuring_leaves_the_threads_as_they_are() -> None:
    before = torch.get_num_threads()
    Latencies(32, 4, 3, rounds=1).measure(drawn())
    assert torch.get_num_threads() == before
