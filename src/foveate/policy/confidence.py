"""When enough was seen."""

from __future__ import annotations

from dataclasses import dataclass

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
        threshold: Softmax probability of the best class, in 0..1, at which to stop.
    """

    threshold: float = 0.9
    eager: bool = True

    def __call__(self, evidence: Evidence, budget: Budget) -> Verdict:
        """Stop if the lowest best-class probability of the batch reaches the threshold."""
        logits = evidence.logits[evidence.exit]
        gate = float(logits.float().softmax(-1).amax(-1).min())
        return Stop(gate) if gate >= self.threshold else More(gate)
