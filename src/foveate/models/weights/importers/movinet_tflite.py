"""The published .tflite files of the quantised MoViNet stream networks (A0, A1 and A2)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from foveate.core.errors import WeightsError
from foveate.models.movinet import LITE, movinet
from foveate.models.movinet_config import TABLES, lite
from foveate.models.weights.importers.movinet import table_of
from foveate.models.weights.importers.naming import check_settings, place
from foveate.models.weights.importers.registry import Imported, importer
from foveate.models.weights.importers.tflite import Graph, Operator, read_tflite

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[Any]]

_ROLES = ("expansion", "feature_temporal", "feature", "projection", "skip_project")


def import_movinet_tflite(data: bytes, source: str = "the file") -> Arrays:
    """Read the weights of a quantised MoViNet stream network.

    Roles are found by the operations, not by the tensors: the converter merges equal tensors, so
    that some biases have the names of several layers.

    Returns:
        Arrays by the names of the state dict, such as ``blocks.block1_layer0.feature.weight``;
        convolution kernels as (out, in / groups, kh, kw).

    Raises:
        WeightsError: A damaged file, or another network.
    """
    graph = read_tflite(data, source)
    arrays: Arrays = {}
    for operator in graph.operators:
        try:
            for name, array in _operator_arrays(graph, operator).items():
                if name in arrays:
                    raise WeightsError(f"{name} occurs twice")
                arrays[name] = array
        except WeightsError as error:
            raise WeightsError(f"{source}: {error.cause}") from error
    return arrays


@importer("movinet-tflite")
def movinet_tflite(arrays: Mapping[str, Any], **config: Any) -> Imported:
    """Build the network whose arrays ``import_movinet_tflite`` has read; see ``from_arrays``.

    Raises:
        WeightsError: No network of the family, or none of which a quantised file was published.
    """
    check_settings(config)
    widths = {}
    for name, value in arrays.items():
        match = re.fullmatch(r"blocks\.block(\d+)_layer(\d+)\.expansion\.weight", name)
        if match:
            widths[int(match[1]), int(match[2])] = len(value)
    table = table_of(None, tuple(width for _, width in sorted(widths.items())))
    if table not in LITE:
        raise WeightsError(f"no quantised file of MoViNet-{table.upper()} was published")
    bias = arrays.get("classifier.bias")
    model = movinet(lite(TABLES[table]), 1 if bias is None else len(bias))
    place(model, arrays)
    return Imported(
        model, lambda net, clip: {"logits": net(clip)}, arch=f"movinet-{table}-stream-lite"
    )


def _operator_arrays(graph: Graph, operator: Operator) -> Arrays:
    """Return the parameters of one operation; most have none."""
    convolution = graph.convolution(operator)
    if convolution is not None:
        weight, bias = convolution
        kernel = graph.tensors[operator.inputs[1]]
        name = _module_name(kernel.name, operator.kind, kernel.shape)
        if name in ("classifier_head", "classifier"):
            weight = weight[:, :, 0, 0]
        return {f"{name}.weight": weight, f"{name}.bias": bias}
    if operator.kind == "MUL":
        for index in operator.inputs:
            tensor = graph.tensors[index]
            if tensor.data is not None and "/rezero/" in tensor.name:
                name = _layer(tensor.name) + ".rezero"
                return {name: _scalar(tensor.values(), name)}
    return {}


def _module_name(tensor_name: str, kind: str, shape: tuple[int, ...]) -> str:
    """State-dict name of the layer of a convolution kernel."""
    first = tensor_name.split(";")[0]
    if "/stem/" in first:
        return "stem"
    if "/head/project/" in first:
        return "head_project"
    if "classifier_head/classifier/" in first:
        return "classifier"
    if "classifier_head/head/" in first:
        return "classifier_head"
    if "/conv2d_temporal/" in first or (kind == "DEPTHWISE_CONV_2D" and shape[2:3] == (1,)):
        return _layer(first) + ".feature_temporal"
    for role in _ROLES:
        if f"/{role}/" in first:
            return f"{_layer(first)}.{role}"
    raise WeightsError(f"unknown role of a convolution: {first!r}")


def _layer(tensor_name: str) -> str:
    """``blocks.block{b}_layer{l}`` from a tensor's name."""
    for part in tensor_name.split(";")[0].split("/"):
        if part.startswith("block") and "_layer" in part:
            return f"blocks.{part}"
    raise WeightsError(f"unknown layer of a tensor: {tensor_name!r}")


def _scalar(values: NDArray[Any], name: str) -> NDArray[Any]:
    """The value of a scalar that the converter broadcast to a map."""
    if values.size == 0 or values.min() != values.max():
        raise WeightsError(f"{name} is not a scalar")
    return np.asarray(values.flat[0], np.float32)
