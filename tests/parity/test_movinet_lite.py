"""The published Kinetics-600 file: our network against the engine it was made for.

Needs the real file in a folder of ``FOVEATE_WEIGHTS``, and for the clip the folder named by
``FOVEATE_SHARED``. What is compared is a few frames of single clips: a check, not a benchmark.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from foveate.models import count_macs, load
from foveate.models.weights.resolve import find_local
from foveate.models.weights.table import find

NAME = "movinet-a0-stream-lite.k600"
FRAMES = 20

pytestmark = pytest.mark.shared


@pytest.fixture(scope="module")
def source():
    """The path of the real file."""
    if not os.environ.get("FOVEATE_WEIGHTS"):
        pytest.skip("FOVEATE_WEIGHTS is not set")
    found = next((f for f in find_local(find(NAME).file) if f.ok), None)
    if found is None:
        pytest.skip(f"{find(NAME).file.name} is in no folder of FOVEATE_WEIGHTS")
    return found.path


@pytest.fixture(scope="module")
def loaded(source, tmp_path_factory):
    """Model and labels, converted afresh."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOVEATE_CACHE", str(tmp_path_factory.mktemp("cache")))
        found = load(NAME, offline=True)
    return found.network, found.labels


@pytest.fixture(scope="module")
def frames():
    """Frames (1, 3, T, 172, 172) of the test clip at 5 per second, centre crop, 0..1."""
    shared = os.environ.get("FOVEATE_SHARED")
    path = Path(shared or "", "data", "samples", "carving_ice.mp4")
    if not shared or not path.is_file():
        pytest.skip("FOVEATE_SHARED names no folder with data/samples/carving_ice.mp4")
    av = pytest.importorskip("av")
    taken, due = [], 0.0
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            if frame.time + 1e-6 < due or len(taken) == FRAMES:
                continue
            due += 0.2
            scale = 172 / min(frame.width, frame.height)
            size = (round(frame.width * scale), round(frame.height * scale))
            image = frame.reformat(*size, "rgb24", interpolation="AREA").to_ndarray()
            top, left = (image.shape[0] - 172) // 2, (image.shape[1] - 172) // 2
            taken.append(image[top : top + 172, left : left + 172])
    clip = torch.from_numpy(np.stack(taken)).permute(3, 0, 1, 2).unsqueeze(0)
    return clip.float() / 255


def engine_logits(source, frames):
    """Logits after each frame by the engine, int8 as published."""
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter
    runner = interpreter(model_path=str(source), num_threads=1).get_signature_runner()
    feeds = {
        name: np.zeros(detail["shape"], detail["dtype"])
        for name, detail in runner.get_input_details().items()
    }
    out = []
    for t in range(frames.shape[2]):
        feeds["image"] = frames[:, :, t : t + 1].permute(0, 2, 3, 4, 1).numpy()
        got = runner(**feeds)
        out.append(got.pop("logits")[0])
        feeds.update(got)
    return np.stack(out)


def our_logits(form, frames, n=1):
    """Logits after each step of n frames by one of our forms."""
    state, out = form.initial_state(1, *frames.shape[-2:]), []
    with torch.inference_mode():
        for t in range(0, frames.shape[2], n):
            logits, state = form.step(frames[:, :, t : t + n], state)
            out.append(logits[0].numpy())
    return np.stack(out)


def test_parameters_and_macs(loaded):
    model, labels = loaded
    assert sum(p.numel() for p in model.parameters()) == 2_723_407
    assert count_macs(model, (1, 3, 1, 172, 172)) == pytest.approx(49.7e6, rel=1e-3)
    assert len(labels) == len(set(labels)) == 600


def test_branch_scalars_are_as_published(loaded):
    scalars = [layer.rezero.item() for _, layer in loaded[0].layers()]
    assert len(scalars) == 15
    assert all(1.5 < abs(value) < 2.4 for value in scalars)
    assert sum(value < 0 for value in scalars) == 10


def test_the_clip_is_recognised(loaded, frames):
    model, labels = loaded
    with torch.inference_mode():
        scores = model(frames).softmax(-1)[0]
    assert labels[int(scores.argmax())] == "carving ice"
    assert scores.max() > 0.5


def test_float_logits_follow_the_int8_engine(loaded, source, frames):
    theirs = engine_logits(source, frames)
    ours = our_logits(loaded[0].for_inference(), frames)
    each = [np.corrcoef(a, b)[0, 1] for a, b in zip(ours, theirs, strict=True)]
    assert np.mean(each) >= 0.95
    assert each[-1] >= 0.95
    assert loaded[1][int(theirs[-1].argmax())] == "carving ice"


def test_streaming_equals_the_whole_clip(loaded, frames):
    model, _ = loaded
    with torch.inference_mode():
        whole = model(frames)[0].numpy()
    for form in (model, model.for_inference()):
        for n in (1, 7, FRAMES):
            last = our_logits(form, frames, n)[-1]
            assert np.abs(last - whole).max() <= 1e-5 * np.abs(whole).max()
