"""Reading .tflite files: dtypes, the importer's mapping, and damaged bytes."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from litefile import LiteFile, MoViNetFile
from nontrivial import clip, randomise

from foveate.core.errors import WeightsError
from foveate.models.registry import create, create_tiny
from foveate.models.weights.importers.checkpoints import import_file
from foveate.models.weights.importers.movinet_tflite import import_movinet_tflite
from foveate.models.weights.importers.tflite import read_tflite
from foveate.models.weights.load import load
from foveate.models.weights.run import fill

ARCH = "movinet-a0-stream-lite"
SIZE = (21, 26)


@pytest.fixture(scope="module")
def model():
    """A tiny network with random weights."""
    return randomise(create_tiny(ARCH))


@pytest.fixture(scope="module")
def quantised(model):
    """The same network as a file with int8 kernels."""
    return MoViNetFile(model, SIZE, quantised=True).tobytes()


@pytest.mark.parametrize(
    ("stored", "scales", "zeros", "axis", "expected"),
    [
        (np.array([[1, 2], [3, -4]], "i1"), [0.5, 2.0], [0, 0], 0, [[0.5, 1.0], [6.0, -8.0]]),
        (np.array([[1, 2], [3, -4]], "i1"), [0.5, 2.0], [1, 0], 1, [[0.0, 4.0], [1.0, -8.0]]),
        (np.array([0, 128, 255], "u1"), [0.1], [128], 0, [-12.8, 0.0, 12.7]),
        (np.array([1 << 24, -3], "i4"), [2.0**-20], [0], 0, [16.0, -3 * 2.0**-20]),
        (np.array([1.5, -2.0], "f2"), None, None, 0, [1.5, -2.0]),
        (np.array([1.5, -2.0], "f4"), None, None, 0, [1.5, -2.0]),
        (np.array([7, -2], "i4"), None, None, 0, [7, -2]),
    ],
)
def test_values_are_dequantised(stored, scales, zeros, axis, expected):
    file = LiteFile()
    file.const("c", stored, scales, zeros, axis)
    values = read_tflite(file.tobytes()).tensors[0].values()
    np.testing.assert_allclose(values, np.asarray(expected, values.dtype), rtol=1e-6)


def test_a_variable_has_no_values():
    file = LiteFile()
    file.var("x", (2, 2))
    with pytest.raises(WeightsError, match="not a constant"):
        read_tflite(file.tobytes()).tensors[0].values()


def test_float_files_round_trip(model):
    arrays = import_movinet_tflite(MoViNetFile(model, SIZE).tobytes())
    assert arrays.keys() == model.state_dict().keys()
    for name, parameter in model.state_dict().items():
        np.testing.assert_array_equal(arrays[name], parameter.numpy(), err_msg=name)


def test_quantised_file_gives_parameters_within_half_a_step(model, quantised):
    arrays = import_movinet_tflite(quantised)
    assert arrays.keys() == model.state_dict().keys()
    for name, parameter in model.state_dict().items():
        want = parameter.numpy()
        if name.endswith("weight"):
            peak = np.abs(want).reshape(want.shape[0], -1).max(1)
            step = (peak / 127).reshape(-1, *[1] * (want.ndim - 1))
            assert (np.abs(arrays[name] - want) <= 0.501 * step).all(), name
        else:
            np.testing.assert_allclose(arrays[name], want, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("name", ["a0", "a1", "a2"])
def test_the_files_of_all_published_networks_are_imported(name, tmp_path, monkeypatch):
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))
    model = randomise(create(f"movinet-{name}-stream-lite", num_classes=5))
    file = tmp_path / f"{name}.tflite"
    file.write_bytes(MoViNetFile(model, (32, 32), quantised=True).tobytes())
    _, card = import_file(file, name)
    assert card.network.arch == f"movinet-{name}-stream-lite"
    loaded = load(name)
    assert loaded.input.size == (224 if name == "a2" else 172)
    assert loaded.labels == tuple(f"class {i}" for i in range(5))
    for key, value in loaded.network.state_dict().items():
        want = model.state_dict()[key]
        # Half a step of 1/127 of the channel's peak, and biases in much finer steps.
        assert (value - want).abs().max() <= 0.51 / 127 * want.abs().max() + 1e-4, key
    x = clip((1, 3, 2, 32, 32))
    with torch.no_grad():
        found, want = loaded.network(x), model(x)
    assert torch.corrcoef(torch.cat([found, want]))[0, 1] > 0.98


def test_other_networks_in_a_tflite_file_are_refused(model, tmp_path):
    file = tmp_path / "tiny.tflite"
    file.write_bytes(MoViNetFile(model, SIZE).tobytes())
    with pytest.raises(WeightsError, match=r"tiny\.tflite: .*no MoViNet has layers"):
        import_file(file, "tiny", system="movinet-tflite")


def test_an_independent_engine_gives_the_same_logits(model):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter
    file = MoViNetFile(model, SIZE)
    engine = interpreter(model_content=file.tobytes(), num_threads=1)
    engine.allocate_tensors()
    feeds = {
        name: np.zeros(file.shape(i), np.int32 if name.endswith("count") else np.float32)
        for name, i in file.inputs.items()
    }
    x = clip((1, 3, 7, *SIZE))
    state = model.initial_state(1, *SIZE)
    with torch.no_grad():
        for t in range(7):
            frame = x[:, :, t : t + 1]
            logits, state = model.step(frame, state)
            feeds["image"] = frame.permute(0, 2, 3, 4, 1).numpy().copy()
            for name, i in file.inputs.items():
                engine.set_tensor(i, feeds[name])
            engine.invoke()
            got = {name: engine.get_tensor(i) for name, i in file.outputs.items()}
            feeds |= {name: value for name, value in got.items() if name != "logits"}
            scale = np.abs(got["logits"]).max()
            assert np.abs(logits.numpy() - got["logits"]).max() < 1e-5 * scale, t


def test_differences_are_listed(model):
    arrays = import_movinet_tflite(MoViNetFile(model, SIZE).tobytes())
    del arrays["stem.bias"]
    arrays["extra.weight"] = np.zeros(3)
    arrays["classifier.bias"] = np.zeros(9)
    with pytest.raises(WeightsError) as caught:
        fill(create_tiny(ARCH), arrays)
    for part in ("missing stem.bias", "unused extra.weight", "classifier.bias is (9,), not (7,)"):
        assert part in str(caught.value)


def test_fill_changes_nothing_if_arrays_do_not_fit(model):
    target = create_tiny(ARCH)
    before = {k: v.clone() for k, v in target.state_dict().items()}
    with pytest.raises(WeightsError):
        fill(target, {"stem.weight": np.zeros((4, 3, 3, 3))})
    assert all(torch.equal(v, before[k]) for k, v in target.state_dict().items())


@pytest.mark.parametrize("data", [b"", b"TFL3", b"x" * 64, b"\0\0\0\0TFL3", b"\xff" * 4 + b"TFL3"])
def test_other_files_are_rejected(data):
    with pytest.raises(WeightsError):
        read_tflite(data)


@pytest.mark.parametrize("seed", range(30))
def test_truncated_files_give_one_error(quantised, seed):
    keep = random.Random(seed).randrange(len(quantised))
    with pytest.raises(WeightsError) as caught:
        fill(create_tiny(ARCH), import_movinet_tflite(quantised[:keep], "some.tflite"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", range(30))
def test_flipped_bytes_never_crash(quantised, seed):
    rng = random.Random(seed)
    data = bytearray(quantised)
    # Half of the flips are in the first part, with the tables of offsets.
    for _ in range(rng.randrange(1, 40)):
        end = len(data) if rng.random() < 0.5 else 4000
        data[rng.randrange(8, end)] = rng.randrange(256)
    try:
        fill(create_tiny(ARCH), import_movinet_tflite(bytes(data), "some.tflite"))
    except WeightsError as error:
        assert "\n" not in str(error)  # noqa: PT017


@pytest.mark.parametrize("seed", range(10))
def test_malicious_counts_are_rejected_quickly(quantised, seed):
    rng = random.Random(seed)
    data = bytearray(quantised)
    for _ in range(60):
        at = rng.randrange(2, len(data) // 4) * 4
        data[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x40"))
    try:
        import_movinet_tflite(bytes(data))
    except WeightsError as error:
        assert "\n" not in str(error)  # noqa: PT017
