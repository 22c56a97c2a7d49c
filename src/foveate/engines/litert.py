"""LiteRT files: written from functions by litert-torch, which is needed only to export."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foveate.core.lazy import import_extra
from foveate.engines.function import NEXT, Function
from foveate.engines.quiet import quiet
from foveate.models.weights.exported import GraphCard, StateCard, TensorCard
from foveate.models.weights.resolve import sha256_of


class _Named(torch.nn.Module):
    """A function with tensors by name in and out: they are the names of the file's signature."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.module, self.outputs = function.module, [_plain(name) for name in function.outputs]

    def forward(self, **values: torch.Tensor) -> dict[str, torch.Tensor]:
        return dict(zip(self.outputs, self.module(*values.values()), strict=True))


def write_litert(function: Function, path: Path) -> GraphCard:
    """Write a function for a batch of one.

    Args:
        function: Called with the names of its inputs, its state among them.
        path: The new file.

    Returns:
        The graph. Its names have `_` for all that is no letter or digit, as litert-torch wants
        identifiers; 64-bit integers have become 32-bit.

    Raises:
        MissingExtra: litert-torch is not installed.
        Exception: Of many kinds, if the function has an operator without a counterpart.
    """
    with quiet():
        converter = import_extra("litert_torch", "litert-export")
    named = {_plain(name): value for name, value in function.inputs.items()}
    before = converter.config.show_progress
    converter.config.show_progress = False
    try:
        with quiet():
            made = converter.convert(_Named(function).eval(), sample_kwargs=named)
            made.export(str(path))
    finally:
        converter.config.show_progress = before
    inputs, outputs = signature_of(path, tuple(named), tuple(map(_plain, function.outputs)))
    state = [
        StateCard(
            inputs=[_plain(name) for name in one.inputs],
            output=None if one.output is None else _plain(one.output),
        )
        for one in function.state
    ]
    return GraphCard(
        files={path.name: sha256_of(path)}, inputs=inputs, outputs=outputs, state=state,
        macs=function.macs,
    )  # fmt: skip


def _plain(name: str) -> str:
    if name.startswith(NEXT):
        return NEXT + _plain(name.removeprefix(NEXT))
    return re.sub(r"\W", "_", name)


def signature_of(
    path: Path, inputs: tuple[str, ...], outputs: tuple[str, ...]
) -> tuple[list[TensorCard], list[TensorCard]]:
    """Inputs and outputs of a file: the named ones first, the others by name.

    Raises:
        MissingExtra: LiteRT is not installed.
    """
    module = import_extra("ai_edge_litert.interpreter", "litert")
    interpreter = module.Interpreter(model_path=str(path))
    runner = interpreter.get_signature_runner()
    return (
        _tensors(runner.get_input_details(), inputs),
        _tensors(runner.get_output_details(), outputs),
    )


def _tensors(details: Any, first: tuple[str, ...]) -> list[TensorCard]:
    return [
        TensorCard(
            name=name,
            dtype=np.dtype(details[name]["dtype"]).name,
            shape=[int(size) for size in details[name]["shape"]],
        )
        for name in [*first, *sorted(details.keys() - set(first))]
    ]
