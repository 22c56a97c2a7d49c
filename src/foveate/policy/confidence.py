"""When enough was seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from foveate.core import Budget, Evidence, More, Stop, Verdict


@dataclass(frozen=True)
class AtEnd:
    """Decide when the window is over, never before."""

    eager: bool = False

    def __call__(self, evidence: Evidence, budget: Budget) -> Verdict:
        """Always look on."""
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
        """Stop if the lowest of these probabilities in the batch reaches the threshold."""
        logits = evidence.logits[evidence.exit].float()
        if self.output == "sigmoid":
            gate = float(logits.abs().sigmoid().min())
        else:
            gate = float(logits.softmax(-1).amax(-1).min())
        return Stop(gate) if gate >= self.threshold else More(gate)
