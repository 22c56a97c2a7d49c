"""What a network costs per frame: multiply-adds, or milliseconds from a table of measured parts.

A latency is the sum over the parts of a network: stem, layers, head, classifier, and the rest of a
step, such as its state. A part is measured when a network that has it is first asked for, within
that network, so that it finds its input in the cache of the processor as it will later. The table
is a JSON file that can be kept for further searches on the same machine.

Source: of latencies as sums over operations, Tan et al., "MnasNet", CVPR 2019 (arXiv 1807.11626)
and Wu et al., "FBNet", CVPR 2019 (arXiv 1812.03443).
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch.overrides import TorchFunctionMode

from foveate.core.errors import ConfigError, FoveateError
from foveate.core.files import replace_file
from foveate.evaluate.results import hardware
from foveate.models.movinet import MoViNet, movinet
from foveate.models.movinet_config import MoViNetConfig, layer_name, map_sizes

Engine = Literal["inference", "eager"]
ENGINES: dict[Engine, Callable[[MoViNet], Any]] = {
    "inference": lambda network: network.for_inference(),
    "eager": lambda network: network,
}
_PREFIXES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
_MAX_BYTES = 10_000_000


@dataclass(frozen=True)
class Target:
    """What a network should cost per frame.

    Attributes:
        value: In the unit.
        unit: `ms`, or `MAC`.
    """

    value: float
    unit: Literal["ms", "MAC"]

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read `2ms` or `20MMAC`.

        Raises:
            ConfigError: Neither, or not positive.
        """
        match = re.fullmatch(r"\s*([0-9.]+)\s*(?:(ms)|([kmg]?)macs?)(?:/frame)?\s*", text, re.I)
        try:
            number = float(match[1]) if match else 0.0
        except ValueError:
            number = 0.0
        if match is None or number <= 0:
            raise ConfigError(f"target {text}: not understood", "write 2ms or 20MMAC, per frame")
        if match[2]:
            return cls(number, "ms")
        return cls(number * _PREFIXES[match[3].lower()], "MAC")


