"""Runs sessions: many sources in flight, work of one kind in one call of the model.

A source that has no frames yet delays no other one, and one that fails fails alone.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from foveate.core import Executor, FoveateError, InternalError, ModelError, NotYet
from foveate.pipeline.session import (
    Event,
    InferenceRequest,
    InferenceResponse,
    Session,
    StepDone,
    Work,
)

Opener = Callable[[], Session]
_MOST_AHEAD = 4  # times the batch that may be opened beyond the oldest source in flight
_POLL = 0.005  # seconds between two questions to sources that have nothing to show yet
_END: Any = object()  # of the openers


@dataclass(frozen=True)
class Outcome:
    """Something that a caller waits for.

    Attributes:
        position: Of the source in the input.
        kind: A `step` of a stream, or the `end` of a source.
        session: Of the source; None if it could not be opened.
        error: What ended the source, None if nothing went wrong.
    """

    position: int
    kind: Literal["step", "end"]
    session: Session | None
    error: FoveateError | None = None


@dataclass
class _Running:
    position: int
    session: Session
    work: Work[None]
    request: InferenceRequest | None = None  # what it waits for; None: resume it
    key: Hashable = None  # requests of equal keys fit in one call
    since: float = 0.0  # when it asked
    ready: Callable[[], bool] | None = None  # whether resuming it can succeed; None: try


def schedule(
    executor: Executor,
    openers: Iterator[Opener | None],
    batch: int | None,
    *,
    max_wait: float = 0.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Outcome]:
    """Run sources to their end.

    Args:
        executor: Runs the model.
        openers: Open one session each, when its turn comes; None if there is nothing to open now.
        batch: Sources in flight together; None for all of them.
        max_wait: Seconds for which work waits for live sources that have nothing to show yet, so
            that their frames can share a call.
        clock: Seconds of a clock that never steps back.
        sleep: Waits for some seconds.

    Yields:
        Steps of streams and ends of sources, as they come.
    """
    running: list[_Running] = []
    opened, exhausted = 0, False
    try:
        while running or not exhausted:
            while not exhausted and _room(running, opened, batch):
                opener = next(openers, _END)
                exhausted = opener is _END
                if not callable(opener):
                    break
                begun = _begin(opener, opened)
                opened += 1
                if isinstance(begun, Outcome):
                    yield begun
                else:
                    running.append(begun)
            progressed = False
            for one in list(running):
                if one.request is None and (one.ready is None or one.ready()):
                    for outcome in _advance(executor, one, None, clock):
                        progressed = True
                        yield outcome
                        if outcome.kind == "end":
                            running.remove(one)
                    progressed = progressed or one.request is not None
            for group in _groups(running, max_wait, clock):
                progressed = True
                answers = execute(executor, [(one.session, one.request) for one in group])
                for one, answer in zip(group, answers, strict=True):
                    one.request = None
                    for outcome in _advance(executor, one, answer, clock):
                        yield outcome
                        if outcome.kind == "end":
                            running.remove(one)
            if running and not progressed:
                sleep(_POLL)
    finally:
        for one in running:
            one.work.close()
            one.session.sample.close()  # of those that were never begun, too


def execute(
    executor: Executor, asked: Sequence[tuple[Session, Any]]
) -> list[InferenceResponse | Exception]:
    """Run one part for several sessions in one call, and charge each its share.

    If the call fails it is repeated source by source, so that one bad source fails alone.

    Args:
        executor: Runs it.
        asked: Sessions with their requests, all of one batch key.
    """
    requests: list[InferenceRequest] = [request for _, request in asked]
    part = requests[0].part
    try:
        macs = [executor.cost(part, one.views, one.state) for one in requests]
        started = time.perf_counter()
        states, evidence = executor.run(
            part, [one.views for one in requests], [one.state for one in requests]
        )
        seconds = (time.perf_counter() - started) / len(asked)
        answers = [InferenceResponse(*pair) for pair in zip(states, evidence, strict=True)]
        if len(answers) != len(asked):
            raise ModelError(f"part {part!r} answered {len(answers)} of {len(asked)} calls")
    except Exception as error:
        if len(asked) == 1:
            return [error]
        return [answer for one in asked for answer in execute(executor, [one])]
    for (session, _), own in zip(asked, macs, strict=True):
        session.charge(part, own, seconds)
    return [*answers]


def in_order(outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
    """Ends of sources in the order of the input; steps are left out."""
    finished: dict[int, Outcome] = {}
    given = 0
    for outcome in outcomes:
        if outcome.kind == "end":
            finished[outcome.position] = outcome
        while given in finished:
            yield finished.pop(given)
            given += 1


def _room(running: Sequence[_Running], opened: int, batch: int | None) -> bool:
    """Whether another source may be opened: results must not accumulate behind a slow one."""
    if batch is None:
        return True
    oldest = min((one.position for one in running), default=opened)
    return len(running) < batch and opened - oldest < _MOST_AHEAD * batch


def _begin(opener: Opener, position: int) -> _Running | Outcome:
    try:
        session = opener()
    except Exception as error:
        return Outcome(position, "end", None, _failure(error))
    return _Running(position, session, session.run())


def _advance(
    executor: Executor,
    one: _Running,
    answer: InferenceResponse | Exception | None,
    clock: Callable[[], float],
) -> Iterator[Outcome]:
    """Send a session what it waited for, until it waits again."""
    try:
        event: Event
        if isinstance(answer, Exception):
            event = one.work.throw(answer)
        elif answer is None:
            event = next(one.work)
        else:
            event = one.work.send(answer)
        while isinstance(event, StepDone):
            yield Outcome(one.position, "step", one.session)
            event = next(one.work)
        one.ready = event.ready if isinstance(event, NotYet) else None
        if isinstance(event, NotYet):
            return  # it is asked again in a later round
        key = executor.batch_key(event.part, event.views, event.state)
        one.request, one.key, one.since = event, (event.part, key), clock()
    except StopIteration:
        yield Outcome(one.position, "end", one.session)
    except Exception as error:
        one.work.close()
        yield Outcome(one.position, "end", one.session, _failure(error))


def _groups(
    running: Sequence[_Running], max_wait: float, clock: Callable[[], float]
) -> list[list[_Running]]:
    """Sessions whose requests fit in one call; while others have nothing to show yet, only those
    that have waited long enough for them. What goes on from a state has waited before."""
    groups: dict[object, list[_Running]] = {}
    for one in running:
        if one.request is not None:
            groups.setdefault(one.key, []).append(one)
    if max_wait > 0 and any(one.request is None for one in running):
        due = clock() - max_wait
        return [g for g in groups.values() if any(_due(one, due) for one in g)]
    return list(groups.values())


def _due(one: _Running, due: float) -> bool:
    return one.since <= due or (one.request is not None and not one.request.views)


def _failure(error: Exception) -> FoveateError:
    """The error of a source: it must not end the other sources."""
    debug = os.environ.get("FOVEATE_DEBUG")
    if isinstance(error, FoveateError):
        if debug:
            traceback.print_exception(error)
        return error
    if debug:
        raise error
    failure = InternalError(f"internal error: {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure
