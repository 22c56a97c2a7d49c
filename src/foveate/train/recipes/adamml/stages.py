"""The stages of the recipe `adamml`: epochs of one or two passes, resumable after every epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from foveate.models.adamml import AdaMML, SegmentNet, selection_loss
from foveate.train.features import is_head
from foveate.train.kit import randomness
from foveate.train.kit.checkpoint import Checkpoints, Tensors, pack_optimizer, unpack_optimizer
from foveate.train.kit.interrupt import Interruption
from foveate.train.kit.log import Log
from foveate.train.kit.losses import class_loss
from foveate.train.kit.optim import decay_groups, make_optimizer
from foveate.train.kit.schedule import Schedule, make_schedule
from foveate.train.kit.state import TrainError, with_prefix
from foveate.train.recipe import RecipeContext, StageInterrupted
from foveate.train.recipes.adamml.clips import SegmentBatch, SegmentBatches
from foveate.train.recipes.adamml.config import AdaMMLConfig
from foveate.train.run_state import RunSummary

AGREEMENT = 0.95  # of early answers with those of the whole network, on validation clips


@dataclass(frozen=True)
class Pass:
    """A pass over the training clips, in which a part of the model is trained.

    Attributes:
        name: Of the part.
        trained: In training mode; everything else is in evaluation mode, so that the statistics of
            frozen networks do not move.
        optimizer: Of its parameters.
        schedule: Epoch → factor on the learning rate.
        loss: Mean loss of a batch, from the batch and the epoch.
        batches: Training clips.
        inputs: Modalities that are shown.
    """

    name: str
    trained: Sequence[nn.Module]
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    loss: Callable[[SegmentBatch, int], Tensor]
    batches: SegmentBatches
    inputs: Sequence[str]


def run_stage(
    context: RecipeContext,
    name: str,
    model: nn.Module,
    passes: Sequence[Pass],
    epochs: int,
) -> None:
    """Train a stage to its end, from where it was interrupted if it was.

    After every epoch, model, optimisers and log are saved; an epoch that was interrupted is done
    again, with the same random numbers. Passes of an epoch follow one another.

    Args:
        context: Of the recipe.
        name: Of the stage; its folder below `stages` in the run folder.
        model: Trained in place.
        passes: Of every epoch.
        epochs: How many.

    Raises:
        TrainError: The loss is not finite; the last checkpoint is kept.
        StageInterrupted: On Ctrl-C; the finished epochs are saved.
    """
    folder = context.folder / "stages" / name
    checkpoints = Checkpoints(folder, keep=1)
    saved = checkpoints.latest()
    done = 0
    if saved is not None:
        done = saved.step
        model.load_state_dict(with_prefix(saved.tensors, "model/"))
        for number, one in enumerate(passes if done < epochs else ()):
            state = with_prefix(saved.tensors, f"pass{number}/")
            unpack_optimizer(one.optimizer, state, saved.values["optimizers"][number])
    steps = sum(len(one.batches) for one in passes)
    clips, seconds, waiting = 0, 0.0, 0.0
    figures: dict[str, float] = {} if saved is None else saved.values["figures"]
    if done < epochs:
        folder.mkdir(parents=True, exist_ok=True)
        log = Log(folder, None if saved is None else saved.values["log"])
        rates = [[group["lr"] for group in one.optimizer.param_groups] for one in passes]
        if saved is not None:
            rates = saved.values["rates"]
        parameters = list(model.parameters())
        for epoch in range(done, epochs):
            context.report(f"{name}, epoch", epoch, epochs)
            for number, one in enumerate(passes):
                _begin_pass(model, one, parameters)
                for group, rate in zip(one.optimizer.param_groups, rates[number], strict=True):
                    group["lr"] = rate * one.schedule(epoch)
                began = time.perf_counter()
                losses, waited = _run_pass(name, one, epoch)
                seconds, waiting = seconds + time.perf_counter() - began, waiting + waited
                clips += len(one.batches.kept)
                figures[f"loss of {one.name}"] = mean = math.fsum(losses) / len(losses)
                log.write(
                    event=one.name, epoch=epoch, step=epoch * len(one.batches) + len(losses),
                    lr=one.optimizer.param_groups[0]["lr"], loss=mean,
                )  # fmt: skip
            values = {"rates": rates, "log": log.lengths(), "figures": figures}
            _save(checkpoints, epoch + 1, model, passes, values)
        log.close()
        for parameter in parameters:
            parameter.requires_grad_(True)
    model.eval()
    if not epochs:
        return
    context.summaries.append(
        RunSummary(
            folder, "finished", epochs, steps * epochs, figures,
            clips_per_second=clips / seconds if seconds else 0.0,
            loader_share=waiting / seconds if seconds else 0.0,
            warnings=checkpoints.warnings,
        )
    )  # fmt: skip


def _run_pass(name: str, one: Pass, epoch: int) -> tuple[list[float], float]:
    """A pass over the training clips; the loss of each step, and seconds spent reading clips.

    Raises:
        StageInterrupted: On Ctrl-C, after the step.
    """
    losses, waited = [], 0.0
    requested = time.perf_counter()
    with Interruption() as interruption:
        batches = one.batches.epoch(f"{name} {one.name}", epoch, one.inputs)
        for step, batch in enumerate(batches):
            waited += time.perf_counter() - requested
            randomness.seed_all(one.batches.seed, name, one.name, epoch, step)
            losses.append(_step(one, batch, epoch, f"{name}, epoch {epoch + 1}"))
            if interruption.requested:
                raise StageInterrupted
            requested = time.perf_counter()
    return losses, waited


def _begin_pass(model: nn.Module, one: Pass, parameters: Sequence[nn.Parameter]) -> None:
    model.eval()
    for parameter in parameters:
        parameter.requires_grad_(False)
    for group in one.optimizer.param_groups:
        for parameter in group["params"]:
            parameter.requires_grad_(True)
    for part in one.trained:
        part.train()


def _step(one: Pass, batch: SegmentBatch, epoch: int, where: str) -> float:
    """One update; the loss.

    Raises:
        TrainError: The loss is not finite; the weights are unchanged.
    """
    one.optimizer.zero_grad(set_to_none=True)
    loss = one.loss(batch, epoch)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise TrainError(f"{where}: the loss is {value}", "try a lower learning rate")
    if loss.requires_grad:
        torch.autograd.backward(loss)
        one.optimizer.step()
    return value


def _save(
    checkpoints: Checkpoints,
    step: int,
    model: nn.Module,
    passes: Sequence[Pass],
    values: dict[str, Any],
) -> None:
    tensors: Tensors = {f"model/{key}": value for key, value in model.state_dict().items()}
    packed = [pack_optimizer(one.optimizer) for one in passes]
    for number, (state, _) in enumerate(packed):
        tensors |= {f"pass{number}/{key}": value for key, value in state.items()}
    values = {**values, "optimizers": [one for _, one in packed]}
    checkpoints.save(step, tensors, values, None)


# --- what the stages train ------------------------------------------------------------------------


class Labelled(nn.Module):
    """A backbone of the policy with outputs for the labels, which are left out afterwards.

    Args:
        net: The backbone.
        num_classes: Outputs.
    """

    def __init__(self, net: SegmentNet, num_classes: int) -> None:
        super().__init__()
        self.net, self.fc = net, nn.Linear(net.num_features, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of segments (N, F, C, H, W)."""
        logits: Tensor = self.fc(self.net(x))
        return logits


