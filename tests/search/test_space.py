"""The search space, and networks as one line of text."""

from __future__ import annotations

import random

import pytest
import torch

from foveate.core import ConfigError
from foveate.core.errors import ModelError
from foveate.models import create
from foveate.models.movinet_config import TABLES, parse_table, table_text
from foveate.search.costs import Macs
from foveate.search.space import SearchSpace, multiple_of_8

A2 = TABLES["a2"]


def test_the_published_space_has_the_widths_of_a2() -> None:
    space = SearchSpace()
    plain = (space.stem, *space.widths, space.project)
    widths = (A2.stem, *(stage.width for stage in A2.blocks), A2.project)
    for value, width in zip(plain, widths, strict=True):
        assert width in {multiple_of_8(value * factor) for factor in space.multipliers}
    assert [stage.stride for stage in A2.blocks] == list(space.strides)
    # Stem and head, and per stage width, depth and two decisions of ten layers.
    assert len(space.options) == 2 + 5 * (2 + 2 * 10)


def test_decisions_of_layers_that_are_left_out_do_not_matter() -> None:
    space = SearchSpace(layers=3)
    few = [0] * len(space.options)
    config, made = space.walk(few.__getitem__)
    assert [len(stage.layers) for stage in config.blocks] == [1] * 5
    assert len(made) == 2 + 5 * (2 + 2)
    other = [0 if i in made else count - 1 for i, count in enumerate(space.options)]
    assert space.config(other) == config
    deepest = [count - 1 for count in space.options]
    assert [len(stage.layers) for stage in space.config(deepest).blocks] == [3] * 5


@pytest.mark.parametrize("causal", [True, False])
def test_kernels_and_expansions_are_options(causal: bool) -> None:
    space = SearchSpace(layers=2, causal=causal)
    drawn = random.Random(0)
    for _ in range(20):
        config = space.config(space.draw(drawn))
        assert config.causal == causal
        for plain, stage in zip(space.widths, config.blocks, strict=True):
            for layer in stage.layers:
                assert f"{layer.temporal}{layer.kernel}{layer.kernel}" in space.kernels
                wide = {multiple_of_8(plain * factor) for factor in space.expansions}
                assert layer.expanded in wide


def test_no_network_is_smaller_than_the_smallest_or_larger_than_the_largest() -> None:
    space, draws = SearchSpace(layers=3), random.Random(0)
    least, most = (Macs(32, 4, 5)(one) for one in (space.smallest(), space.largest()))
    for _ in range(5):
        assert least <= Macs(32, 4, 5)(space.config(space.draw(draws))) <= most


def test_scaled_space_has_fewer_channels_and_layers() -> None:
    space = SearchSpace().scaled(0.5, 2)
    assert (space.stem, space.widths, space.project) == (8, (16, 24, 48, 48, 96), 256)
    assert space.layers == 2


@pytest.mark.parametrize(
    "wrong",
    [{"kernels": ("544",)}, {"kernels": ("353",)}, {"kernels": ()}, {"layers": 0}, {"widths": ()}],
)
def test_a_wrong_space_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        SearchSpace(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", TABLES)
def test_tables_survive_as_text(name: str) -> None:
    table = TABLES[name]
    read = parse_table(table_text(table))
    assert (read.stem, read.project, read.hidden) == (table.stem, table.project, table.hidden)
    assert [(one.width, one.stride, one.layers) for one in read.blocks] == [
        (one.width, one.stride, one.layers) for one in table.blocks
    ]


@pytest.mark.parametrize(
    "text",
    ["", "8", "8 | 8/2 | 4 4", "8 | 8/2 24/144 | 4 4", "8 | 8/2 24/135 | 4 4",
     "8 | 8/3 24/133 | 4 4", "8 | 0/2 24/133 | 4 4", "8 | 8/2 24/133 | 4", 
     "8 | 8/2 24/133 | 4 4\n"],
)  # fmt: skip
def test_a_wrong_table_is_one_line(text: str) -> None:
    with pytest.raises(ModelError, match="not a block table"):
        create("movinet-table", table=text)


def test_a_table_builds_the_network_of_the_paper() -> None:
    with torch.device("meta"):
        own = create("movinet-table-stream", table=table_text(TABLES["a2"]), num_classes=600)
        paper = create("movinet-a2-stream")
    shapes = {name: value.shape for name, value in own.state_dict().items()}
    assert shapes == {name: value.shape for name, value in paper.state_dict().items()}
