"""A recipe with two stages: first the head on frozen features, then every layer.

Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution",
ICLR 2022 (arXiv 2202.10054). In the package this would be the file `train/recipes/NAME.py`.
"""

from __future__ import annotations

from pydantic import Field

from foveate.models.weights.run import load_run, read_run, write_run
from foveate.train.recipe import Recipe, RecipeContext
from foveate.train.recipes import supervised
from foveate.train.recipes.supervised import SupervisedConfig
from foveate.train.run_state import RunSummary


class ProbeThenTuneConfig(SupervisedConfig):
    """Settings of both stages, and the length of the first."""

    head_epochs: int = Field(10, ge=1, description="of the head, before every layer is trained")


def _train(context: RecipeContext) -> RunSummary:
    config: ProbeThenTuneConfig = context.config
    shared = config.model_dump(include=set(SupervisedConfig.model_fields))
    head = SupervisedConfig(**shared | {"freeze": "backbone", "epochs": config.head_epochs})
    probed = context.train_stage("head", supervised.RECIPE, head)
    tuned = context.train_stage(
        "all",
        supervised.RECIPE,
        SupervisedConfig(**shared | {"model": str(probed), "freeze": "none"}),
    )
    card = read_run(tuned)
    own = {"recipe": context.recipe.name, "configuration": config.model_dump(mode="json")}
    write_run(
        context.folder, {"network": load_run(tuned).network}, card.model_copy(update=own)
    )  # fmt: skip
    return context.summarize(card.figures, [])


RECIPE = Recipe("probe_then_tune", ProbeThenTuneConfig, _train)
