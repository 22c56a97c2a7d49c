"""The parts of a model as functions of tensors, all state being inputs and outputs.

Frames are inputs as they are decoded, (B, S, S, 3) uint8: converting, scaling and normalising them
is part of the graph. Rows of a batch are independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import nn

from foveate.core import InputSpec, ModelError
from foveate.engines.adafocus import adafocus_functions
from foveate.engines.adamml import adamml_functions
from foveate.engines.function import NEXT, Function, NetworkFunctions, Prepared
from foveate.models import LoadedModel, is_streaming, macs_of, mixes_frames
from foveate.models.coviar import CHANNELS, ExitNetwork, KeyFrameClips, normalise
from foveate.models.fastestdet import MINIMUM_SCORE, OVERLAP, FastestDet
from foveate.models.macs import on_meta
from foveate.models.maps import glance_method
from foveate.models.movinet import MoViNetStream
from foveate.models.movinet_step import MoViNetStep, Temporal
from foveate.models.weights.exported import StateCard

METHODS = ("network", "ensemble", "cascade", "detector", "adafocus", "adamml")
CHUNK = 5  # frames of a call where there are so many; more take longer to export
_FRAMES = "head/frames"  # the state that counts the frames before


def functions_of(
    loaded: LoadedModel,
    sides: Sequence[int] = (),
    *,
    temporal: Temporal = "convolutions",
    frames: int | None = None,
) -> dict[str, NetworkFunctions]:
    """The functions of all networks of a model.

    Args:
        loaded: The model; it is not changed.
        sides: Of the frames, in pixels; of the patches of AdaFocus. The model's own if empty.
        temporal: See `MoViNetStep`.
        frames: Of a window, among which AdaFocus chooses; the model's own number if None.

    Raises:
        ModelError: The networks of this model cannot be exported.
    """
    if loaded.method not in METHODS:
        raise ModelError(
            f"{loaded.name}: a model of the method {loaded.method!r} cannot be exported",
            f"methods that can: {', '.join(METHODS)}",
        )
    found = {}
    for part, module in loaded.networks.items():
        spec, network = loaded.input_of(part), cast("Any", module)
        if isinstance(network, ExitNetwork):
            if isinstance(network.network, KeyFrameClips):
                raise ModelError(
                    f"{loaded.name}: a cascade with a video network on key frames cannot be "
                    "exported",
                    "use --engine torch",
                )
            found[part] = exit_functions(network, spec)
            continue
        if loaded.method == "adafocus":
            found[part] = adafocus_functions(network, spec, frames or spec.clip_frames, sides)
            continue
        if loaded.method == "adamml":
            found[part] = adamml_functions(network, spec)
            continue
        if loaded.method == "detector":
            found[part] = _detector(loaded.name, network, spec)
            continue
        made = [
            _stream(network, spec, side, temporal)
            if is_streaming(network)
            else _clip(network, spec, side)
            for side in sides or (spec.size,)
        ]
        graphs = {name: one for each in made for name, one in each.functions.items()}
        found[part] = replace(made[0], functions=graphs)
    return found


class _Step(nn.Module):
    """The next frames of streams and their state, as `MoViNetStep` has it.

    Frames are (B, S, S, 3), or (B, count, S, S, 3) if there are several.
    """

    def __init__(
        self, step: Any, spec: InputSpec | None, names: list[str], outputs: list[str], count: int
    ) -> None:
        super().__init__()
        self.step, self.prepared = step, None if spec is None else Prepared(spec)
        self.names, self.outputs, self.count = names, outputs, count

    def forward(self, frames: torch.Tensor, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        state = dict(zip(self.names, values, strict=True))
        images = frames if self.count == 1 else frames.flatten(0, 1)
        # The first convolution scales the pixels if nothing is subtracted. They are moved as bytes,
        # except where channels stay last.
        if self.prepared is not None:
            x = self.prepared(images)
        elif self.step.temporal == "stacked":
            x = images.float().movedim(-1, 1)
        else:
            x = images.movedim(-1, 1).float()
        new = self.step(x, state, self.count)
        if _FRAMES in self.outputs:
            new[_FRAMES] = state[_FRAMES] + self.count
        return tuple(new[name] for name in self.outputs)


class _AnyStep(nn.Module):
    """A network with the functional step interface, its whole state in and out."""

    def __init__(self, network: Any, side: int) -> None:
        super().__init__()
        self.network, self.side = network, side
        self.buffers_of: dict[str, list[str]] = {}
        self.remembered = [key for key in self.initial() if key != _FRAMES]

    def initial(self) -> dict[str, torch.Tensor]:
        state: dict[str, torch.Tensor] = self.network.initial_state(1, self.side, self.side)
        return state

    def forward(
        self, x: torch.Tensor, state: dict[str, torch.Tensor], count: int
    ) -> dict[str, torch.Tensor]:
        clips = x.unsqueeze(2) if count == 1 else x.unflatten(0, (-1, count)).transpose(1, 2)
        new: dict[str, torch.Tensor] = self.network.step_features(clips, state)[1]
        return new


class _Head(nn.Module):
    """What was remembered of a stream → logits and the features that they are computed from."""

    def __init__(self, network: Any, names: list[str]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean = self.network.pooled(dict(zip(self.names, values, strict=True)))
        return self.network.classify(mean), mean


def _stream(network: Any, spec: InputSpec, side: int, temporal: Temporal) -> NetworkFunctions:
    step: Any
    prepared: InputSpec | None = spec
    if (
        isinstance(network, MoViNetStream)
        and network.config.conv == "2plus1d"
        and network.config.padding == "same"
    ):
        pixels = Prepared(spec)
        prepared = spec if pixels.shifted else None
        scale = None if pixels.shifted else pixels.scale
        step = MoViNetStep(network.folded(), side, temporal=temporal, scale=scale)
    else:
        step = _AnyStep(network, side)
    initial = step.initial()
    if any(bool(value.any()) for value in initial.values()):
        raise ModelError(
            f"{type(network).__name__}: its state does not begin with zeros",
            "only networks whose state does can be exported",
        )
    buffers = [StateCard(inputs=keys, output=NEXT + keys[-1]) for keys in step.buffers_of.values()]
    others = [StateCard(inputs=[key], output=NEXT + key) for key in step.remembered]
    cards = (*buffers, *others, *([StateCard(inputs=[_FRAMES])] * (_FRAMES in initial)))
    names = [key for card in cards for key in card.inputs]
    features = macs_of(network, (1, 3, 1, side, side), "features")

    def function(cards: tuple[StateCard, ...], count: int) -> Function:
        outputs = [card.output for card in cards if card.output is not None]
        plain = [name.removeprefix(NEXT) for name in outputs]
        shape = (1, side, side, 3) if count == 1 else (1, count, side, side, 3)
        return Function(
            _Step(step, prepared, names, plain, count).eval(),
            {"frames": torch.zeros(shape, dtype=torch.uint8), **{k: initial[k] for k in names}},
            tuple(outputs), cards, features * count,
        )  # fmt: skip

    each = tuple(StateCard(inputs=[key], output=NEXT + key) for key in names)
    pooled = [key for key in initial if key.startswith("head/")]

    def reference(clip: Any) -> torch.Tensor:
        x = Prepared(spec)(torch.as_tensor(clip)).transpose(0, 1).unsqueeze(0)
        state, rows = network.initial_state(1, side, side), []
        for i in range(x.shape[2]):
            logits, state = network.step(x[:, :, i : i + 1], state)
            rows.append(logits[0])
        return torch.stack(rows)

    return NetworkFunctions(
        "stream",
        {
            f"step-{side}": function(cards, 1),
            f"chunk-{side}": function(each, CHUNK),
            "head": Function(
                _Head(network, pooled).eval(),
                {key: initial[key] for key in pooled},
                ("logits", "features"),
                macs=macs_of(network, (1, 3, 1, 32, 32), "forward")
                - macs_of(network, (1, 3, 1, 32, 32), "features"),
            ),
        },
        reference,
        mixes_frames(network),
    )  # fmt: skip


class _Clip(nn.Module):
    """Clips (B, T, S, S, 3) uint8 → logits, and features where the network has them."""

    def __init__(self, network: Any, spec: InputSpec) -> None:
        super().__init__()
        self.network, self.prepared = network, Prepared(spec)
        self.by_features = glance_method(network) == "features"

    def forward(self, frames: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = self.prepared(frames)
        if not self.by_features:
            return (self.network(x),)
        features = self.network.features(x)
        return self.network.classify(features).mean(1), features.mean(1)


def _clip(network: Any, spec: InputSpec, side: int) -> NetworkFunctions:
    frames = torch.zeros(1, spec.clip_frames, side, side, 3, dtype=torch.uint8)
    module = _Clip(network, spec).eval()
    macs = macs_of(network, (1, 3, spec.clip_frames, side, side))
    names = ("logits", "features") if module.by_features else ("logits",)
    return NetworkFunctions(
        "clip",
        {f"clip-{side}": Function(module, {"frames": frames}, names, macs=macs)},
        lambda clip: module(torch.as_tensor(clip).unsqueeze(0))[0],
        mixes_frames(network),
    )


class _Exit(nn.Module):
    """From one exit of a network to the next, on pictures that were cut to a square.

    Pictures (N, S, S, channels) float32 at the first exit, else the maps (N, C, h, w) that the
    exit before returned; logits (N, classes) and maps of each picture.
    """

    def __init__(self, network: ExitNetwork, at: int, spec: InputSpec) -> None:
        super().__init__()
        self.network, self.at, self.spec = network, at, spec

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.at == 0:
            modality = self.network.network.modality
            x = normalise(modality, x.permute(0, 3, 1, 2), self.spec.mean, self.spec.std)
            logits, maps = self.network.advance(0, x.unsqueeze(2))
        else:
            logits, maps = self.network.advance(self.at, x.unsqueeze(1))
        return logits, maps[:, 0]


class _ClipExit(nn.Module):
    """Pictures (B, T, S, S, 3) float32 of clips → logits (B, classes), and maps behind them."""

    def __init__(self, network: ExitNetwork, spec: InputSpec) -> None:
        super().__init__()
        self.network, self.spec = network, spec

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        modality = self.network.network.modality
        x = normalise(modality, x.permute(0, 1, 4, 2, 3), self.spec.mean, self.spec.std)
        return self.network.advance(0, x.transpose(1, 2))


def clip_functions(network: ExitNetwork, spec: InputSpec, frames: int) -> NetworkFunctions:
    """The only exit of a video network of a cascade, for clips of so many pictures."""
    pictures = torch.zeros(1, frames, spec.size, spec.size, 3)
    module = _ClipExit(network, spec).eval()
    function = Function(module, {"pictures": pictures}, ("logits", NEXT + "maps"))
    return NetworkFunctions("exits", {f"clip-{frames}": function})


def exit_functions(network: ExitNetwork, spec: InputSpec) -> NetworkFunctions:
    """The exits of a network of a cascade, each from the one before on."""
    functions: dict[str, Function] = {}
    shape: tuple[int, ...] = (1, spec.size, spec.size, CHANNELS[network.network.modality])
    ghost: Any = on_meta(network)
    for at in range(len(network.exits)):
        name = "pictures" if at == 0 else "maps"
        module = _Exit(network, at, spec).eval()
        functions[f"exit-{at}"] = Function(
            module, {name: torch.zeros(shape)}, ("logits", NEXT + "maps")
        )
        with torch.no_grad():
            shape = tuple(_Exit(ghost, at, spec)(torch.empty(shape, device="meta"))[1].shape)

    def reference(pictures: Any) -> torch.Tensor:
        x = torch.as_tensor(pictures).permute(3, 0, 1, 2).unsqueeze(0)
        modality = network.network.modality
        x = normalise(modality, x.transpose(1, 2), spec.mean, spec.std).transpose(1, 2)
        return torch.cat(list(network(x).values()))

    names = [str(name) for name in network.exits]
    return NetworkFunctions("exits", functions, reference, mixes_frames(network), names)


class _Detector(nn.Module):
    """Frames (B, S, S, 3) uint8 → boxes (B, n, 4) as shares of the frame, scores and labels."""

    def __init__(self, network: FastestDet, spec: InputSpec) -> None:
        super().__init__()
        self.network, self.prepared = network, Prepared(spec)

    def forward(self, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        network = self.network
        return network.decoded(network.high(network.low(self.prepared(frames))))


def _detector(name: str, network: nn.Module, spec: InputSpec) -> NetworkFunctions:
    if not isinstance(network, FastestDet) or spec.resize != "squash":
        raise ModelError(
            f"{name}: a {type(network).__name__} cannot be exported, only FastestDet on square "
            "frames",
            "use --engine torch",
        )
    module = _Detector(network, spec).eval()
    frames = torch.zeros(1, spec.size, spec.size, 3, dtype=torch.uint8)

    def reference(clip: Any) -> torch.Tensor:
        boxes, scores, _ = module(torch.as_tensor(clip))
        return torch.cat([boxes.flatten(1), scores], 1)

    function = Function(module, {"frames": frames}, ("boxes", "scores", "labels"))
    return NetworkFunctions(
        "detector", {f"detect-{spec.size}": function}, reference, mixes_frames=False,
        least_score=MINIMUM_SCORE, overlap=OVERLAP,
    )  # fmt: skip
