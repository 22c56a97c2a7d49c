"""Time and memory of one streaming step of the MoViNets, and what its pieces cost.

For A0-stream, A2-stream (with squeeze-excitation) and A0-stream-lite (without): the folded eager
form against two measured floors (see `step_time.py`), frame by frame and eight frames at a time;
and in a second run of interleaved rounds, the step without one thing at a time:

* `no temporal kernels`: every depthwise kernel over space only, without buffers;
* `no squeeze-excitation`;
* `modules, channels last` and `modules, NCHW`: the same folded weights as ordinary convolutions,
  in either layout, against maps as matrices in `for_inference`.

Random weights, 600 classes, batch 1, one thread, process CPU time of one frame with its head.

    OMP_NUM_THREADS=1 python -m benchmarks.movinet [--rounds N]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from benchmarks.record import write
from benchmarks.step_time import interleave, measure, stepper

from foveate.models.movinet import INPUTS, MoViNetStream, movinet
from foveate.models.movinet_config import TABLES, MoViNetConfig, lite, stream
from foveate.models.movinet_layers import convolve
from foveate.models.streaming import State

PROTOCOL = (
    "one thread, process CPU time of one frame with its head at batch 1, random weights, 600 "
    "classes, interleaved rounds, least and median; floors measured in the same run: all "
    "multiply-adds at the speed of a large matrix product (gemm), dense layers at that of a "
    "mid-sized product and depthwise layers at that of a batched kernel (practical); other work "
    "ran on the machine"
)
MODELS = {
    "movinet-a0-stream": (stream(TABLES["a0"]), INPUTS["a0"].size),
    "movinet-a2-stream": (stream(TABLES["a2"]), INPUTS["a2"].size),
    "movinet-a0-stream-lite": (lite(TABLES["a0"]), INPUTS["a0"].size),
}


class _PlanarMoViNet(MoViNetStream):
    """The modules on maps in NCHW; the layers are those of the parent."""

    def maps(self, x: torch.Tensor, state: State, new: State) -> Iterator[tuple[str, torch.Tensor]]:
        """See ``MoViNet.maps``; the last maps alone."""
        y = x.transpose(1, 2).flatten(0, 1).contiguous()
        y = self.activation(convolve(y, self.stem, None))
        for _, layer in self.layers():
            y = layer(y.contiguous(), state, new)
        yield "head", self.activation(self.head_project(y.contiguous()))


def spatial_only(config: MoViNetConfig) -> MoViNetConfig:
    """The network without kernels over time."""
    blocks = tuple(
        replace(one, layers=tuple(replace(layer, temporal=1) for layer in one.layers))
        for one in config.blocks
    )
    return replace(config, blocks=blocks)


def forms_of(config: MoViNetConfig) -> dict[str, Any]:
    """Name → what is timed."""
    made: Any = movinet(config).eval()
    folded = made.folded()
    planar = _PlanarMoViNet(folded.config).eval()
    planar.load_state_dict(folded.state_dict())
    planar.to(memory_format=torch.contiguous_format)
    found = {
        "for_inference": made.for_inference(),
        "no temporal kernels": movinet(spatial_only(config)).eval().for_inference(),
        "modules, channels last": folded,
        "modules, NCHW": planar,
        "modules, not folded": made,
    }
    if config.squeeze != "none":
        found["no squeeze-excitation"] = (
            movinet(replace(config, squeeze="none")).eval().for_inference()
        )
    return found


def state_bytes(model: Any, side: int) -> dict[str, int]:
    """Bytes of the state of one stream: buffers of temporal kernels, and what means remember."""
    state = model.initial_state(1, side, side)
    sizes = {key: value.numel() * value.element_size() for key, value in state.items()}
    buffers = sum(size for key, size in sizes.items() if "/slot" in key)
    return {"buffers": buffers, "means": sum(sizes.values()) - buffers}


def main() -> None:
    """Measure all networks, write the result and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    figures = {}
    for name, (config, side) in MODELS.items():
        torch.manual_seed(0)
        size = (side, side)
        against = measure(movinet(config), size, rounds, chunks=(1, 8))
        forms = forms_of(config)
        times = interleave(
            {key: (stepper(form, 1, size), 1) for key, form in forms.items()}, rounds
        )
        whole = times["for_inference"]
        figures[name] = {
            **against,
            "forms": times,
            "share_of_step": {
                key: {kind: 1 - times[key][kind] / whole[kind] for kind in whole}
                for key in ("no temporal kernels", "no squeeze-excitation") if key in times
            },
            "times_for_inference": {
                key: {kind: value[kind] / whole[kind] for kind in whole}
                for key, value in times.items()
            },
            "state_bytes": state_bytes(forms["for_inference"], side),
        }  # fmt: skip
        print(name, figures[name], flush=True)
    write("movinet", PROTOCOL, rounds, figures, (0,))


if __name__ == "__main__":
    main()
