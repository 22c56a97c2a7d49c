"""What streams remember: from window to window, until a scene cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nontrivial import randomise
from torch import nn

from clips import encode, picture
from foveate.core import ConfigError
from foveate.media import Video
from foveate.models import registry
from foveate.models.weights.run import InputCard, NetworkCard, RunCard, write_run
from foveate.pipeline.loading import load
from tiny_weights import LABELS, SPEC


def test_a_memory_reaches_over_windows_until_a_scene_cut(tmp_path) -> None:
    network = randomise(registry.create_tiny("movinet-a0-stream"))
    card = RunCard(
        networks={"network": NetworkCard(arch="movinet-a0-stream", settings={"tiny": True})},
        classes=list(LABELS), input=InputCard.of(SPEC),
    )  # fmt: skip
    write_run(tmp_path / "run", {"network": network}, card)

    def draw(number, size):
        scene = picture(0, size).copy()
        scene[-16:] = number * 2
        return scene if number < 80 else 255 - scene // 4

    data = encode(frames=120, draw=draw)  # 4.8 s; a cut at 3.2 s, windows of 2 s
    for memory in ("cumulative", "exponential:4", "segments:2:3"):
        recogniser = load(
            tmp_path / "run", memory=memory, cut_threshold=0.3, none_below=0.0, top_k=7
        )
        steps = list(recogniser.stream(data))
        assert len(steps) == 24
        with Video(data) as video:
            pixels = video.frames([i * 0.2 for i in range(24)], (43, 32)).pixels[:, :, 5:37]
        network.set_memory(memory)
        clip = torch.from_numpy(np.ascontiguousarray(pixels)).permute(3, 0, 1, 2)[None] / 255
        for start, end in ((0, 16), (16, 24)):
            with torch.no_grad():
                for at in range(start, end):
                    want = network(clip[:, :, start : at + 1])[0].softmax(0)
                    got = {one.index: one.score for one in steps[at].labels}
                    assert [got[i] for i in range(7)] == pytest.approx(want.tolist(), abs=2e-4)
    # Without a memory, the second window begins with nothing.
    plain = list(load(tmp_path / "run", none_below=0.0, top_k=7, cut_threshold=0.3).stream(data))
    with torch.no_grad():
        first, second = (network(clip[:, :, a:b])[0].softmax(0) for a, b in ((0, 10), (10, 11)))
    # It is too short to be answered alone: the mean of both, weighted by their seconds.
    want = (2.0 * first + 0.2 * second) / 2.2
    assert {one.index: one.score for one in plain[10].labels} == pytest.approx(
        dict(enumerate(want.tolist())), abs=2e-4
    )
    kept = steps[10].labels[0]
    assert kept.score != pytest.approx(float(second[kept.index]), abs=1e-3)


def test_only_a_stream_network_has_a_memory_to_choose() -> None:
    with pytest.raises(ConfigError, match="memory: unknown memory"):
        load("movinet-a0-stream-lite.actions15", memory="forever")
    module = nn.Sequential(nn.Flatten(2), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    with pytest.raises(ConfigError, match="no memory to choose"):
        load(module, labels=["a", "b", "c"], input=SPEC, memory="cumulative")