def proxy_pass(
    model: AdaMML, at: int, labelled: Labelled, config: AdaMMLConfig, batches: SegmentBatches
) -> Pass:
    """A backbone of the policy by itself, on what the policy sees of a modality."""
    name = model.seen[at]

    def loss(batch: SegmentBatch, epoch: int) -> Tensor:
        (view,) = model.views_of((name,), batch.x)
        return _mean_loss(labelled(view.flatten(0, 1)), batch.valid[name], batch.y)

    factor = 0.1 if "." in (config.policy_audio if name == "sound" else config.policy) else 1.0
    factors = {f"net.{key}": factor for key, _ in labelled.net.named_parameters()}
    groups = decay_groups(labelled, config.lr, config.weight_decay, factors)
    optimizer = make_optimizer("adamw", groups)
    schedule = make_schedule("cosine", config.policy_epochs, min(1, config.policy_epochs - 1))
    return Pass("policy", [labelled], optimizer, schedule, loss, batches, [name])


def _mean_loss(logits: Tensor, valid: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of the mean over segments where there is such data; logits (B * S, classes)."""
    there = valid.unsqueeze(-1)
    mean = (logits.unflatten(0, valid.shape) * there).sum(1) / there.sum(1).clamp_min(1)
    some = there.amax((1, 2))  # a clip without this modality teaches nothing
    return (class_loss(mean, y) * some).sum() / some.sum().clamp_min(1)


def unimodal(model: AdaMML, name: str, config: AdaMMLConfig, batches: SegmentBatches) -> Pass:
    """One modality by itself: the mean of its logits over the segments where there is such data."""
    net: Any = model.nets[name]

    def loss(batch: SegmentBatch, epoch: int) -> Tensor:
        return _mean_loss(net(batch.x[name].flatten(0, 1)), batch.valid[name], batch.y)

    factor = 0.1 if "." in config.backbone(name) else 1.0
    factors = {f"net.{key}": factor for key, _ in net.net.named_parameters() if not is_head(key)}
    groups = decay_groups(net, config.lr, config.weight_decay, factors)
    epochs = config.alone_epochs(name)
    optimizer = make_optimizer("adamw", groups)
    schedule = make_schedule("cosine", epochs, min(1, epochs - 1))
    return Pass(name, [net], optimizer, schedule, loss, batches, [name])


def exit_pass(name: str, net: Any, config: AdaMMLConfig, batches: SegmentBatches) -> Pass:
    """The early answer of a network that is not changed; see `SegmentNet.begin`."""

    def loss(batch: SegmentBatch, epoch: int) -> Tensor:
        return _mean_loss(net.begin(batch.x[name].flatten(0, 1))[1], batch.valid[name], batch.y)

    groups = decay_groups(net.exit, config.lr, config.weight_decay)
    schedule = make_schedule("cosine", config.exit_epochs, min(1, config.exit_epochs - 1))
    return Pass(
        "exit", [net.exit], make_optimizer("adamw", groups), schedule, loss, batches, [name]
    )


@torch.no_grad()
def exit_threshold(name: str, net: Any, batches: SegmentBatches) -> float:
    """Probability from which on the early answer is that of the whole network.

    The lowest at which it is, in at least `AGREEMENT` of the segments that would leave early.
    """
    sure, same = [], []
    for row in range(len(batches.kept)):
        shown = batches.whole(row, [name])
        there = shown.valid[name] > 0
        maps, early = net.begin(shown.x[name])
        probability, index = early.softmax(1).max(1)
        sure.append(probability[there])
        same.append((index == net.finish(maps).argmax(1))[there])
    order = torch.cat(sure).argsort(descending=True)
    agreed = torch.cat(same)[order].double().cumsum(0) / torch.arange(1, len(order) + 1)
    enough = (agreed >= AGREEMENT).nonzero().flatten()
    return float(torch.cat(sure)[order[enough[-1]]]) if len(enough) else 1.0


def networks_pass(
    model: AdaMML, config: AdaMMLConfig, batches: SegmentBatches, schedule: Schedule,
    temperature: Callable[[int], float],
) -> Pass:  # fmt: skip
    """All networks and the weights of their fusion, with decisions that the policy draws."""

    def loss(batch: SegmentBatch, epoch: int) -> Tensor:
        mask = mask_of(model, batch)
        with torch.no_grad():
            if config.lambdas:
                logits = model.policy(model.views(batch.x), mask)
                use = model.decide(logits, temperature(epoch), mask)
            else:
                use = mask
        fused = model.fuse(model.recognise(batch.x), use).mean(1)
        return class_loss(fused, batch.y).mean()

    parameters = [*model.nets.parameters(), model.free_weights]
    optimizer = torch.optim.SGD(
        parameters, lr=config.joint_lr, momentum=0.9, weight_decay=config.weight_decay
    )
    return Pass("networks", [model.nets], optimizer, schedule, loss, batches, model.inputs)


def policy_pass(
    model: AdaMML, config: AdaMMLConfig, batches: SegmentBatches, weights: Tensor,
    schedule: Schedule, temperature: Callable[[int], float], known: Known | None = None,
) -> Pass:  # fmt: skip
    """The policy alone: cross-entropy, and the cost of what it uses where the answer is right.

    Args:
        model: Its networks are frozen.
        config: Of the recipe.
        batches: Training clips.
        weights: (M,) cost weights, the strength included.
        schedule: Of the learning rate.
        temperature: Epoch → temperature of the decisions.
        known: What was computed once, if the networks do not change.
    """
    policy, layers = model.policy, config.joint == "policy-layers"

    def loss(batch: SegmentBatch, epoch: int) -> Tensor:
        if known is None:
            mask = mask_of(model, batch)
            with torch.no_grad():
                found = model.recognise(batch.x)
            logits = policy(model.views(batch.x), mask)
        else:
            mask, found = known.rows(known.valid, batch), known.rows(known.answers, batch)
            if layers:
                logits = policy.unroll(policy.joint(known.rows(known.features, batch)))
            else:
                logits = policy(model.views(batch.x), mask)
        use = model.decide(logits, temperature(epoch), mask)
        fused = model.fuse(found, use).mean(1)
        right = fused.detach().argmax(1) == batch.y
        return class_loss(fused, batch.y).mean() + selection_loss(use, right, weights)

    trained = [policy.joint, policy.lstm, policy.heads] if layers else [policy]
    optimizer = torch.optim.Adam(
        [parameter for part in trained for parameter in part.parameters()],
        lr=config.policy_lr, weight_decay=config.weight_decay,
    )  # fmt: skip
    inputs = model.inputs if known is None else () if layers else model.seen
    return Pass("policy", trained, optimizer, schedule, loss, batches, inputs)


def mask_of(model: AdaMML, batch: SegmentBatch) -> Tensor:
    """(B, S, M) where there is what the policy sees of each modality."""
    return torch.stack([batch.valid[name] for name in model.seen], 2)


@dataclass(frozen=True)
class Known:
    """What does not change while only the policy, or its last layers, are trained, for every clip.

    Attributes:
        answers: (S, M, classes) of the networks.
        features: (S, channels) of the policy's backbones.
        valid: (S, M) where there is what the policy sees.
    """

    answers: Sequence[Tensor]
    features: Sequence[Tensor]
    valid: Sequence[Tensor]

    def rows(self, values: Sequence[Tensor], batch: SegmentBatch) -> Tensor:
        """(B, S, ...) of the segments of a batch."""
        pairs = zip(batch.rows.tolist(), batch.places, strict=True)
        return torch.stack([values[row][places] for row, places in pairs])

    @classmethod
    @torch.no_grad()
    def of(cls, model: AdaMML, batches: SegmentBatches) -> Known:
        """Run the networks and the policy's backbones on all stored segments, as in prediction."""
        model.eval()
        answers, features, valid = [], [], []
        for row in range(len(batches.kept)):
            whole = batches.whole(row, model.inputs)
            x = {name: value.unsqueeze(0) for name, value in whole.x.items()}
            mask = torch.stack([whole.valid[name] for name in model.seen], 1).unsqueeze(0)
            answers.append(model.recognise(x)[0])
            features.append(model.policy.pooled(model.views(x), mask)[0])
            valid.append(mask[0])
        return cls(answers, features, valid)


def falling(config: AdaMMLConfig) -> Schedule:
    """The learning rates of the joint epochs: to a tenth at each milestone."""
    steps = [round(share * config.joint_epochs) for share in config.milestones]
    return lambda epoch: 0.1 ** sum(epoch >= step for step in steps)
