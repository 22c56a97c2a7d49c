"""YAMNet: .975 s of sound to an embedding of 1,024 numbers, trained on AudioSet.

A MobileNet of 96 x 64 log mel spectrograms (Howard et al., arXiv 1704.04861; AudioSet: Gemmeke et
al., ICASSP 2017). BatchNorm is folded in the published file, so the network stays frozen and a head
is trained on its embedding.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from foveate.core.errors import ModelError, WeightsError
from foveate.models.mobilenet_folded import FoldedMobileNet
from foveate.models.weights.resolve import locate
from foveate.models.weights.table import WeightFile

RATE, SAMPLES = 16_000, 15_600
FILE = WeightFile(
    "yamnet.tflite",
    4_126_810,
    "10c95ea3eb9a7bb4cb8bddf6feb023250381008177ac162ce169694d05c317de",
    (),
)
_FRAME, _HOP, _FFT = 400, 160, 512  # samples
_BANDS = 64
_FLOOR = 1e-3


class YAMNet(nn.Module):
    """The embedding of waveforms; `classifier` gives the 521 classes of AudioSet from it."""

    frozen = True
    num_features = 1024
    mel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mel", torch.zeros(_BANDS, _FFT // 2 + 1))
        self.net = FoldedMobileNet(1, channels=1)
        self.classifier = nn.Linear(self.num_features, 521)

    def log_mel(self, wave: Tensor) -> Tensor:
        """(N, 96, 64) of waveforms (N, 15600) at 16 kHz in -1..1."""
        hann = torch.hann_window(_FRAME, device=wave.device)
        spectra = torch.fft.rfft(wave.unfold(-1, _FRAME, _HOP) * hann, _FFT).abs()
        found: Tensor = (spectra @ self.mel.T + _FLOOR).log()
        return found

    def forward(self, wave: Tensor) -> Tensor:
        """Embeddings (N, 1024) of waveforms (N, 15600) at 16 kHz in -1..1.

        Raises:
            ModelError: They have another length.
        """
        if wave.ndim != 2 or wave.shape[1] != SAMPLES:
            raise ModelError(f"YAMNet takes waveforms (N, {SAMPLES}), not {tuple(wave.shape)}")
        embedding: Tensor = self.net(self.log_mel(wave).unsqueeze(1))
        return embedding


class YAMNetHead(nn.Module):
    """A trained head on YAMNet's frozen embedding, as a part of a model of several modalities.

    Args:
        num_classes: Outputs.
        dropout: Probability of dropping a feature before the outputs, in training.
    """

    exit = None

    def __init__(self, num_classes: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.net, self.frames, self.channels = YAMNet(), 1, 1
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(YAMNet.num_features, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of waveforms (N, 1, 1, 1, 15600)."""
        with torch.no_grad():
            embedding = self.net(x.flatten(1))
        logits: Tensor = self.fc(self.dropout(embedding))
        return logits


def load_yamnet(path: Path | None = None) -> YAMNet:
    """YAMNet with the weights of the published file, de-quantised.

    Args:
        path: The file; None looks for it in the folders of ``FOVEATE_WEIGHTS`` and the cache.

    Raises:
        WeightsError: The file is missing, damaged, or of another network.
    """
    from foveate.models.weights.importers.tflite import read_tflite

    path = path or locate(FILE, offline=True)
    graph = read_tflite(path.read_bytes(), path.name)
    network = YAMNet()
    dense = [one for one in graph.operators if one.kind == "FULLY_CONNECTED"]
    kernels = [found for one in graph.operators if (found := graph.convolution(one)) is not None]
    own = list(network.net.convolutions())
    if len(dense) != 2 or len(kernels) != len(own):
        raise WeightsError(f"{path.name}: another network than YAMNet")
    mel, (weight, bias) = (
        graph.tensors[dense[0].inputs[1]].values(),
        (graph.tensors[at].values() for at in dense[1].inputs[1:]),
    )
    tensors = {"mel": mel, "classifier.weight": weight, "classifier.bias": bias}
    for (name, _), (kernel, offset) in zip(own, kernels, strict=True):
        tensors |= {f"net.{name}.weight": kernel, f"net.{name}.bias": offset}
    try:
        network.load_state_dict({k: torch.tensor(v) for k, v in tensors.items()})
    except RuntimeError:
        raise WeightsError(f"{path.name}: another network than YAMNet") from None
    return network.eval().requires_grad_(False)
