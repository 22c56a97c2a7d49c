"""The fast form of the causal MoViNets: the same step, folded and laid out for a CPU.

It gives the numbers of ``MoViNetStream.step`` to rounding and takes and returns the same states.
What makes it fast, with everything done once when it is built:

* Maps are matrices (pixels, channels): 1x1 convolutions are matrix products, which start ten
  times faster than a convolution primitive, and residual sums are their accumulators.
* A channel that is always 1 carries the biases through the products. The scalars of the
  branches are folded into the projections, and the projections' biases into the next product.
* Depthwise kernels are packed once and fused with the activation. Uneven SAME padding becomes even
  padding of a kernel with a leading row of zeros, so maps are not copied to be padded.
* Temporal kernels are multiply-adds over the stored past frames; nothing is concatenated,
  and the frame of a live stream moves through its slots without being copied.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from foveate.core.errors import ModelError
from foveate.models.clip import check_clip
from foveate.models.layers.packed import IN_PLACE, PackedConv
from foveate.models.layers.same import avg_pool_same
from foveate.models.movinet_config import empty_state, pool_name, slot_name
from foveate.models.streaming import State, add_to_mean, mean_features

if TYPE_CHECKING:
    from foveate.models.movinet import MoViNetStream
    from foveate.models.movinet_layers import Bottleneck


# What the activations turn into 1: the bias of the constant channel behind the stem.
_ONE = {"relu6": 1.0, "swish": 1.2784645427610738, "hard-swish": (33**0.5 - 3) / 2}


class MoViNetInference:
    """A frozen copy of a ``MoViNetStream`` for inference on a CPU; see the module's text.

    Args:
        model: A network without normalisation (see ``MoViNet.folded``), with a kernel over space
            and one over time; later changes to its weights do not reach the copy.
    """

    def __init__(self, model: MoViNetStream) -> None:
        self.config = model.config
        self.memory = model.memory
        self._activate = IN_PLACE[model.config.activation]
        self._activate_head = IN_PLACE[model.config.head_activation]
        self.dtype = model.stem.weight.dtype
        self.num_classes = model.classifier.out_features
        with torch.inference_mode():
            self._build(model)

    def _build(self, model: MoViNetStream) -> None:
        """Fold and pack the weights."""
        stem = model.stem
        weight = F.pad(stem.weight, (0, 0, 0, 0, 0, 0, 0, 1))
        bias = F.pad(_bias(stem), (0, 1), value=_ONE[model.config.activation])
        self._stem = PackedConv(weight, bias, 2, 1, model.config.activation)
        carried = torch.zeros(stem.out_channels, dtype=torch.float64)
        self._layers: list[_FoldedLayer] = []
        for name, block in model.layers():
            layer = _FoldedLayer(name, block, carried, model.config.activation)
            carried = layer.carried
            self._layers.append(layer)
        self._head = _with_bias(model.head_project, carried).to(self.dtype)
        self._dense = [
            (linear.weight.detach().clone(), linear.bias.detach().clone())
            for linear in (model.classifier_head, model.classifier)
        ]

    def initial_state(
        self,
        batch: int,
        height: int,
        width: int,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> State:
        """Return the state of streams that have seen nothing; see ``MoViNetStream``."""
        dtype, device = dtype or self.dtype, device or "cpu"
        return empty_state(self.config, self.memory, batch, height, width, dtype, device)

    @torch.inference_mode()
    def step_features(self, x: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Run the next n >= 1 frames of every stream, without the classifier head.

        Args:
            x: Frames (B, 3, n, H, W), RGB in 0..1, any memory layout.
            state: From ``initial_state`` or a previous step, of this class or of ``MoViNetLite``;
                it is not changed.

        Returns:
            Features of these frames (B, n, project) and the new state.

        Raises:
            ModelError: The frames or the state have the wrong shape.
        """
        check_clip(x)
        new: State = {}
        for _, y in self.maps(x, state, new):
            last = y
        features = last.flatten(1, 2).mean(1).unflatten(0, (len(x), -1))
        return features, new | add_to_mean(state, features, self.memory)

    def maps(self, x: torch.Tensor, state: State, new: State) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the maps (B * n, H, W, C) of the stem, of every layer and of the head, by name.

        Those of the stem and of layers have a last channel of ones, may lack a bias that the next
        layer adds, and are overwritten by it; for the arguments see ``MoViNet.maps``.
        """
        images = x.transpose(1, 2).flatten(0, 1).to(self.dtype)
        y = self._stem(images.contiguous(memory_format=torch.channels_last))
        y = y.permute(0, 2, 3, 1)
        yield "stem", y
        for layer in self._layers:
            y = layer(y, len(x), state, new)
            yield layer.name, y
        h = self._activate(torch.mm(y.flatten(0, 2), self._head))
        yield "head", h.view(*y.shape[:3], -1)

    def step(self, x: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Run the next n >= 1 frames and classify all that was seen; see ``MoViNetStream``."""
        _, state = self.step_features(x, state)
        return self.classify(self.pooled(state)), state

    def pooled(self, state: State) -> torch.Tensor:
        """Return the mean of the features remembered, (B, project); see ``MoViNetStream``."""
        return mean_features(state, self.memory)

    @torch.inference_mode()
    def classify(self, pooled_features: torch.Tensor) -> torch.Tensor:
        """Return logits (..., classes) for pooled features (..., project)."""
        (w1, b1), (w2, b2) = self._dense
        hidden = F.linear(pooled_features.to(self.dtype), w1, b1)
        return F.linear(self._activate_head(hidden), w2, b2)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features of every frame of a clip (B, 3, T, H, W) as (B, T, project)."""
        check_clip(x)
        return self.step_features(x, self.initial_state(x.shape[0], *x.shape[-2:]))[0]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Classify whole clips (B, 3, T, H, W)."""
        check_clip(x)
        return self.step(x, self.initial_state(x.shape[0], *x.shape[-2:]))[0]