class _NoInit(TorchFunctionMode):
    """Leaves out the initialisation of parameters."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs.get("tensor", args[0] if args else None)
        return func(*args, **kwargs)


def without_values(config: MoViNetConfig, classes: int, dropout: float = 0.2) -> MoViNet:
    """A network on the `meta` device.

    Initialising parameters there would take most of the time, and searches build thousands.
    """
    with torch.device("meta"), _NoInit():
        return movinet(config, classes, dropout)


@dataclass
class Macs:
    """Multiply-adds per frame of a clip.

    Attributes:
        size: Side of the frames in pixels.
        frames: Of a clip; the classifier runs once per clip, or per frame of causal networks.
        classes: Outputs of the classifier.
    """

    size: int
    frames: int
    classes: int
    _known: dict[MoViNetConfig, float] = field(default_factory=dict, repr=False)

    def __call__(self, config: MoViNetConfig) -> float:
        """The multiply-adds of a network."""
        if config not in self._known:
            network = without_values(config, self.classes)
            frames = 1 if config.causal else self.frames
            total = network.macs((1, 3, frames, self.size, self.size))
            self._known[config] = total / frames
        return self._known[config]


@dataclass
class Latencies:
    """CPU milliseconds per frame, one thread: a step of a stream, or a clip over its frames.

    Attributes:
        size: Side of the frames in pixels.
        frames: Of a clip, for networks of whole clips.
        classes: Outputs of the classifier.
        engine: The form that is measured: `inference`, folded and laid out for a CPU; or `eager`.
        rounds: Runs of a network whose parts are new; the fastest one counts.
        table: (engine, part, shape) in one line → milliseconds.
    """

    size: int
    frames: int
    classes: int
    engine: Engine = "inference"
    rounds: int = 8
    table: dict[str, float] = field(default_factory=dict)

    def __call__(self, config: MoViNetConfig) -> float:
        """The milliseconds of a network; parts that are not in the table are measured."""
        keys = dict(self.parts(config))
        if not keys.keys() <= {name for name, key in keys.items() if key in self.table}:
            for name, value in self.measure(config).items():
                self.table.setdefault(keys[name], value)
        return sum(self.table[key] for key in keys.values()) / self._frames(config)

    def _frames(self, config: MoViNetConfig) -> int:
        return 1 if config.causal else self.frames

    def parts(self, config: MoViNetConfig) -> Iterator[tuple[str, str]]:
        """Yield name and key of every part of a network.

        A key holds everything that the time of a part depends on.
        """
        form = f"{self.engine} {config.conv} {config.activation} {config.squeeze}"
        form += " causal" if config.causal else f" {self.frames} frames"
        sizes = map_sizes(config, self.size, self.size)
        before = next(sizes)
        yield "stem", f"{form}: stem 3x{self.size}x{self.size}-{config.stem}"
        inputs = config.stem
        for b, stage in enumerate(config.blocks):
            for i, one in enumerate(stage.layers):
                after = next(sizes)
                kernel = f"{one.temporal}{one.kernel}{one.kernel}"
                stride = stage.stride if i == 0 else 1
                yield (
                    layer_name(b, i),
                    (
                        f"{form}: layer {inputs}x{before[0]}x{before[1]}-{one.expanded}/{kernel}"
                        f"/{stride}-{stage.width}"
                    ),
                )
                before, inputs = after, stage.width
        yield "head", f"{form}: head {inputs}x{before[0]}x{before[1]}-{config.project}"
        yield (
            "classifier",
            f"{form}: classifier {config.project}-{config.hidden}-{self.classes}",
        )
        yield "rest", f"{form}: rest"

    def measure(self, config: MoViNetConfig) -> dict[str, float]:
        """Milliseconds of every part of a network with random weights, by name.

        For causal networks of one frame, else of a clip. Parts are those of the fastest round, not
        each its own fastest, so that their sum is a time in which the network has run.
        """
        network = movinet(config, self.classes).eval()
        form = ENGINES[self.engine](network)
        x = torch.rand(1, 3, self._frames(config), self.size, self.size)
        best, whole = {"": math.inf}, math.inf
        with torch.inference_mode(), one_thread():
            state = (
                form.initial_state(1, self.size, self.size)
                if config.causal
                else network.state_before(x)
            )
            for _ in range(self.rounds + 1):  # the first is slower
                times = {}
                begin = time.process_time()
                for name, y in form.maps(x, state, {}):
                    last = y
                    times[name] = time.process_time() - begin
                    begin = time.process_time()
                axes = (2, 3) if last.shape[1] == config.project else (1, 2)
                form.classify(last.mean(axes).mean(0, keepdim=True))
                times["classifier"] = time.process_time() - begin
                best = min(best, times, key=lambda one: sum(one.values()))
                begin = time.process_time()
                if config.causal:
                    form.step(x, state)
                else:
                    form(x)
                whole = min(whole, time.process_time() - begin)
        best["rest"] = max(0.0, whole - sum(best.values()))
        return {name: 1e3 * value for name, value in best.items()}

    def save(self, path: Path) -> None:
        """Write the table.

        Raises:
            FoveateError: The file cannot be written.
        """
        text = {"processor": hardware().processor, "milliseconds": dict(sorted(self.table.items()))}
        replace_file(path, f"{json.dumps(text, indent=1)}\n".encode())

    def load(self, path: Path) -> None:
        """Read a table; keys that are known already keep their values.

        Raises:
            FoveateError: The file is not a table, or was measured on another processor.
        """
        try:
            data = path.read_bytes()
            if len(data) > _MAX_BYTES:
                raise FoveateError(f"{path.name}: larger than {_MAX_BYTES} bytes")
            content = json.loads(data)
            table = {str(key): float(value) for key, value in content["milliseconds"].items()}
        except OSError as error:
            raise FoveateError(f"{path.name}: cannot be read ({error.strerror})") from None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise FoveateError(f"{path.name}: not a table of latencies") from None
        if not all(math.isfinite(value) and value >= 0 for value in table.values()):
            raise FoveateError(f"{path.name}: has times that are not numbers")
        if content.get("processor") != hardware().processor:
            raise FoveateError(
                f"{path.name}: measured on another processor ({content.get('processor')})",
                "search with another --out, or remove the file",
            )
        self.table = {**table, **self.table}


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread within a block."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
