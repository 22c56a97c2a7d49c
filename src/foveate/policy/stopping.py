"""Stopping rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from foveate.core import Budget, Decide, Evidence, More, Stop, Verdict
from foveate.core.config import Config
from foveate.core.search import Search
from foveate.policy.looks.base import Context


class DecideSpec(Config):
    """Base of the settings of stopping rules; one subclass per rule."""

    name: str

    def build(self, context: Context) -> Decide:
        """The policy with these settings.

        Raises:
            ConfigError: The settings do not fit the model.
        """
        raise NotImplementedError


class AtEndSpec(DecideSpec):
    """Decide when the window is over."""

    name: Literal["at-end"] = "at-end"

    def build(self, context: Context) -> AtEnd:
        """The policy."""
        return AtEnd()


class ConfidentSpec(DecideSpec):
    """Stop as soon as the best class is likely enough."""

    name: Literal["confident"] = "confident"
    threshold: Annotated[float, Search.float(0.5, 0.99)] = Field(
        0.9, gt=0, le=1, description="softmax probability of the best class"
    )

    def build(self, context: Context) -> Confident:
        """The policy with this threshold."""
        return Confident(self.threshold, output=context.output)


@dataclass(frozen=True)
class AtEnd:
    """Decide when the window is over, never before."""

    eager: bool = False

    def __call__(self, evidence: Evidence, budget: Budget) -> Verdict:
        """Always continue."""
        return More()


@dataclass(frozen=True)
class Confident:
    """Stop as soon as the best class is likely enough.

    Args:
        threshold: Probability in 0..1 at which to stop: of the best class where classes exclude
            each other (`softmax`), of yes or no for the least certain class where they do not
            (`sigmoid`).
        output: Which of the two the model's classes are.
    """

    threshold: float = 0.9
    eager: bool = True
    output: Literal["softmax", "sigmoid"] = "softmax"

    def __call__(self, evidence: Evidence, budget: Budget) -> Verdict:
        """Stop if this probability reaches the threshold."""
        scores = probabilities(evidence.logits[evidence.exit], self.output)
        if self.output == "sigmoid":
            scores = np.maximum(scores, 1 - scores)
            gate = float(scores.min())
        else:
            gate = float(scores.max())
        return Stop(gate) if gate >= self.threshold else More(gate)


@dataclass(frozen=True)
class ByExit:
    """Stop at the first exit whose own threshold is reached (AdaFocus).

    Args:
        thresholds: Name of the exit → softmax probability of the best class; an exit without one
            decides nothing.
    """

    thresholds: Mapping[str, float]
    eager: bool = True

    def __call__(self, evidence: Evidence, budget: Budget) -> Verdict:
        """Stop if the probability reaches the threshold of the last exit that ran."""
        gate = float(probabilities(evidence.logits[evidence.exit]).max())
        return Stop(gate) if gate >= self.thresholds.get(evidence.exit, 2.0) else More(gate)


def probabilities(logits: Any, output: str = "softmax") -> Any:
    """Scores (classes,) float32 in 0..1 of logits (classes,).

    Args:
        logits: Of one answer.
        output: Whether the classes exclude each other (`softmax`) or not (`sigmoid`).
    """
    wide = np.asarray(logits, np.float64)
    if output == "sigmoid":
        return (1 / (1 + np.exp(-np.clip(wide, -700, 700)))).astype(np.float32)
    grown = np.exp(wide - wide.max())
    return (grown / grown.sum()).astype(np.float32)