class _FoldedLayer:
    """A bottleneck on maps (N, H, W, C + 1) whose last channel is 1.

    Args:
        name: Key of its slots in the state.
        block: The layer.
        carried: Bias (C,) that the incoming maps still lack.
        activation: A key of `ACTIVATIONS`.
    """

    def __init__(
        self, name: str, block: Bottleneck, carried: torch.Tensor, activation: str
    ) -> None:
        self.name, self._activate = name, IN_PLACE[activation]
        self.squeeze, self.pool = block.squeeze, pool_name(name)
        dtype = block.projection.weight.dtype
        self.stride = block.stride
        self.expand = _with_bias(block.expansion, carried).to(dtype)
        spatial = block.feature
        self.spatial = PackedConv(
            spatial.weight, _bias(spatial), block.stride, spatial.groups, activation
        )
        self.keys = [slot_name(name, i) for i in range(block.kernel_t - 1)]
        self.taps: list[torch.Tensor] = []
        if block.feature_temporal is not None:
            kernel = block.feature_temporal.weight.detach()[:, 0, :, 0]
            self.taps = [tap.contiguous() for tap in kernel.t()]
            self.tap_bias = _bias(block.feature_temporal).clone()
        scale = block.rezero.double()
        project = _matrix(block.projection) * scale
        self.project = F.pad(project, (0, 1)).to(dtype)
        self.carried = _bias(block.projection).double() * scale
        self.skip = None
        if block.skip_project is None:
            self.carried = self.carried + carried
        else:
            skip = _with_bias(block.skip_project, carried)
            skip[-1] += self.carried
            one = F.one_hot(torch.tensor(skip.shape[0] - 1), skip.shape[0])
            self.skip = torch.cat([skip, one.double().unsqueeze(1)], 1).to(dtype)
            self.carried = torch.zeros_like(self.carried)

    def __call__(self, y: torch.Tensor, batch: int, state: State, new: State) -> torch.Tensor:
        """Run N = B * n frames; ``y`` may be overwritten, ``state`` is read, ``new`` filled."""
        n, height, width, channels = y.shape
        flat = y.view(-1, channels)
        wide = self._activate(torch.mm(flat, self.expand)).view(n, height, width, -1)
        wide = self.spatial(wide.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        if self.taps:
            wide = self._temporal(wide, batch, state, new)
        if self.squeeze is not None:
            means = wide.mean((1, 2)).view(batch, -1, wide.shape[3])
            gates, stored = self.squeeze(means, state[self.pool], state["head/frames"])
            new[self.pool] = stored
            wide = wide * gates.reshape(n, 1, 1, -1)  # the slots may share its memory
        if self.skip is not None:
            if self.stride > 1:
                y = avg_pool_same(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
                flat = y.reshape(-1, channels)
            flat = torch.mm(flat, self.skip)
        # The residual sum is the accumulator of the product.
        flat.addmm_(wide.reshape(flat.shape[0], -1), self.project)
        return flat.view(n, *wide.shape[1:3], -1)

    def _temporal(self, x: torch.Tensor, batch: int, state: State, new: State) -> torch.Tensor:
        """Convolve over the slots and the new frames: a multiply-add for each kernel tap."""
        past = [state[key] for key in self.keys]
        frames = x.view(batch, -1, *x.shape[1:])
        if past[0].shape != frames[:, 0].shape:
            raise ModelError(
                f"the state holds maps of {tuple(past[0].shape)}, the frames give "
                f"{tuple(frames[:, 0].shape)}",
                "make the state with initial_state for this batch and resolution",
            )
        if frames.shape[1] == 1:
            # The common case of a live stream, with few calls.
            latest = frames[:, 0]
            out = torch.addcmul(self.tap_bias, latest, self.taps[-1])
            for frame, tap in zip(past, self.taps, strict=False):
                out.addcmul_(frame, tap)
            new.update(zip(self.keys, (*past[1:], latest), strict=True))
            return self._activate(out)
        new.update(zip(self.keys, _latest(past, frames), strict=True))
        return self._activate(self._several(past, frames)).view(x.shape)

    def _several(self, past: list[torch.Tensor], frames: torch.Tensor) -> torch.Tensor:
        """The temporal sums of a chunk (B, n, H, W, E) after the past frames."""
        count, keep = frames.shape[1], len(past)
        out = torch.addcmul(self.tap_bias, frames, self.taps[keep])
        for lag in range(1, keep + 1):
            tap = self.taps[keep - lag]
            if lag < count:
                out[:, lag:].addcmul_(frames[:, :-lag], tap)
            for i in range(min(lag, count)):
                out[:, i].addcmul_(past[keep - lag + i], tap)
        return out


def _latest(past: list[torch.Tensor], frames: torch.Tensor) -> list[torch.Tensor]:
    """The slots after a chunk; its frames are copied, so that the chunk can be freed."""
    keep = len(past)
    recent = [frame.clone() for frame in frames[:, -keep:].unbind(1)]
    return (past + recent)[-keep:]


def _bias(conv: torch.nn.Conv2d | torch.nn.Conv3d) -> torch.Tensor:
    """The bias of a convolution, zeros when it has none."""
    if conv.bias is None:
        return conv.weight.new_zeros(conv.out_channels)
    return conv.bias.detach()


def _matrix(conv: torch.nn.Conv2d) -> torch.Tensor:
    """A 1x1 convolution as a double-precision matrix (in, out)."""
    return conv.weight.detach()[:, :, 0, 0].t().double()


def _with_bias(conv: torch.nn.Conv2d, carried: torch.Tensor) -> torch.Tensor:
    """A 1x1 convolution as a matrix (in + 1, out) whose last row is the bias.

    Args:
        conv: The convolution.
        carried: Bias (in,) that has not been added to its input yet.
    """
    matrix = _matrix(conv)
    return torch.cat([matrix, (_bias(conv).double() + carried @ matrix).unsqueeze(0)])
