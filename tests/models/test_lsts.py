"""LSTS: three forms of one sampling, offsets that learn, and a state that is a value."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from foveate.core.errors import ModelError
from foveate.models.lsts import LearnedSampling, NeckState, Offsets, TemporalNeck
from models.nontrivial import randomise


def maps(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sampling(form: str, normalisation: str = "softmax") -> LearnedSampling:
    model = LearnedSampling(6, 4, form, normalisation).double()
    return randomise(model)


def offsets(scale: float = 1.5, count: int = 7) -> Offsets:
    made = Offsets("gaussian", count).double()
    with torch.no_grad():
        made.table.copy_(scale * maps(count, 2, seed=3))
    return made


def naive(model: LearnedSampling, old: Tensor, new: Tensor, places: Offsets) -> Tensor:
    """Position by position, as the equations say."""
    keys, queries = model.old(old), model.new(new)
    height, width = old.shape[-2:]

    def at(x: Tensor, n: int, row: float, column: float) -> Tensor:
        total = x.new_zeros(x.shape[1])
        for v in range(height):
            for u in range(width):
                share = max(0.0, 1 - abs(column - u)) * max(0.0, 1 - abs(row - v))
                total = total + share * x[n, :, v, u]
        return total

    out = torch.zeros_like(old)
    table = places().tolist()
    for n in range(len(old)):
        for row in range(height):
            for column in range(width):
                points = [(row + dy, column + dx) for dx, dy in table]
                scores = torch.stack([at(keys, n, *p) @ queries[n, :, row, column] for p in points])
                shares = scores.softmax(0)
                out[n, :, row, column] = sum(
                    share * at(old, n, *p) for share, p in zip(shares, points, strict=True)
                )
    return out


@pytest.mark.parametrize("size", [(4, 5), (1, 5), (4, 1)])
@pytest.mark.parametrize("form", ["lattice", "grid"])
def test_both_forms_are_the_equations(form: str, size: tuple[int, int]) -> None:
    old, new = maps(2, 6, *size), maps(2, 6, *size, seed=1)
    model, places = sampling(form), offsets()
    with torch.no_grad():
        assert torch.allclose(model(old, new, places), naive(model, old, new, places), atol=1e-9)


@pytest.mark.parametrize("scale", [0.5, 4.0])
@pytest.mark.parametrize("normalisation", ["softmax", "linear"])
def test_values_and_gradients_of_the_forms_are_equal(normalisation: str, scale: float) -> None:
    found = []
    for form in ("lattice", "grid"):
        model, places = sampling(form, normalisation), offsets(scale)
        old = maps(2, 6, 5, 6).requires_grad_()
        new = maps(2, 6, 5, 6, seed=1).requires_grad_()
        out = model(old, new, places)
        (out * maps(2, 6, 5, 6, seed=2)).sum().backward()
        found.append([out, old.grad, new.grad, places.table.grad, model.old.bias.grad])
    for lattice, grid in zip(*found, strict=True):
        assert torch.allclose(lattice, grid, atol=1e-8 * float(grid.detach().abs().max()) + 1e-12)


def test_gradcheck_of_the_lattice() -> None:
    model, places = sampling("lattice"), offsets(count=3)

    def call(old: Tensor, new: Tensor, table: Tensor) -> Tensor:
        moved = Offsets("gaussian", 3).double()
        moved.table = torch.nn.Parameter(torch.empty(0).double())
        del moved.table
        moved.table = table  # a tensor of the graph
        return model(old, new, moved)

    given = (
        maps(1, 6, 2, 3).requires_grad_(), maps(1, 6, 2, 3, seed=1).requires_grad_(),
        places.table.detach().clone().requires_grad_(),
    )  # fmt: skip
    assert torch.autograd.gradcheck(call, given)


def test_the_uniform_table_is_local_attention() -> None:
    model, places = sampling("lattice"), Offsets("uniform", 81).double()
    old, new = maps(1, 6, 7, 8), maps(1, 6, 7, 8, seed=1)
    with torch.no_grad():
        near = F.unfold(model.old(old), 9, padding=4).unflatten(1, (4, 81))
        scores = (near * model.new(new).flatten(2).unsqueeze(2)).sum(1)
        values = F.unfold(old, 9, padding=4).unflatten(1, (6, 81))
        want = (values * scores.softmax(1).unsqueeze(1)).sum(2).unflatten(2, (7, 8))
        assert torch.allclose(model(old, new, places), want, atol=1e-9)
    assert len(places.lattice()[0]) == 81


def test_only_displacements_around_the_offsets_are_moved() -> None:
    places = Offsets("gaussian", 1)
    with torch.no_grad():
        places.table.copy_(torch.tensor([[2.25, -3.5]]))
    displacements, weights = places.lattice()
    got = dict(zip(displacements, weights[0].tolist(), strict=True))
    assert got == {
        (2, -4): pytest.approx(0.375), (3, -4): pytest.approx(0.125),
        (2, -3): pytest.approx(0.375), (3, -3): pytest.approx(0.125),
    }  # fmt: skip


def test_offsets_that_are_too_far_are_clipped_with_a_warning() -> None:
    places = Offsets("gaussian", 2, most=3.0)
    with torch.no_grad():
        places.table.copy_(torch.tensor([[0.0, 0.0], [9.0, 1.0]]))
    with pytest.warns(UserWarning, match="beyond 3 positions are clipped"):
        displacements, _ = places.lattice()
    assert max(x for x, _ in displacements) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        places.lattice()  # once is enough


def smooth(generator: torch.Generator) -> Tensor:
    coarse = torch.randn((4, 4, 6, 6), generator=generator)
    return F.interpolate(coarse, (24, 24), mode="bicubic", align_corners=False)


def squares(generator: torch.Generator) -> Tensor:
    """Overlapping squares of different sizes and values."""
    field = torch.zeros(4, 4, 24, 24)
    for row in field:
        for _ in range(12):
            x, y = (int(v) for v in torch.randint(0, 20, (2,), generator=generator))
            side = int(torch.randint(3, 8, (1,), generator=generator))
            values = torch.randn(4, 1, 1, generator=generator)
            row[:, y : y + side, x : x + side] = values
    return field


@pytest.mark.parametrize("draw", [smooth, squares])
def test_offsets_learn_a_translation(draw: Callable[[torch.Generator], Tensor]) -> None:
    """Fields that move by three positions, which no offset reaches at the start."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model, places = LearnedSampling(4, 4), Offsets("gaussian", 6)
    with torch.no_grad():
        places.table.mul_(0.5)
        assert float(places.table.abs().max()) < 1.5
    optimizer = torch.optim.Adam([
        {"params": model.parameters(), "lr": 3e-3}, {"params": places.parameters(), "lr": 0.05},
    ])  # fmt: skip

    def pair() -> tuple[Tensor, Tensor]:
        field = draw(generator)
        return field[..., 6:18, 6:18], field[..., 6:18, 9:21]  # new(p) = old(p + 3)

    losses = []
    for _ in range(250):
        old, new = pair()
        loss = F.mse_loss(model(old, new, places)[..., 1:-1, :-4], new[..., 1:-1, :-4])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    nearest = (places().detach() - torch.tensor([3.0, 0.0])).norm(dim=1).min()
    assert sum(losses[-20:]) < 0.3 * sum(losses[:20])
    assert float(nearest) < 0.7


