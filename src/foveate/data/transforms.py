"""Transforms of clips that depend on their labels or views; see also `primitives.augment`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from foveate.core.loop import Pixels
    from foveate.data.prepare import Labels, Transform


@dataclass(frozen=True)
class EachView:
    """A transform that is drawn anew for each view of a clip; satisfies `prepare.Transform`.

    Args:
        one: What is done to a view; its frames are all treated alike.
        views: How many views the frames are, one after the other and equally long.
    """

    one: Transform
    views: int = 2

    def decode_size(self, source: tuple[int, int]) -> tuple[int, int]:
        """As for one view."""
        return self.one.decode_size(source)

    def __call__(
        self, frames: Pixels, labels: Labels, random: np.random.Generator | None
    ) -> tuple[Tensor, Labels]:
        """Draw once per view; the labels stay, since views of one clip may be mirrored apart.

        Raises:
            ValueError: The frames are not so many equal parts.
        """
        import torch

        count, rest = divmod(len(frames), self.views)
        if rest:
            raise ValueError(f"{len(frames)} frames are not {self.views} views")
        parts = (frames[i * count : (i + 1) * count] for i in range(self.views))
        return torch.cat([self.one(part, labels, random)[0] for part in parts]), labels


def mirror_labels(labels: Labels, mirror: Sequence[int | None]) -> Labels | None:
    """The labels of the mirror image, None where a class has none."""
    if not mirror:
        return labels
    found = [mirror[label] for label in labels]
    return None if None in found else tuple(label for label in found if label is not None)


def mirrored_by_words(classes: Sequence[str], words: Mapping[str, str]) -> tuple[int | None, ...]:
    """For each class its mirror image, found by exchanging words in the names.

    Args:
        classes: Names of the classes.
        words: Which words to exchange, such as `{"left": "right"}`.

    Returns:
        Per class the index of the class whose name has the words exchanged; its own index where
        the name has none of the words; None where no class has that name: such clips are not
        flipped.
    """
    both = {a.casefold(): b.casefold() for pair in words.items() for a, b in (pair, pair[::-1])}
    split = [name.casefold().replace("_", " ").replace("-", " ").split() for name in classes]
    places = {tuple(parts): i for i, parts in enumerate(split)}
    return tuple(places.get(tuple(both.get(part, part) for part in parts)) for parts in split)
