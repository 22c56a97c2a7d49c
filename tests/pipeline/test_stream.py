"""Streams: one Result per step, equal to the whole, and many streams at once."""

import pytest
import torch
from foveate.pipeline.drive import execute

from clips import encode
from foveate.pipeline.session import Ask


def test_stream_ends_where_predict_ends(make) -> None:
    data = encode(frames=50)
    recogniser = make()
    steps = list(recogniser.stream(data))
    whole = recogniser.predict(data)
    assert len(steps) == 10
    assert [s.index for s in steps[-1].labels] == [s.index for s in whole.labels]
    assert steps[-1].labels[0].score == pytest.approx(whole.labels[0].score, rel=1e-4)
    assert [r.trace.steps[0].time for r in steps] == pytest.approx([i * 0.2 for i in range(10)])


def test_each_step_carries_its_own_cost(make, network) -> None:
    steps = list(make().stream(encode(frames=50)))
    one = network.observe_macs((1, 3, 1, 32, 32)) + network.answer_macs(1)
    assert {r.cost.macs for r in steps} == {one}
    assert steps[0].cost.stage("open").calls == 1
    assert all(r.cost.stage("open").calls == 0 for r in steps[1:])


def test_state_begins_anew_after_each_window(make) -> None:
    data = encode(frames=75)  # 3 s, windows of 2 s
    steps = list(make().stream(data))
    second = list(make().stream(encode(frames=25, first=50)))
    assert steps[10].labels[0].score == pytest.approx(second[0].labels[0].score, abs=0.02)
    assert steps[10].segments[0].start == pytest.approx(2.0)


def test_two_streams_interleaved_do_not_disturb_each_other(make) -> None:
    recogniser = make()
    a, b = encode(frames=40), encode(frames=40, first=100)
    alone = [list(recogniser.stream(x)) for x in (a, b)]
    first, second = recogniser.stream(a), recogniser.stream(b)
    mixed = [[], []]
    for _ in range(8):
        mixed[0].append(next(first))
        mixed[1].append(next(second))
    for one, other in zip(alone, mixed, strict=True):
        assert [r.labels for r in one] == [r.labels for r in other]


def test_a_stream_left_early_releases_its_file(make, tmp_path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(encode(frames=40))
    stream = make().stream(path)
    next(stream)
    stream.close()
    path.unlink()


def test_streams_of_different_age_share_a_batch(network) -> None:
    class Quiet:
        def __init__(self):
            from foveate.pipeline.ledger import Ledger

            self.ledger = Ledger()

    x = torch.rand(2, 3, 4, 32, 32)
    old = network.observe(x[:1, :, :3], None)
    new = network.observe(x[1:, :, :1], None)
    asks = [Ask(x[:1, :, 3:], old, True), Ask(x[1:, :, 3:], new, True)]
    together = execute(network, asks, [Quiet(), Quiet()])
    for ask, reply in zip(asks, together, strict=True):
        alone, _ = network(ask.views, ask.state)
        torch.testing.assert_close(reply.evidence.logits["final"], alone.logits["final"])
