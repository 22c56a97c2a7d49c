"""What contradicts itself ends with one line: looks, requests, networks and arguments."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from test_extends import FPS, SIDE, Brightness, KeyAndOther, Toy, WithSound, recogniser, video

from foveate.core import ConfigError, Detections, Evidence, MediaError, ModelError, Selection
from foveate.core import ViewRequest as Request
from foveate.policy import TimedLook, Uniform

MANY = 50  # windows, of a video that has two


class Always(TimedLook):
    """The same request in every window, once."""

    parts = ("network",)

    def __init__(self, *requests, part: str | None = "network") -> None:
        self.requests, self.part, self.windows = requests, part, itertools.count()

    def next(self, sample, window, memory, evidence, budget):
        if memory is None and next(self.windows) > MANY:
            raise AssertionError("the source has ended")
        left = iter(self.requests) if memory is None else memory
        if (made := next(left, None)) is None:
            return None, left
        name, request = made(window.start)
        views = {} if request is None else {name: request}
        return Selection(views, self.part, dense=False), left


class Anything(Toy):
    """Takes whatever is shown."""

    parts = ("network",)

    def network(self, views, state):
        return 0, Evidence(logits={"final": np.array([0.1, 0.2])})


REQUESTS = {
    "rgb-difference": lambda start: ("rgb-difference", Request((start,))),
    "flow": lambda start: ("flow", Request((start,))),
    "sound": lambda start: ("sound", Request(spans=((start, start + 0.5),))),
    "rows": lambda start: ("rgb", Request((start,), rows=(0,))),
    "in order": lambda start: ("rgb", Request((start,))),
    "no times": lambda start: ("rgb", Request()),
}


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("stream", [False, True])
def test_every_kind_of_request_comes_to_the_end_of_the_source(name, stream) -> None:
    look = Always(REQUESTS["in order"], REQUESTS[name])
    source = WithSound(video(), FPS)
    toy = recogniser(Anything(), look)
    if stream:
        list(toy.stream(source))
    else:
        toy.predict(source)
    assert next(look.windows) <= 3  # a third one finds that there are no more frames


@pytest.mark.parametrize("name", ["rgb-difference", "flow", "sound", "rows"])
def test_a_kind_of_request_alone_comes_to_the_end(name) -> None:
    look = Always(REQUESTS[name])
    assert recogniser(Anything(), look).predict(WithSound(video(), FPS)).labels
    assert next(look.windows) == 2


def test_a_look_that_asks_for_no_times_ends() -> None:
    look = Always(REQUESTS["no times"])
    with pytest.raises(MediaError, match="no frame"):
        recogniser(Anything(), look).predict(video(), fps=FPS)
    assert next(look.windows) == 2


def test_a_look_that_only_holds_ends() -> None:
    look = Always(REQUESTS["in order"], part=None)
    with pytest.raises(MediaError, match="no frame"):
        recogniser(Anything(), look).predict(video(), fps=FPS)
    assert next(look.windows) == 2


def test_a_model_that_only_listens_answers() -> None:
    result = recogniser(Anything(), Always(REQUESTS["sound"])).predict(WithSound(video(), FPS))
    assert result.labels[0].label == "bright"
    assert result.cost.frames_decoded == 0


BAD = {
    "rows must be": Request((0.0, 0.1), rows=(0,)),
    "ascending": Request((0.0, 0.1), rows=(1, 0)),
    "as many times each": Request((0.0, 0.1, 0.2), rows=(0, 0, 1)),
    "2 boxes for 1 times": Request((0.0,), boxes=((0, 0, 9, 9), (0, 0, 9, 9))),
    "no area": Request((0.0,), boxes=((9, 0, 9, 9),)),
    "not finite": Request((0.0,), boxes=((0, 0, np.nan, 9),)),
    "size must be positive": Request((0.0,), size=0),
}


@pytest.mark.parametrize("words", BAD)
def test_a_request_that_contradicts_itself_is_refused(words) -> None:
    look = Always(lambda start: ("rgb", BAD[words]))
    with pytest.raises(ConfigError, match=words):
        recogniser(Anything(), look).predict(video(), fps=FPS)


def test_a_part_that_the_model_lacks_is_named() -> None:
    look = Always(REQUESTS["in order"], part="other")
    with pytest.raises(ConfigError, match="'other'") as caught:
        recogniser(Anything(), look).predict(video(), fps=FPS)
    assert "network" in caught.value.hint


class Wrong(KeyAndOther):
    """Finds what `change` makes of a right answer, in sources that begin with the spot at 8."""

    def __init__(self, **change) -> None:
        super().__init__()
        self.change = change

    def found(self, time, state):
        evidence = super().found(time, state)
        (right,) = evidence.detections
        if state["frames"] == 1 and state["box"][0] != 8:
            return evidence
        values = {
            "boxes": right.boxes, "scores": right.scores, "labels": right.labels,
            "tracks": right.tracks, **self.change,
        }  # fmt: skip
        return Evidence(detections=(Detections(time, *values.values()),))


class KeysOnly(TimedLook):
    parts = ("key", "other")

    def next(self, sample, window, memory, evidence, budget):
        request = Request((window.start,), size=(SIDE, SIDE))
        return (Selection({"rgb": request}, "key"), 1) if memory is None else (None, memory)


DETECTIONS = {
    "2 boxes|boxes": {"boxes": np.zeros((2, 4))},
    "2 tracks": {"tracks": np.array([1, 2])},
    "not finite": {"scores": np.array([np.nan])},
    "class 7": {"labels": np.array([7])},
    "class -1": {"labels": np.array([-1])},
    "0..1": {"scores": np.array([1.5])},
    "inside out": {"boxes": np.array([[9.0, 9.0, 1.0, 1.0]])},
}


@pytest.mark.parametrize("words", DETECTIONS)
def test_wrong_detections_fail_their_source_alone(words) -> None:
    toy = recogniser(Wrong(**DETECTIONS[words]), KeysOnly(), task="detect", window=4.0)
    with pytest.raises(ModelError, match=words):
        toy.predict(video(first=8), fps=FPS)
    good, bad = toy.predict_many([video(), video(first=8)], batch=2, fps=FPS)
    assert (good.ok, bad.ok, bad.error.kind) == (True, False, "model")


class Short(Brightness):
    """Answers one source too few."""

    def run(self, part, views, states):
        states, evidence = super().run(part, views, states)
        return states[1:], evidence[1:]


def test_an_executor_that_answers_too_few_is_an_error_of_the_model() -> None:
    toy = recogniser(Short(), Uniform(5.0))
    with pytest.raises(ModelError, match="'network' answered 0 of 1"):
        toy.predict(video(), fps=FPS)
    results = list(toy.predict_many([video(), video()], batch=2, fps=FPS))
    assert [r.error.kind for r in results] == ["model"] * 2


@pytest.mark.parametrize("window", [0, -1.0, np.nan, np.inf])
def test_a_window_has_a_length(window) -> None:
    with pytest.raises(ConfigError, match="window must be positive and finite"):
        recogniser(Brightness(), Uniform(5.0), window=window)


def test_arguments_of_a_recogniser_are_checked() -> None:
    toy = recogniser(Brightness(), Uniform(5.0))
    with pytest.raises(ConfigError, match="batch must be at least 1"):
        list(toy.predict_many([video()], batch=0, fps=FPS))
    with pytest.raises(ConfigError, match="several sources"):
        list(toy.predict_many("clip.mp4"))
    with pytest.raises(ConfigError, match="task 'segment'"):
        recogniser(Brightness(), Uniform(5.0), task="segment")
    assert Counter(r.ok for r in toy.predict_many([], fps=FPS)) == {}