# --- the neck -------------------------------------------------------------------------------------


def neck(**settings: object) -> TemporalNeck:
    torch.manual_seed(0)
    return randomise(TemporalNeck(8, 6, 4, count=5, **settings))


def frames(count: int, channels: int, size: tuple[int, int] = (5, 6)) -> list[Tensor]:
    generator = torch.Generator().manual_seed(channels)
    return [torch.randn((1, channels, *size), generator=generator) for _ in range(count)]


def run(model: TemporalNeck, every: int, videos: list[list[tuple[Tensor, Tensor]]]) -> list[Tensor]:
    """Several videos as one batch: key frames at every `every`-th frame."""
    state, found = NeckState(), []
    with torch.no_grad():
        for at, rows in enumerate(zip(*videos, strict=True)):
            high, low = (torch.cat([row[side] for row in rows]) for side in (0, 1))
            step = model.key(high, state) if at % every == 0 else model.nonkey(low, state)
            out, state = step
            found.append(out)
    return found


def test_the_first_frame_is_the_plain_detector_s() -> None:
    model, high = neck(), frames(2, 8)
    out, state = model.key(high[0], NeckState())
    assert torch.equal(out, high[0])
    again, _ = model.key(high[1], state)
    assert not torch.allclose(again, high[1])
    assert state.frames == 1


def test_videos_do_not_mix() -> None:
    model = neck()
    videos = [list(zip(frames(6, 8), frames(6, 6), strict=True))]
    videos.append([(a + 1, b - 1) for a, b in reversed(videos[0])])
    both = run(model, 3, videos)
    alone = [run(model, 3, [video]) for video in videos]
    for at, out in enumerate(both):
        assert torch.allclose(out[:1], alone[0][at], atol=1e-5)
        assert torch.allclose(out[1:], alone[1][at], atol=1e-5)


def test_a_state_is_not_changed() -> None:
    model, high, low = neck(), frames(2, 8), frames(2, 6)
    with torch.no_grad():
        _, state = model.key(high[0], NeckState())
        kept = state.memory.clone()
        first, _ = model.nonkey(low[0], state)
        model.key(high[1], state)
        second, _ = model.nonkey(low[0], state)
    assert torch.equal(state.memory, kept)
    assert torch.equal(first, second)


def test_another_size_starts_anew() -> None:
    model = neck()
    _, state = model.key(frames(1, 8)[0], NeckState())
    larger = frames(1, 8, (6, 7))[0]
    out, state = model.key(larger, state)
    assert torch.equal(out, larger)
    with pytest.raises(ModelError, match="no key frame of this size"):
        model.nonkey(frames(1, 6)[0], state)
    with pytest.raises(ModelError, match="no key frame"):
        model.nonkey(frames(1, 6)[0], NeckState())


def test_the_memory_follows_the_update_rate() -> None:
    high = frames(2, 8)
    for rate in (1.0, 0.25):
        model = neck(update=rate)
        with torch.no_grad():
            _, state = model.key(high[0], NeckState())
            task, state = model.key(high[1], state)
        assert torch.allclose(state.memory, rate * task + (1 - rate) * high[1], atol=1e-5)
        assert torch.equal(state.key, task)


def test_the_offsets_have_a_learning_rate_of_their_own() -> None:
    model = neck()
    others, table = model.groups(2.5e-4, 5e-4)
    assert table == {"params": [model.offsets.table], "lr": pytest.approx(2.5),
                     "weight_decay": 0.0}  # fmt: skip
    assert len(others["params"]) == len(list(model.parameters())) - 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"init": "square"}, "init='square'"), ({"init": "uniform", "count": 16}, "odd number")],
)
def test_wrong_tables_are_one_line(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        Offsets(**settings)


def test_wrong_forms_are_one_line() -> None:
    with pytest.raises(ModelError, match="form='loop'"):
        LearnedSampling(4, 4, "loop")
    with pytest.raises(ModelError, match="reset the state"):
        LearnedSampling(4, 4)(torch.rand(1, 4, 3, 3), torch.rand(1, 4, 3, 4), Offsets())
