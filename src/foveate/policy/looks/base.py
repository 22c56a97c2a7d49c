"""Base classes of policies: windows of time, and typed settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from foveate.core import Budget, Evidence, InputSpec, Look, Sample, Selection, Window
from foveate.core.config import Config


@dataclass(frozen=True)
class Context:
    """The properties of a model that the settings of a policy depend on.

    Attributes:
        input: What the model expects of its frames.
        mixes_frames: Whether features of one place meet those of other frames.
        streaming: Whether the model takes frames one after another at an even rate.
        temporal: Whether a detector has a cheaper part for the frames between key frames.
        min_score: Detections that score lower are left out.
        output: Whether its classes exclude each other (`softmax`) or not (`sigmoid`).
        model: Its name, for messages.
        budget: What may be spent.
        window: Seconds of a window.
        calibration: The calibration in the run folder.
        network: The model's first network, for looks of one family of networks.
        patch: Frames, height and width in pixels of a patch of a transformer of which single
            tokens can be left out; None for other models.
    """

    input: InputSpec
    mixes_frames: bool = True
    streaming: bool = False
    temporal: bool = False
    min_score: float = 0.0
    output: Literal["softmax", "sigmoid"] = "softmax"
    model: str = "the model"
    budget: Budget = field(default_factory=Budget)
    window: float = 10.0
    calibration: Mapping[str, Any] = field(default_factory=dict)
    network: Any = None
    patch: tuple[int, int, int] | None = None


class LookSpec(Config):
    """Base of the settings of a policy that chooses what to look at; one subclass per policy.

    Attributes:
        trains: Whether a network can be trained on what the policy shows.
    """

    trains: ClassVar[bool] = False

    name: str

    def calibrated(self, calibration: Mapping[str, Any], model: str) -> Mapping[str, Any]:
        """The part of a model's calibration that belongs to these settings.

        Args:
            calibration: All that the run folder contains.
            model: Name of the model, for messages.

        Raises:
            ConfigError: These settings need a calibration that the model does not have.
            WeightsError: The calibration is damaged.
        """
        return calibration

    def build(self, context: Context) -> Look:
        """The policy with these settings.

        Raises:
            ConfigError: The settings do not fit the model.
        """
        raise NotImplementedError


class TimedLook:
    """Base of policies whose windows are stretches of time.

    Attributes:
        parts: The parts of the model that it asks for, besides the head.
        reads_vectors: Whether it asks for motion vectors before anything else: files are then
            opened so that vectors and pictures come from one decoder.
    """

    parts: ClassVar[tuple[str, ...]] = ("network",)

    @property
    def reads_vectors(self) -> bool:
        """False, see the class."""
        return False

    def window(self, sample: Sample, start: float, seconds: float) -> Window | None:
        """The next `seconds`; the loop finds out where the source ends."""
        return Window(start, start + seconds)

    def next(
        self,
        sample: Sample,
        window: Window,
        memory: Any,
        evidence: Evidence | None,
        budget: Budget,
    ) -> tuple[Selection | None, Any]:
        """The next step of a window; see `core.Look`."""
        raise NotImplementedError

    def online(self) -> Look:
        """The same policy, because it needs no future frames."""
        return self
