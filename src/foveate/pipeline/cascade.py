"""A cascade over what a video file holds: the next exit runs only while nothing is decided.

After every exit the logits so far are fused (`policy.fuse`) and compared with a threshold. What
comes after the exit that decides is not executed: no later stage of that network, no later network,
and no decoding for it. A cascade that begins with vectors and stops there has decoded no key frame
to RGB and built no residual.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from foveate.core import ConfigError, Cost, MediaError, Meter
from foveate.media import DEFAULT_LIMITS, Limits
from foveate.media.compressed import CompressedVideo
from foveate.media.compressed.reader import no_vectors
from foveate.media.container import VECTOR_CODECS
from foveate.media.source import Source
from foveate.models.coviar import CHANNELS, ExitNetwork, Modality, normalise, square
from foveate.models.macs import on_meta
from foveate.pipeline.ledger import Ledger
from foveate.policy.fuse import Wise

PUBLISHED_ORDER: tuple[Modality, ...] = ("residual", "mv", "iframe")
CHEAP_ORDER: tuple[Modality, ...] = ("mv", "iframe", "residual")  # a residual needs a full decode


@dataclass(frozen=True)
class CascadeAnswer:
    """What a cascade said of one video.

    Attributes:
        probabilities: (classes,) calibrated, of all exits that ran.
        exit: Name of the exit that decided, as `mv.layer2`.
        exits: Names of all exits that ran, in order.
        logits: (exits that ran, classes).
        cost: By stage: `open`, then for each modality `decode-…`, `transform-…`, `network-…`.
    """

    probabilities: Tensor
    exit: str
    exits: tuple[str, ...]
    logits: Tensor
    cost: Cost


class Cascade:
    """Networks of several modalities with their exits in one order, and when to stop.

    Args:
        networks: By modality, in evaluation mode, all with the same classes.
        wise: Fusion whose exits are those of the networks in `order`; see `exit_names`. None
            takes the mean of the logits so far.
        order: Which modality comes when; a prefix of it may be left out altogether.
        threshold: Probability above which an exit decides; 1 lets all of them run.
        segments: Groups of pictures that are looked at, evenly spread.
        size: Side of the networks' input.
        limits: Bounds on work.

    Raises:
        ConfigError: A network is missing, or the fusion is for other exits.
    """

    def __init__(
        self,
        networks: Mapping[Modality, ExitNetwork],
        wise: Wise | None = None,
        *,
        order: Sequence[Modality] = CHEAP_ORDER,
        threshold: float = 0.9,
        segments: int = 3,
        size: int = 224,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        missing = [modality for modality in order if modality not in networks]
        if missing or not order or len(set(order)) != len(order):
            raise ConfigError(f"no network for {', '.join(missing) or 'the order ' + repr(order)}")
        if segments < 1 or size < 1:
            raise ConfigError("segments and size must be positive")
        self.networks = {modality: networks[modality].eval() for modality in order}
        names = exit_names(self.networks)
        if wise is None:
            even = tuple(tuple(1 / n for _ in range(n)) for n in range(1, len(names) + 1))
            wise = Wise(names, even, (1.0,) * len(names))
        if wise.exits != names:
            raise ConfigError(f"the fusion is for {wise.exits}, the exits are {names}")
        self.wise, self.threshold = wise, threshold
        self._segments, self._size, self._limits = segments, size, limits
        self._macs = cache(self._count)

    @torch.inference_mode()
    def predict(self, source: Source) -> CascadeAnswer:
        """Recognise one video, exit by exit.

        Raises:
            MediaError: It cannot be decoded, or vectors are asked of a codec without any.
        """
        ledger, meter = Ledger(), Meter()
        with ledger.stage("open", meter):
            video = CompressedVideo(source, limits=self._limits, meter=meter)
            groups = self._groups(video)
        if video.codec not in VECTOR_CODECS and set(self.networks) != {"iframe"}:
            raise no_vectors(video.name, video.codec)
        taken: list[str] = []
        logits: list[Tensor] = []
        for modality, network in self.networks.items():
            x = self._fetch(video, modality, groups, ledger, meter)
            macs = self._macs(modality, x.shape[2])
            exits = network.segment_logits(x)
            for at, name in enumerate(network.exits):
                with ledger.stage(f"network-{modality}"):
                    logits.append(next(exits)[1].mean(1))
                ledger.add(f"network-{modality}", calls=0, macs=macs[at])
                taken.append(f"{modality}.{name}")
                chances = self.wise.probabilities(torch.stack(logits, 1))[0]
                if float(chances.max()) > self.threshold:
                    return self._answer(chances, taken, logits, ledger)
        return self._answer(chances, taken, logits, ledger)

    def _answer(
        self, chances: Tensor, taken: list[str], logits: list[Tensor], ledger: Ledger
    ) -> CascadeAnswer:
        return CascadeAnswer(chances, taken[-1], tuple(taken), torch.cat(logits), ledger.cost())

    def _groups(self, video: CompressedVideo) -> list[int]:
        """Numbers of the groups looked at: the middles of equal spans, each once."""
        count = len(video.groups)
        if not count:
            raise MediaError(f"{video.name}: no key frame to begin at")
        spans = (np.arange(self._segments) + 0.5) * count / self._segments
        return [int(number) for number in np.unique(spans.astype(int))]

    def _fetch(
        self,
        video: CompressedVideo,
        modality: Modality,
        groups: list[int],
        ledger: Ledger,
        meter: Meter,
    ) -> Tensor:
        """Decode what a network takes: (1, channels, T, S, S); T is less where data is damaged."""
        middle = {number: [len(video.groups[number]) // 2] for number in groups}
        found: list[npt.NDArray[Any]]
        with ledger.stage(f"decode-{modality}", meter):
            if modality == "iframe":
                found = [pixels for _, pixels in video.key_frames(groups)]
            elif modality == "mv":
                found = [picture.motion for picture in video.vectors(middle)]
            else:
                pictures = video.residuals(middle)
                found = [p.residual for p in pictures if p.residual is not None]
        if not found:
            raise MediaError(f"{video.name}: nothing of it could be decoded for {modality}")
        with ledger.stage(f"transform-{modality}"):
            x_tchw = torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2)
            x = normalise(modality, square(x_tchw, self._size))
        return x.transpose(0, 1).unsqueeze(0)

    def _count(self, modality: Modality, segments: int) -> list[int]:
        """Multiply-adds of each exit beyond the one before, counted on the meta device."""
        ghost = on_meta(self.networks[modality])
        assert isinstance(ghost, ExitNetwork)
        shape = (1, CHANNELS[modality], segments, self._size, self._size)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            totals = [
                counter.get_total_flops() // 2
                for _ in ghost.segment_logits(torch.empty(shape, device="meta"))
            ]
        return [b - a for a, b in zip([0, *totals], totals, strict=False)]


def exit_names(networks: Mapping[Modality, ExitNetwork]) -> tuple[str, ...]:
    """Names of all exits in the order of the networks, as `mv.layer2`, `mv.final`."""
    return tuple(f"{modality}.{name}" for modality, n in networks.items() for name in n.exits)
