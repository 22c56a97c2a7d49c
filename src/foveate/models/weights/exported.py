"""The part of `run.json` that describes exported networks: graphs, their inputs and outputs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from foveate.models.adafocus_card import AdaFocusCard
from foveate.models.adamml_card import AdaMMLCard

Format = Literal["onnx", "openvino", "litert", "torchexport"]
Precision = Literal["fp32", "bf16", "int8"]
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
_Digest = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
Facts = Annotated[AdaFocusCard | AdaMMLCard, Field(discriminator="method")]
_Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TensorCard(_Strict):
    """One input or output of a graph.

    Attributes:
        name: As in the file.
        dtype: As NumPy names it, such as `float32`.
        shape: Sizes; `batch` is the number of streams or clips, any size.
    """

    name: _Name
    dtype: Literal["float32", "uint8", "int8", "int32", "int64"]
    shape: list[Annotated[int, Field(ge=0, le=1 << 24)] | Literal["batch"]] = Field(max_length=8)


class StateCard(_Strict):
    """How a piece of the state follows from a step.

    The new values are `inputs[1:]` followed by the output: a step returns only the newest of
    several past frames and the others move up. A state without an output is a counter, which grows
    by one.

    Attributes:
        inputs: Names of inputs of the graph, oldest first.
        output: Name of the output that becomes the last of them; None for a counter.
    """

    inputs: list[_Name] = Field(min_length=1, max_length=64)
    output: _Name | None = None


class GraphCard(_Strict):
    """One graph: a function of tensors.

    Attributes:
        files: Name of each of its files → sha256; the first is the one to open.
        inputs: In order; those that are no state come first.
        outputs: In order; those that are no state come first.
        state: Empty for a graph without memory. Every state starts as zeros.
        macs: Multiply-adds of a call for a batch of one.
    """

    files: dict[FileName, _Digest] = Field(min_length=1, max_length=4)
    inputs: list[TensorCard] = Field(min_length=1, max_length=1000)
    outputs: list[TensorCard] = Field(min_length=1, max_length=1000)
    state: list[StateCard] = Field(default_factory=list, max_length=1000)
    macs: int = Field(0, ge=0)


class ExportedNetwork(_Strict):
    """One network of the model.

    Attributes:
        kind: `stream` has graphs `step-SIDE`, `chunk-SIDE` for several frames and `head`; `clip`
            has `clip-SIDE`; `exits` has one graph for each exit, `exit-INDEX`; `detector` has
            `detect-SIDE`, whose boxes overlap yet; `parts` has the graphs of the parts of AdaFocus
            or AdaMML.
        graphs: By name.
        mixes_frames: Whether features of a place meet those of other frames.
        exits: Names of the exits, in order.
        least_score: Boxes of a detector that score no more are left out.
        overlap: Intersection over union beyond which two boxes of a class are one object.
        facts: What look and executor must know of a network of `parts`.
    """

    kind: Literal["stream", "clip", "exits", "detector", "parts"]
    graphs: dict[FileName, GraphCard] = Field(min_length=1, max_length=200)
    mixes_frames: bool = True
    exits: list[_Name] = Field(default_factory=list, max_length=100)
    least_score: float = Field(0.0, ge=0, le=1)
    overlap: float = Field(1.0, ge=0, le=1)
    facts: Facts | None = None


class ExportCard(_Strict):
    """The graphs of a model.

    Attributes:
        format: Of the files.
        precision: `int8` if the graphs were quantised. The others are chosen when a graph is run.
        source: Name of the model that was exported.
        weights: sha256 of its weights.
        memory: What means over time remember; see `Preset.memory`.
        networks: By the name of the part.
        parity: Largest difference from the logits of the original, as a share of its largest
            logit, over all frames that were compared.
        figures: What else was measured, such as accuracy before and after quantisation.
        versions: Package → version that made the files.
    """

    format: Format
    precision: Literal["fp32", "int8"] = "fp32"
    source: str = ""
    weights: str = ""
    memory: str | None = None
    networks: dict[str, ExportedNetwork] = Field(min_length=1, max_length=64)
    parity: float = Field(ge=0)
    figures: dict[str, float] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
