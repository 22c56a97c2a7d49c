"""YAMNet's weights out of the published file: the numbers that LiteRT computes with the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from foveate.core import WeightsError
from foveate.models.yamnet import RATE, SAMPLES, YAMNet, load_yamnet

# Tensors of the file; the embedding is quantised with this scale and zero point.
_LOG_MEL, _EMBEDDING, _SCORES = 25, 115, 120
_SCALE, _ZERO = 0.022328350692987442, -128


def waves() -> list[np.ndarray]:
    """A tone that rises, noise that beats, clicks, and near silence."""
    random = np.random.default_rng(0)
    t = np.arange(SAMPLES) / RATE
    noise = random.normal(0, 0.1, SAMPLES)
    return [
        one.astype(np.float32)
        for one in (
            0.4 * np.sin(2 * np.pi * (200 + 1500 * t) * t),
            noise * (1 + np.sin(2 * np.pi * 4 * t)),
            0.8 * (np.arange(SAMPLES) % 4000 < 40) * np.sign(noise),
            noise * 1e-3,
        )
    ]


@pytest.mark.shared
@pytest.mark.filterwarnings("ignore:.*experimental_preserve_all_tensors")
def test_the_numbers_of_the_published_file(shared: Path) -> None:
    """Within what int8 activations of the file lose; the spectrogram, which is float, exactly."""
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="needs the extra litert")
    path = shared / "weights" / "yamnet.tflite"
    network = load_yamnet(path)
    interpreter = litert.Interpreter(str(path), experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    for wave in waves():
        interpreter.set_tensor(0, wave)
        interpreter.invoke()
        with torch.no_grad():
            x = torch.from_numpy(wave).unsqueeze(0)
            log_mel, embedding = network.log_mel(x)[0], network(x)[0]
            scores = network.classifier(embedding).sigmoid().numpy()
        np.testing.assert_allclose(log_mel, interpreter.get_tensor(_LOG_MEL), atol=5e-3)
        whole = interpreter.get_tensor(_EMBEDDING).ravel().astype(np.float64)
        want = (whole - _ZERO) * _SCALE
        assert np.corrcoef(embedding.numpy(), want)[0, 1] > 0.99
        assert np.abs(embedding.numpy() - want).mean() < 0.01
        assert np.abs(scores - interpreter.get_tensor(_SCORES)[0]).max() < 0.15


def test_another_file_or_another_length_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "yamnet.tflite").write_bytes(b"\0\0\0\0TFL3" + bytes(64))
    with pytest.raises(WeightsError, match=r"yamnet\.tflite: "):
        load_yamnet(tmp_path / "yamnet.tflite")
    with pytest.raises(Exception, match="takes waveforms"):
        YAMNet()(torch.zeros(1, 100))
