"""One set of weights that all networks of a space share.

The largest network of the space holds the weights. Any other network of it runs on parts of them:
the first layers of a stage, the first channels, the centre of a kernel. This gives the numbers of
channel masks at the cost of the smaller network. In time, kernels of causal networks keep their
last taps, so that the present frame stays the present one.

Normalisation uses the statistics of the batch, also in evaluation: running ones would be those of
no network in particular.

Source: Bender et al., "Can Weight Sharing Outperform Random Architecture Search? An Investigation
With TuNAS", CVPR 2020 (arXiv 2008.06120).
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import nn
from torch.func import functional_call

from foveate.models.movinet import MoViNet, movinet
from foveate.models.movinet_config import MoViNetConfig
from foveate.models.movinet_layers import norm_of
from foveate.search.costs import without_values
from foveate.search.space import FEW_STEPS, SearchSpace


class SuperNet(nn.Module):
    """The shared weights of a space.

    Args:
        space: Its networks.
        num_classes: Outputs of the classifier.
        dropout: Before the classifier, in training.
    """

    def __init__(self, space: SearchSpace, num_classes: int, dropout: float = 0.2) -> None:
        super().__init__()
        config = space.largest()
        self.shared = movinet(config, num_classes, dropout)
        for _, layer in self.shared.layers():
            nn.init.constant_(layer.rezero, FEW_STEPS["rezero"])
            # The largest widths can be equal where those of another network are not.
            if layer.skip_project is None:
                inputs, outputs = layer.expansion.in_channels, layer.projection.out_channels
                if layer.name.endswith("_layer0"):
                    layer.skip_project = nn.Conv2d(inputs, outputs, 1, bias=False)
                    layer.skip_project_norm = norm_of(config, outputs)
        self._network = lru_cache(256)(self._build)

    def _build(self, config: MoViNetConfig) -> MoViNet:
        """A network without values, for its structure."""
        last = self.shared.classifier.out_features
        network = without_values(config, last, self.shared.dropout.p)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.track_running_stats = False
                module.running_mean = module.running_var = module.num_batches_tracked = None
        return network

    def weights(self, config: MoViNetConfig) -> dict[str, torch.Tensor]:
        """The part of the shared weights that a network of the space uses, by name."""
        shared = dict(self.shared.named_parameters())
        both = config.squeeze == "mean+frame"
        return {
            name: _part(shared[name], one.shape, config.causal, both and ".squeeze.reduce." in name)
            for name, one in self._network(config).named_parameters()
        }

    def forward(self, x: torch.Tensor, config: MoViNetConfig) -> torch.Tensor:
        """Classify clips with one of the networks.

        Args:
            x: Clips (B, 3, T, H, W), RGB in 0..1; their statistics normalise, so B should not be
                small.
            config: The network.

        Returns:
            Logits (B, classes).
        """
        network = self._network(config).train(self.training)
        logits: torch.Tensor = functional_call(network, self.weights(config), (x,))
        return logits


def _part(weight: torch.Tensor, shape: torch.Size, causal: bool, two_inputs: bool) -> torch.Tensor:
    """The part of a tensor that a smaller network uses.

    Args:
        weight: Of the largest network.
        shape: Of the tensor in the smaller network.
        causal: Keep the last taps in time instead of the middle ones.
        two_inputs: The second axis holds two lists of channels, one after the other.
    """
    if two_inputs and weight.ndim == 2:
        both: torch.Tensor = weight.unflatten(1, (2, -1))
        return both[: shape[0], :, : shape[1] // 2].flatten(1)
    if weight.ndim > len(shape):  # a kernel in space, of one in time and space
        weight = weight[:, :, -1 if causal else weight.shape[2] // 2]
    for axis, size in enumerate(shape):
        over = weight.shape[axis] - size
        if over and axis >= 2:
            # The temporal kernels of factored networks are (C, 1, taps, 1).
            in_time = axis == 2 and (weight.ndim == 5 or weight.shape[3] == 1)
            weight = weight.narrow(axis, over if in_time and causal else over // 2, size)
        elif over:
            weight = weight.narrow(axis, 0, size)
    return weight
