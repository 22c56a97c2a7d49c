"""Read .tflite files without TensorFlow: operators, constants, de-quantisation.

A .tflite file is a FlatBuffer; the package ``tflite`` has only its generated schema. The accessors
of the schema trust the offsets in the file, so this module checks all counts against the size of
the file, and a damaged or malicious file raises ``WeightsError``.

Quantisation: real = (stored - zero point) * scale, with one scale or one per index of the
quantised dimension (TensorFlow Lite 8-bit quantisation specification).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from foveate.core.errors import WeightsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# More than any supported network has; a larger count means damage.
_MAX_ITEMS = 100_000
_MAX_RANK = 8
_DTYPES: dict[str, np.dtype[Any]] = {
    "FLOAT32": np.dtype("<f4"),
    "FLOAT16": np.dtype("<f2"),
    "INT32": np.dtype("<i4"),
    "INT8": np.dtype("<i1"),
    "UINT8": np.dtype("<u1"),
    "INT64": np.dtype("<i8"),
}
# Exceptions of the schema's accessors for invalid offsets.
_DAMAGE = (
    struct.error,
    ArithmeticError,
    AttributeError,
    BufferError,
    LookupError,
    MemoryError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class TensorInfo:
    """A tensor of the graph; ``data`` is None unless it is a constant.

    Attributes:
        name: As written by the converter; merged tensors have several names joined by ``;``.
        shape: Shape of the tensor.
        dtype: Name of the stored dtype, for example ``INT8``.
        data: The raw bytes of a constant.
        scales: One scale, one per index of ``axis``, or none.
        zero_points: One for each scale.
        axis: The quantised dimension.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    data: NDArray[np.uint8] | None
    scales: NDArray[np.float32]
    zero_points: NDArray[np.int64]
    axis: int

    def values(self) -> NDArray[Any]:
        """Return the constant, de-quantised to float32 if it is quantised.

        Raises:
            WeightsError: Not a constant, of an unknown type, or of the wrong length.
        """
        if self.data is None:
            raise WeightsError(f"tensor {self.name!r} is not a constant")
        if self.dtype not in _DTYPES:
            raise WeightsError(f"tensor {self.name!r} has the unsupported type {self.dtype}")
        dtype = _DTYPES[self.dtype]
        if math.prod(self.shape) * dtype.itemsize != self.data.size:
            raise WeightsError(
                f"tensor {self.name!r}: {self.data.size} bytes do not match the shape {self.shape}"
            )
        stored = self.data.view(dtype).reshape(self.shape)
        if self.scales.size == 0:
            return stored.astype(np.float32) if dtype.kind == "f" else stored
        return self._dequantise(stored)

    def _dequantise(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        """Apply scale and zero point along the quantised dimension."""
        along = [1] * len(self.shape)
        if self.scales.size > 1:
            if not 0 <= self.axis < len(self.shape):
                raise WeightsError(f"tensor {self.name!r}: no axis {self.axis} to quantise")
            along[self.axis] = self.scales.size
            if self.scales.size != self.shape[self.axis]:
                raise WeightsError(f"tensor {self.name!r}: {self.scales.size} scales do not fit")
        if not np.isfinite(self.scales).all():
            raise WeightsError(f"tensor {self.name!r}: a scale is not finite")
        # In double precision, so that int32 biases are exact until the final rounding.
        centred = stored.astype(np.float64) - self.zero_points.reshape(along)
        return (centred * self.scales.reshape(along)).astype(np.float32)


@dataclass(frozen=True)
class Operator:
    """An operation: its kind and the indices of its tensors (-1: omitted)."""

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Graph:
    """The first subgraph of a file, in order of execution."""

    tensors: tuple[TensorInfo, ...]
    operators: tuple[Operator, ...]

    def convolution(self, operator: Operator) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """The constants of a convolution with bias; None for other operations.

        Returns:
            Kernel (out, in / groups, kh, kw) and bias (out,).

        Raises:
            WeightsError: They cannot be read, or the kernel does not have four axes.
        """
        depthwise = operator.kind == "DEPTHWISE_CONV_2D"
        if len(operator.inputs) != 3 or not (depthwise or operator.kind == "CONV_2D"):
            return None
        kernel, bias = (self.tensors[i] for i in operator.inputs[1:])
        weight = kernel.values()
        if weight.ndim != 4:
            raise WeightsError(f"tensor {kernel.name!r}: a kernel of shape {weight.shape}")
        # OHWI to OIHW, and 1HWC to C1HW for depthwise.
        return weight.transpose((3, 0, 1, 2) if depthwise else (0, 3, 1, 2)), bias.values()


def read_tflite(data: bytes, source: str = "the file") -> Graph:
    """Read a .tflite file.

    Args:
        data: The whole file.
        source: Its name in errors.

    Returns:
        Its first subgraph; constants are views into ``data``.

    Raises:
        WeightsError: Not a .tflite file, or a damaged one.
    """
    schema = _schema()
    if len(data) < 8 or data[4:8] != b"TFL3":
        raise WeightsError(f"{source}: not a .tflite file")
    try:
        return _read_graph(schema, data)
    except WeightsError as error:
        raise WeightsError(f"{source}: {error.cause}") from error
    except _DAMAGE as error:
        raise WeightsError(f"{source}: a damaged .tflite file ({type(error).__name__})") from error


@cache
def _schema() -> Any:
    """Import the schema on first use: it is slow, and only importing files needs it."""
    import tflite

    return tflite


def _read_graph(schema: Any, data: bytes) -> Graph:
    """Read the tables of the schema, checking every count before it is used."""
    model = schema.Model.GetRootAs(data, 0)
    if _count(model.SubgraphsLength(), data, "subgraphs") < 1:
        raise WeightsError("the file holds no graph")
    graph = model.Subgraphs(0)
    buffers = _count(model.BuffersLength(), data, "buffers")
    kinds = _names(schema.BuiltinOperator)
    codes = []
    for i in range(_count(model.OperatorCodesLength(), data, "operator codes")):
        code = model.OperatorCodes(i)
        # Old files have the code in a byte, new ones also in an int: the larger one is valid.
        codes.append(kinds.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), "?"))
    types = _names(schema.TensorType)
    tensors = tuple(
        _read_tensor(graph.Tensors(i), model, buffers, types, data)
        for i in range(_count(graph.TensorsLength(), data, "tensors"))
    )
    operators = tuple(
        _read_operator(graph.Operators(i), codes, len(tensors), data)
        for i in range(_count(graph.OperatorsLength(), data, "operators"))
    )
    return Graph(tensors, operators)


