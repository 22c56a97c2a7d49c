"""Runs sessions: feeds their asks to the network, several sources in one batch."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from foveate.core import Evidence, FoveateError, InternalError
from foveate.pipeline.cascade import CascadeNetwork
from foveate.pipeline.network import Network
from foveate.pipeline.session import Ask, Reply, Session, Work


@dataclass
class _Running:
    position: int
    session: Session
    steps: Work
    ask: Ask


def execute(
    network: Network | CascadeNetwork, asks: list[Ask], sessions: list[Session]
) -> list[Reply]:
    """Do the network work of several sessions in one batch and charge each its share.

    Args:
        network: Runs it.
        asks: Of one shape: all with views of the same size and all with or without a state.
        sessions: Whose ledgers are charged, one per ask.
    """
    views = [ask.views for ask in asks if ask.views is not None]
    states = [ask.state for ask in asks]
    joined = _join(network, states)
    if views:
        x_bcthw = views[0] if len(views) == 1 else torch.cat(views)
        started = time.perf_counter()
        joined = network.observe(x_bcthw, joined)
        network.wait()
        seconds = time.perf_counter() - started
        stage, macs = _looked(network, asks[0], x_bcthw)
        _charge(stage, seconds, macs, sessions)
    evidence: list[Evidence | None] = [None] * len(asks)
    if asks[0].answer:
        started = time.perf_counter()
        answer = network.answer(joined)
        network.wait()
        seconds = time.perf_counter() - started
        macs = network.answer_macs(len(asks), joined)
        _charge(network.answer_stage, seconds, macs, sessions)
        evidence = [_row(answer, i) for i in range(len(asks))]
    split = [joined] if len(asks) == 1 else network.split(joined)
    return [Reply(state, one) for state, one in zip(split, evidence, strict=True)]


def _looked(network: Network | CascadeNetwork, ask: Ask, views: torch.Tensor) -> tuple[str, int]:
    """What the ledger calls the looking that was just done, and its multiply-adds."""
    if isinstance(network, CascadeNetwork):
        assert ask.exit is not None
        # Of a modality's first exit the segments come third, of maps second.
        first = ask.exit == network.exits_of(network.modality_of(ask.exit))[0]
        segments = views.shape[2 if first else 1]
        return network.stage_of(ask.exit), network.exit_macs(ask.exit, len(views), segments)
    return network.observe_stage, network.observe_macs(tuple(views.shape))


def _join(network: Network | CascadeNetwork, states: list[Any]) -> Any:
    if states[0] is None:
        return None
    return states[0] if len(states) == 1 else network.stack(states)


def _row(evidence: Evidence, i: int) -> Evidence:
    """The evidence of one source of a batch."""
    features = evidence.features
    return Evidence(
        logits={name: logits[i : i + 1] for name, logits in evidence.logits.items()},
        features=None if features is None else features[i : i + 1],
    )


def _charge(name: str, seconds: float, macs: int, sessions: list[Session]) -> None:
    """Share seconds and multiply-adds of one batched call evenly."""
    share = len(sessions)
    for session in sessions:
        session.ledger.add(name, macs=macs // share, seconds=seconds / share)


def drive(
    network: Network | CascadeNetwork,
    openers: Iterator[Callable[[], Session]],
    batch: int,
) -> Iterator[tuple[Session | None, FoveateError | None]]:
    """Run sources to their end, at most `batch` at a time; answers come in order of the input.

    Args:
        network: Runs the asks.
        openers: Open one session each, when its turn comes.
        batch: Sources in flight together.

    Yields:
        The finished session (None if it could not be opened) and the error that ended it, if any.
    """
    running: list[_Running] = []
    finished: dict[int, tuple[Session | None, FoveateError | None]] = {}
    opened = given = 0
    exhausted = False
    while running or not exhausted or given in finished:
        while given in finished:
            yield finished.pop(given)
            given += 1
        while not exhausted and len(running) < batch and opened - given < 4 * batch:
            opener = next(openers, None)
            if opener is None:
                exhausted = True
                break
            _begin(opener, opened, running, finished)
            opened += 1
        for group in _groups(running):
            replies = execute(network, [r.ask for r in group], [r.session for r in group])
            for one, reply in zip(group, replies, strict=True):
                _advance(one, reply, running, finished)


def _begin(
    opener: Callable[[], Session],
    position: int,
    running: list[_Running],
    finished: dict[int, tuple[Session | None, FoveateError | None]],
) -> None:
    session = None
    try:
        session = opener()
        steps = session.run()
        running.append(_Running(position, session, steps, _asked(next(steps))))
    except StopIteration:
        finished[position] = (session, None)
    except Exception as error:
        finished[position] = (session, _failure(error))


def _advance(
    one: _Running,
    reply: Reply,
    running: list[_Running],
    finished: dict[int, tuple[Session | None, FoveateError | None]],
) -> None:
    try:
        one.ask = _asked(one.steps.send(reply))
    except StopIteration:
        running.remove(one)
        finished[one.position] = (one.session, None)
    except Exception as error:
        running.remove(one)
        finished[one.position] = (one.session, _failure(error))


def _failure(error: Exception) -> FoveateError:
    """What ended a source: one of many must not end the others, whatever it met."""
    if isinstance(error, FoveateError):
        return error
    if os.environ.get("FOVEATE_DEBUG"):
        raise error
    failure = InternalError(f"internal error: {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure


def _asked(ask: Ask | None) -> Ask:
    if ask is None:
        raise RuntimeError("a session in a batch may not pause between steps")
    return ask


def _groups(running: list[_Running]) -> list[list[_Running]]:
    """Sessions whose next ask has the same shape, so that they fit in one batch."""
    groups: dict[object, list[_Running]] = {}
    for one in running:
        ask = one.ask
        shape = None if ask.views is None else tuple(ask.views.shape[1:])
        groups.setdefault((shape, ask.state is None, ask.answer, ask.exit), []).append(one)
    return list(groups.values())
