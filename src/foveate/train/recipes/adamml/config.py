"""Settings of the recipe `adamml`."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from foveate.core import FoveateError
from foveate.models.adamml import FRAMES
from foveate.models.backbones_weights import BACKBONES, find_file
from foveate.models.registry import is_video_network
from foveate.train.config import RecipeConfig

ALIASES = {"audio": "sound", "rgb-difference": "rgbdiff", "vectors": "mv", "motion-vectors": "mv"}
SMALL = "mobilenetv3_small_050"
PRETRAINED = "efficientnet_lite0.imagenet_lite0"

# Weights of the cost in the public code, by set of modalities.
PUBLISHED_COSTS = {
    frozenset({"rgb", "sound"}): {"rgb": 1.0, "sound": 0.05},
    frozenset({"rgb", "flow"}): {"rgb": 1.0, "flow": 1.0},
    frozenset({"rgb", "sound", "flow"}): {"rgb": 0.5, "sound": 0.05, "flow": 0.8},
}


class AdaMMLConfig(RecipeConfig):
    """Settings of the recipe `adamml`."""

    free_on_resume: ClassVar = frozenset({"cache"})

    modalities: tuple[str, ...] = Field(
        ("rgb", "sound"),
        min_length=1,
        description="of rgb, patch (frames cut out where things move), rgbdiff, flow, sound "
        "(audio), yamnet (its embedding of sound), mv",
    )
    lambdas: tuple[float, ...] = Field(
        (0.1, 0.5, 2.0),
        description="factors on the cost weights, one operating point each; none: no policy, all "
        "modalities are used",
    )
    costs: Literal["measured", "published"] = Field(
        "measured", description="cost weights: milliseconds on this machine, or the paper's"
    )
    visual: str | None = Field(
        None,
        description="backbone on frames, or a video network such as movinet-a0-stream-lite.k600; "
        "None: EfficientNet-Lite0 if installed, else small",
    )
    motion: str | None = Field(
        None,
        description="backbone on rgbdiff, flow and mv; None: as visual, small for video networks",
    )
    audio: str = Field(SMALL, description="backbone on spectrograms")
    policy: str = Field(SMALL, description="backbone of the policy on frames")
    policy_audio: str = Field(SMALL, description="backbone of the policy on spectrograms")
    proxy: Literal["rgbdiff", "mv", "flow"] = Field(
        "rgbdiff", description="what the policy sees in place of flow"
    )
    size: int = Field(112, ge=32, le=1024, description="side of frames in pixels")
    resize: Literal["shorter side", "squash"] = Field(
        "shorter side", description="shorter side: centre square; squash: the whole frame"
    )
    policy_size: int = Field(64, ge=32, le=1024, description="side of the policy's frames")
    patch_size: int = Field(64, ge=16, le=1024, description="side of the modality patch in pixels")
    exit: str | None = Field(
        None,
        description="stage of visual with an early answer for frames, such as blocks.2 or layer2; "
        "None: no early exit",
    )
    exit_epochs: int = Field(5, ge=1, description="of the early answer, the network frozen")
    columns: int = Field(64, ge=32, le=256, description="times of a spectrogram; the paper's: 256")
    frames: int = Field(4, ge=1, le=64, description="of a segment")
    seconds: float = Field(1.28, gt=0, le=60, description="of a segment")
    segments: int = Field(5, ge=1, le=64, description="of a clip in a step of training")
    window: int = Field(10, ge=1, le=256, description="segments that are decided on together")
    kept: int = Field(12, ge=1, le=256, description="segments of a video that are stored")
    cache: str | None = Field(None, description="folder of the stored files; None: the run folder")
    hidden: int = Field(256, ge=1, description="width of the policy's joined features")
    state: int = Field(128, ge=1, description="width of the policy's recurrent state")
    dropout: float = Field(0.5, ge=0, lt=1, description="before the outputs of the networks")
    epochs: int = Field(30, ge=1, description="of each modality by itself")
    visual_epochs: int | None = Field(
        None, ge=1, description="of rgb and patch by themselves; None: as epochs"
    )
    policy_epochs: int = Field(
        10, ge=0, description="of each backbone of the policy by itself, on the labels"
    )
    warmup_epochs: int = Field(5, ge=0, description="of the networks, with an untrained policy")
    joint_epochs: int = Field(20, ge=1, description="of networks and policy in turn")
    joint: Literal["alternate", "policy", "policy-layers"] = Field(
        "alternate",
        description="what is trained in joint epochs: networks and policy in turn; the policy "
        "alone, on answers of the networks computed once; or only its layers behind its "
        "backbones, whose features are computed once too",
    )
    held_out: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the training clips that the networks are not trained on, and the "
        "policy is: on clips that it knows, a network seems useful where it is not",
    )
    tune_epochs: int = Field(10, ge=0, description="of the networks, with the trained policy")
    batch: int = Field(16, ge=2)
    lr: float = Field(
        1e-3,
        gt=0,
        description="of each modality by itself (AdamW, cosine); a tenth for pretrained backbones",
    )
    joint_lr: float = Field(1e-3, gt=0, description="of the networks afterwards (SGD)")
    policy_lr: float = Field(1e-3, gt=0, description="of the policy (Adam); the paper's is 1e-2")
    milestones: tuple[float, ...] = Field(
        (0.5, 0.75), description="fractions of the joint epochs at which both rates fall to a tenth"
    )
    temperature: float = Field(5.0, gt=0, description="of the decisions that are drawn")
    cooling: float = Field(0.965, gt=0, le=1, description="factor on it after each joint epoch")
    weight_decay: float = Field(1e-4, ge=0)
    flip: bool = Field(True, description="mirror half of the clips")
    timed: int = Field(6, ge=1, description="validation clips on which modalities are timed")
    seed: int = Field(0, ge=0)
    train_split: str = "train"
    val_split: str = "val"

    @field_validator("modalities", mode="before")
    @classmethod
    def _by_usual_names(cls, names: Any) -> Any:
        names = names.split(",") if isinstance(names, str) else names
        if isinstance(names, list | tuple):
            return tuple(ALIASES.get(str(name).strip(), name) for name in names)
        return names

    @field_validator("lambdas", mode="before")
    @classmethod
    def _several(cls, values: Any) -> Any:
        if isinstance(values, int | float):
            return (values,)
        return values

    @field_validator("lambdas")
    @classmethod
    def _ascending(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if any(value < 0 for value in values) or list(values) != sorted(set(values)):
            raise ValueError("must be ascending and not negative")
        return values

    def backbone(self, modality: str) -> str:
        """The backbone of a modality's network."""
        if modality == "sound":
            return self.audio
        visual = self.visual or default_visual()
        if modality in FRAMES:
            return visual
        return self.motion or (SMALL if is_video_network(visual) else visual)

    def alone_epochs(self, modality: str) -> int:
        """Epochs of a modality by itself."""
        return (self.visual_epochs if modality in FRAMES else None) or self.epochs


def default_visual() -> str:
    """EfficientNet-Lite0 with image weights if they are installed, else a small network."""
    try:
        find_file(BACKBONES[PRETRAINED])
    except FoveateError:
        return SMALL
    return PRETRAINED