def _read_tensor(
    tensor: Any,
    model: Any,
    buffers: int,
    types: dict[int, str],
    data: bytes,
) -> TensorInfo:
    """Read the description of a tensor and find its bytes."""
    rank = _count(tensor.ShapeLength(), data, "axes", most=_MAX_RANK)
    shape = tuple(int(tensor.Shape(i)) for i in range(rank))
    index = tensor.Buffer()
    if min(shape, default=1) < 0 or index >= buffers:
        raise WeightsError("a tensor has a negative size or no buffer")
    buffer = model.Buffers(index)
    length = _count(buffer.DataLength(), data, "bytes of a buffer", most=len(data))
    raw = np.asarray(buffer.DataAsNumpy(), np.uint8) if length else None
    scales = np.zeros(0, np.float32)
    zeros = np.zeros(0, np.int64)
    axis = 0
    quantised = tensor.Quantization()
    if quantised is not None and quantised.ScaleLength():
        _count(quantised.ScaleLength(), data, "scales", most=len(data) // 4)
        scales = np.asarray(quantised.ScaleAsNumpy(), np.float32)
        zeros = np.zeros(scales.size, np.int64)
        if quantised.ZeroPointLength():
            zeros = np.asarray(quantised.ZeroPointAsNumpy(), np.int64)
        if zeros.size != scales.size:
            raise WeightsError("a tensor has different numbers of scales and zero points")
        axis = int(quantised.QuantizedDimension())
    name = (tensor.Name() or b"").decode()
    kind = types.get(tensor.Type(), "?")
    return TensorInfo(name, shape, kind, raw, scales, zeros, axis)


def _read_operator(
    operator: Any,
    codes: list[str],
    tensors: int,
    data: bytes,
) -> Operator:
    """Read an operation and check the indices of its tensors."""
    _count(operator.InputsLength(), data, "inputs", most=_MAX_ITEMS)
    _count(operator.OutputsLength(), data, "outputs", most=_MAX_ITEMS)
    inputs = tuple(int(operator.Inputs(i)) for i in range(operator.InputsLength()))
    outputs = tuple(int(operator.Outputs(i)) for i in range(operator.OutputsLength()))
    for index in (*inputs, *outputs):
        if not -1 <= index < tensors:
            raise WeightsError(f"an operation has tensor {index} of {tensors}")
    return Operator(codes[operator.OpcodeIndex()], inputs, outputs)


def _count(found: int, data: bytes, what: str, most: int = _MAX_ITEMS) -> int:
    """Check a count against the size of the file and a limit."""
    if not 0 <= found <= min(most, len(data)):
        raise WeightsError(f"a damaged .tflite file ({found} {what})")
    return found


def _names(enumeration: type) -> dict[int, str]:
    """Value → name of a schema enumeration."""
    return {v: k for k, v in vars(enumeration).items() if not k.startswith("_")}
