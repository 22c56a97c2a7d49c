"""Writes small .tflite files: the graph of a lite MoViNet, in float or with quantised weights.

The graph has the structure and the tensor names of the published file, so the reader and the
importer are tested on it, and an independent engine can run its float form.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
import tflite
from numpy.typing import NDArray
from torch import nn

Array = NDArray[Any]
_TYPES = {"f4": "FLOAT32", "f2": "FLOAT16", "i4": "INT32", "i1": "INT8", "u1": "UINT8"}
RELU6 = tflite.ActivationFunctionType.RELU6
NONE = tflite.ActivationFunctionType.NONE
SAME, VALID = tflite.Padding.SAME, tflite.Padding.VALID


class LiteFile:
    """Collects tensors and operations and serialises them."""

    def __init__(self) -> None:
        self.tensors: list[tuple[str, tuple[int, ...], str, int, Any]] = []
        self.buffers: list[bytes] = [b""]
        self.operators: list[tuple[str, list[int], list[int], Any]] = []
        self.inputs: dict[str, int] = {}
        self.outputs: dict[str, int] = {}

    def var(self, name: str, shape: Sequence[int], kind: str = "f4") -> int:
        """A variable tensor."""
        self.tensors.append((name, tuple(shape), _TYPES[kind], 0, None))
        return len(self.tensors) - 1

    def const(
        self, name: str, values: Array, scales: Any = None, zeros: Any = None, axis: int = 0
    ) -> int:
        """A constant, with scales and zero points if it is quantised."""
        self.buffers.append(np.ascontiguousarray(values).tobytes())
        quant = None
        if scales is not None:
            scales = np.atleast_1d(np.asarray(scales, np.float32))
            zeros = np.zeros(scales.size, np.int64) if zeros is None else np.atleast_1d(zeros)
            quant = (scales, np.asarray(zeros, np.int64), axis)
        kind = _TYPES[values.dtype.str[1:]]
        self.tensors.append((name, values.shape, kind, len(self.buffers) - 1, quant))
        return len(self.tensors) - 1

    def op(
        self, kind: str, inputs: list[int], shape: Sequence[int], options: Any = None, **how: Any
    ) -> int:
        """An operation with one output; returns the output."""
        out = self.var(how.get("name", f"{kind}_{len(self.operators)}"), shape, how.get("to", "f4"))
        self.operators.append((kind, inputs, [out], options))
        return out

    def reshape(self, x: int, shape: Sequence[int]) -> int:
        """A reshape with its shape as a constant, as converters write it."""
        return self.op("RESHAPE", [x, self.const("shape", np.asarray(shape, np.int32))], shape)

    def tobytes(self) -> bytes:
        """The file."""
        b = flatbuffers.Builder(1 << 16)
        kinds = sorted({operator[0] for operator in self.operators})
        codes = [_code(b, kind) for kind in kinds]
        buffers = [_buffer(b, data) for data in self.buffers]
        tensors = [_tensor(b, *tensor) for tensor in self.tensors]
        operators = [_operator(b, kinds, *operator) for operator in self.operators]
        ends = [
            b.CreateNumpyVector(np.asarray(list(e.values()), np.int32))
            for e in (self.inputs, self.outputs)
        ]
        lists = [_vector(b, offsets) for offsets in (tensors, operators)]
        tflite.SubGraphStart(b)
        tflite.SubGraphAddTensors(b, lists[0])
        tflite.SubGraphAddInputs(b, ends[0])
        tflite.SubGraphAddOutputs(b, ends[1])
        tflite.SubGraphAddOperators(b, lists[1])
        graph = tflite.SubGraphEnd(b)
        lists = [_vector(b, offsets) for offsets in (codes, [graph], buffers)]
        tflite.ModelStart(b)
        tflite.ModelAddVersion(b, 3)
        tflite.ModelAddOperatorCodes(b, lists[0])
        tflite.ModelAddSubgraphs(b, lists[1])
        tflite.ModelAddBuffers(b, lists[2])
        b.Finish(tflite.ModelEnd(b), b"TFL3")
        return bytes(b.Output())


def _vector(b: Any, offsets: list[int]) -> int:
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return int(b.EndVector())


def _code(b: Any, kind: str) -> int:
    number = getattr(tflite.BuiltinOperator, kind)
    tflite.OperatorCodeStart(b)
    tflite.OperatorCodeAddDeprecatedBuiltinCode(b, min(number, 127))
    tflite.OperatorCodeAddVersion(b, 1)
    tflite.OperatorCodeAddBuiltinCode(b, number)
    return int(tflite.OperatorCodeEnd(b))


def _buffer(b: Any, data: bytes) -> int:
    # Engines require constants aligned to 16 bytes.
    where = 0
    if data:
        b.StartVector(1, len(data), 16)
        b.head -= len(data)
        b.Bytes[b.head : b.head + len(data)] = data
        b.vectorNumElems = len(data)
        where = b.EndVector()
    tflite.BufferStart(b)
    if data:
        tflite.BufferAddData(b, where)
    return int(tflite.BufferEnd(b))


def _tensor(b: Any, name: str, shape: tuple[int, ...], kind: str, buffer: int, quant: Any) -> int:
    text = b.CreateString(name)
    sizes = b.CreateNumpyVector(np.asarray(shape, np.int32))
    quantised = None
    if quant is not None:
        scales, zeros = b.CreateNumpyVector(quant[0]), b.CreateNumpyVector(quant[1])
        tflite.QuantizationParametersStart(b)
        tflite.QuantizationParametersAddScale(b, scales)
        tflite.QuantizationParametersAddZeroPoint(b, zeros)
        tflite.QuantizationParametersAddQuantizedDimension(b, quant[2])
        quantised = tflite.QuantizationParametersEnd(b)
    tflite.TensorStart(b)
    tflite.TensorAddShape(b, sizes)
    tflite.TensorAddType(b, getattr(tflite.TensorType, kind))
    tflite.TensorAddBuffer(b, buffer)
    tflite.TensorAddName(b, text)
    if quantised is not None:
        tflite.TensorAddQuantization(b, quantised)
    return int(tflite.TensorEnd(b))


def _operator(
    b: Any, kinds: list[str], kind: str, inputs: list[int], outputs: list[int], options: Any
) -> int:
    made = None
    if options is not None:
        name, fields = options
        getattr(tflite, f"{name}Start")(b)
        for key, value in fields.items():
            getattr(tflite, f"{name}Add{key}")(b, value)
        made = getattr(tflite, f"{name}End")(b)
    ends = [b.CreateNumpyVector(np.asarray(e, np.int32)) for e in (inputs, outputs)]
    tflite.OperatorStart(b)
    tflite.OperatorAddOpcodeIndex(b, kinds.index(kind))
    tflite.OperatorAddInputs(b, ends[0])
    tflite.OperatorAddOutputs(b, ends[1])
    if made is not None:
        tflite.OperatorAddBuiltinOptionsType(b, getattr(tflite.BuiltinOptions, options[0]))
        tflite.OperatorAddBuiltinOptions(b, made)
    return int(tflite.OperatorEnd(b))


class MoViNetFile(LiteFile):
    """One frame of a lite MoViNet with its states, as in the published file.

    Args:
        model: A ``MoViNet``; its weights go into the file.
        size: Height and width of the frame.
        quantised: Store int8 kernels and int32 biases (then the file is for reading only).
    """

    def __init__(self, model: Any, size: tuple[int, int], quantised: bool = False) -> None:
        super().__init__()
        self.quantised = quantised
        height, width = size
        self.inputs["image"] = x = self.var("serving_default_image", (1, 1, height, width, 3))
        x = self.reshape(x, (1, height, width, 3))
        x = self.conv("stem/stem/conv2d/conv2d/Conv2D", model.stem, x, 2, RELU6)
        for name, layer in model.layers():
            x = self.bottleneck(name, layer, x)
        x = self.conv("head/project/conv2d/conv2d/Conv2D", model.head_project, x, 1, RELU6)
        self.head(model, x)

    def shape(self, x: int) -> tuple[int, ...]:
        """Shape of a tensor."""
        return self.tensors[x][1]

    def weights(self, name: str, kernel: Array, bias: Array, axis: int) -> list[int]:
        """Kernel and bias, in float or quantised per output channel."""
        # A merged name after the first one, as converters write them.
        name = f"movinet_classifier/movinet/{name};movinet_classifier/movinet/block9_layer9/x"
        if not self.quantised:
            return [self.const(name, kernel), self.const(f"{name}/bias", bias)]
        others = tuple(i for i in range(kernel.ndim) if i != axis)
        scales = np.maximum(np.abs(kernel).max(others), 1e-6).astype(np.float32) / np.float32(127)
        along = scales.reshape([-1 if i == axis else 1 for i in range(kernel.ndim)])
        stored = np.clip(np.round(kernel / along), -127, 127).astype(np.int8)
        steps = scales * np.float32(0.01)
        bias = np.round(bias / steps).astype(np.int32)
        return [
            self.const(name, stored, scales, axis=axis),
            self.const(f"{name}/bias", bias, steps),
        ]

    def conv(self, name: str, conv: nn.Module, x: int, stride: int, act: int) -> int:
        """A convolution with SAME padding."""
        kernel = conv.weight.detach().numpy()  # type: ignore[union-attr,operator]
        if kernel.ndim == 2:
            kernel = kernel[:, :, None, None]
        bias = conv.bias.detach().numpy()  # type: ignore[union-attr,operator]
        inputs = self.weights(name, np.ascontiguousarray(kernel.transpose(0, 2, 3, 1)), bias, 0)
        _, h, w, _ = self.shape(x)
        out = (1, -(-h // stride), -(-w // stride), kernel.shape[0])
        options = {"Padding": SAME, "StrideW": stride, "StrideH": stride}
        options |= {"FusedActivationFunction": act, "DilationWFactor": 1, "DilationHFactor": 1}
        return self.op("CONV_2D", [x, *inputs], out, ("Conv2DOptions", options))

    def depthwise(self, name: str, conv: Any, x: int, stride: int, padding: int) -> int:
        """A depthwise convolution with ReLU6."""
        kernel = np.ascontiguousarray(conv.weight.detach().numpy().transpose(1, 2, 3, 0))
        inputs = self.weights(name, kernel, conv.bias.detach().numpy(), 3)
        _, h, w, c = self.shape(x)
        out = (1, -(-h // stride), -(-w // stride), c) if padding == SAME else (1, 1, w, c)
        options = {"Padding": padding, "StrideW": stride, "StrideH": stride, "DepthMultiplier": 1}
        options |= {"FusedActivationFunction": RELU6, "DilationWFactor": 1, "DilationHFactor": 1}
        return self.op("DEPTHWISE_CONV_2D", [x, *inputs], out, ("DepthwiseConv2DOptions", options))

    def bottleneck(self, name: str, layer: Any, x: int) -> int:
        """One layer; the scalar is broadcast to the map, as in the published file."""
        path = f"{name}/bneck"
        y = self.conv(f"{path}/expansion/conv2d/conv2d/Conv2D", layer.expansion, x, 1, RELU6)
        y = self.depthwise(f"{path}/feature/conv2d/bn/F", layer.feature, y, layer.stride, SAME)
        if layer.feature_temporal is not None:
            y = self.temporal(name, layer, y)
        y = self.conv(f"{path}/projection/conv2d/conv2d_1/C", layer.projection, y, 1, NONE)
        shape = self.shape(y)
        scale = np.full(shape, layer.rezero.item(), np.float32)
        title = f"movinet_classifier/movinet/{path}/rezero/mul"
        if self.quantised:
            step = np.abs(scale.flat[0]) / np.float32(127)
            spread = self.const(title, np.round(scale / step).astype(np.int8), step)
        else:
            spread = self.const(title, scale)
        y = self.op("MUL", [y, spread], shape)
        if layer.skip_project is not None:
            if layer.stride > 1:
                _, h, w, c = self.shape(x)
                options = {"Padding": SAME, "StrideW": 2, "StrideH": 2}
                options |= {"FilterWidth": 3, "FilterHeight": 3}
                half = (1, -(-h // 2), -(-w // 2), c)
                x = self.op("AVERAGE_POOL_2D", [x], half, ("Pool2DOptions", options))
            x = self.conv(
                f"{path}/skip/skip_project/conv2d/conv2d_2/C", layer.skip_project, x, 1, NONE
            )
        return self.op("ADD", [y, x], shape)

    def temporal(self, name: str, layer: Any, x: int) -> int:
        """Stream buffer and temporal kernel."""
        _, h, w, c = self.shape(x)
        kt = layer.kernel_t
        key = f"state_{name}_stream_buffer"
        self.inputs[key] = past = self.var(key, (1, kt - 1, h, w, c))
        frame = self.reshape(x, (1, 1, h, w, c))
        options = ("ConcatenationOptions", {"Axis": 1})
        full = self.op("CONCATENATION", [past, frame], (1, kt, h, w, c), options)
        begin = self.const("begin", np.asarray((0, 1, 0, 0, 0), np.int32))
        sizes = self.const("sizes", np.asarray((1, kt - 1, h, w, c), np.int32))
        self.outputs[key] = self.op("SLICE", [full, begin, sizes], (1, kt - 1, h, w, c))
        y = self.reshape(full, (1, kt, h * w, c))
        path = f"{name}/bneck/feature/conv2d_temporal/bn_temporal/F"
        y = self.depthwise(path, layer.feature_temporal, y, 1, VALID)
        return self.reshape(y, (1, h, w, c))

    def head(self, model: Any, x: int) -> None:
        """Spatial mean, running mean, two linear layers."""
        _, h, w, c = self.shape(x)
        axes = self.const("axes", np.asarray((1, 2), np.int32))
        y = self.op("SUM", [x, axes], (1, 1, 1, c), ("ReducerOptions", {"KeepDims": True}))
        title = "movinet_classifier/movinet/head/global_average_pool3d/truediv"
        y = self.op(
            "MUL", [y, self.const(title, np.full(1, 1 / (h * w), np.float32))], (1, 1, 1, c)
        )
        self.inputs["state_head_pool_buffer"] = past = self.var("pool", (1, 1, 1, c))
        self.inputs["state_head_pool_frame_count"] = count = self.var("count", (1,), "i4")
        y = self.op("ADD", [y, past], (1, 1, 1, c))
        self.outputs["state_head_pool_buffer"] = y
        one = self.const("one", np.ones(1, np.int32))
        count = self.op("ADD", [count, one], (1,), to="i4")
        self.outputs["state_head_pool_frame_count"] = count
        y = self.op("DIV", [y, self.op("CAST", [count], (1,))], (1, 1, 1, c))
        y = self.conv("classifier_head/head/conv2d/conv2d/C", model.classifier_head, y, 1, RELU6)
        y = self.conv("classifier_head/classifier/conv2d/conv2d_1/C", model.classifier, y, 1, NONE)
        self.outputs["logits"] = self.reshape(y, (1, self.shape(y)[-1]))
