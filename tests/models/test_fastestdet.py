"""FastestDet: in two parts, read from the published file, equal to the published graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from foveate.core.errors import ModelError, WeightsError
from foveate.models import load, registry
from foveate.models.boxes import suppressed
from foveate.models.fastestdet import FastestDet
from foveate.models.weights.importers import from_arrays
from foveate.models.weights.importers.fastestdet import _original as original_name
from foveate.models.weights.importers.fastestdet import import_fastestdet
from foveate.models.weights.importers.files import read_arrays
from models.nontrivial import randomise


@pytest.fixture(scope="module")
def tiny() -> FastestDet:
    model = randomise(registry.create_tiny("fastestdet"))
    assert isinstance(model, FastestDet)
    return model


def test_boxes_are_where_the_maps_say(tiny: FastestDet) -> None:
    x = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        features = tiny.high(tiny.low(x))
        out = tiny.head(features)
        (found,) = tiny.detect(features, [(64, 96)])
    assert out.shape == (1, 8, 4, 6)
    best, labels = out[0, 5:].max(0)
    scores = out[0, 0] ** 0.6 * best**0.4
    row, column = divmod(int(scores.argmax()), 6)
    middle = (torch.tanh(out[0, 1:3, row, column]) + torch.tensor([column, row])) * 16
    half = out[0, 3:5, row, column].sigmoid() * torch.tensor([96, 64]) / 2
    box = torch.cat([middle - half, middle + half]).clamp_min(0)
    box = torch.minimum(box, torch.tensor([96.0, 64, 96, 64]))
    assert torch.allclose(found["boxes"][0], box, atol=1e-4)
    assert float(found["scores"][0]) == pytest.approx(float(scores.max()), abs=1e-6)
    assert int(found["labels"][0]) == int(labels[row, column])


def test_suppression_is_that_of_torchvision() -> None:
    from torchvision.ops import batched_nms

    generator = torch.Generator().manual_seed(0)
    corner, size = (torch.rand(200, 2, generator=generator) for _ in range(2))
    boxes = 100 * torch.cat([corner, corner + size], 1)
    scores = torch.rand(200, generator=generator)
    labels = torch.randint(0, 3, (200,), generator=generator)
    arrays = [one.numpy() for one in (boxes, scores, labels)]
    kept = suppressed(*arrays, 0.45)
    assert 10 < len(kept) < 200
    assert kept.tolist() == batched_nms(boxes, scores, labels, 0.45).tolist()
    assert len(suppressed(*(one[:0] for one in arrays), 0.45)) == 0


def test_what_it_cannot_do_is_one_line(tiny: FastestDet) -> None:
    with pytest.raises(ModelError, match="divisible by 32"):
        tiny(torch.zeros(1, 3, 60, 64))
    with pytest.raises(ModelError, match="cannot be trained"):
        tiny.loss({}, [], [])


def test_the_published_names_are_read(tmp_path: Path) -> None:
    model = randomise(FastestDet())
    values = {original_name(name): value for name, value in model.state_dict().items()}
    torch.save(values, tmp_path / "published.pth")
    arrays = import_fastestdet((tmp_path / "published.pth").read_bytes(), "published.pth")
    assert {k: torch.from_numpy(v) for k, v in arrays.items()}.keys() == model.state_dict().keys()
    assert all(np.array_equal(arrays[k], v.numpy()) for k, v in model.state_dict().items())
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError):
        import_fastestdet((tmp_path / "other.pth").read_bytes(), "other.pth")


@pytest.mark.shared
def test_it_equals_the_published_graph(shared: Path, monkeypatch, tmp_path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    weights = shared / "weights"
    monkeypatch.setenv("FOVEATE_WEIGHTS", str(weights))
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path))
    loaded = load("fastestdet.coco", offline=True)
    assert loaded.method == "detector"
    assert loaded.labels[0] == "person"
    assert len(loaded.labels) == 80
    session = runtime.InferenceSession(str(weights / "fastestdet_coco.onnx"))
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 352, 352, generator=generator)  # BGR
    (want,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    network = loaded.network
    with torch.no_grad():
        got = network.head(network.high(network.low(image.flip(1)))).numpy()  # type: ignore[operator]
    assert np.abs(got - want).max() < 1e-4
    arrays = read_arrays(weights / "fastestdet_coco.pth")
    again = from_arrays("fastestdet", arrays)(image=image)["output"].numpy()
    assert np.abs(again - want).max() < 1e-4
