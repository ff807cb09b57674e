"""A level of the factor pretraining: where a backbone comes from, what its input looks like, and what becomes of its readout."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, model_validator

from sweep.study.base import Settings

LevelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.]+$")]
"""Factor levels become parts of model ids, joined by '-', and of file names."""


def on_pixel_scale(mean: tuple[float, float, float]) -> bool:
    """Whether channel means can be of pixels from 0 to 255, and not from 0 to 1."""
    return not any(mean) or (min(mean) >= 0 and 1 < max(mean) <= 255)


class Pretraining(Settings):
    """A level of the factor pretraining: the frozen backbone's weights and what its input looks like."""

    weights: str
    """Where the weights come from, as in 'npz:PATH' (see sweep.models.weights); paths start at the study file."""
    channel_order: Literal["RGB", "BGR"] | None = None
    """Overrides the channel order that the weights declare; their means follow it."""
    mean: tuple[float, float, float] | None = None
    """Overrides the channel means that are subtracted, on the 0-255 scale and in `channel_order`, which must be given too."""
    scale: Annotated[float, Field(gt=0)] | None = None
    """Overrides what pixels are multiplied with once the means are subtracted."""
    deviation: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None
    """Overrides what each channel is divided by then, in `channel_order`, which must be given too."""
    features: str | None = None
    """The layer whose output the readouts see; by default what the last dense layer sees."""
    readout: Literal["trained", "own"] = "trained"
    """Whether readouts are trained here, or the file's last dense layer is taken as it is; then its path may hold {task} and {seed}."""
    classes: dict[LevelName, tuple[str, ...]] = Field(default_factory=dict)
    """Of each task the classes of the file's last dense layer, in its order; needed where that is taken as it is."""

    @model_validator(mode="after")
    def _means_can_be_read_one_way_only(self) -> "Pretraining":
        if self.mean is not None and not on_pixel_scale(self.mean):
            raise ValueError(
                "mean: must be on the scale of pixels, 0 to 255; multiply by 255 what is on 0 to 1"
            )
        if self.mean is not None and self.channel_order is None and len(set(self.mean)) > 1:
            raise ValueError("mean: give channel_order too, RGB or BGR: the order of these three")
        if self.deviation is not None and self.channel_order is None and len(set(self.deviation)) > 1:
            raise ValueError("deviation: give channel_order too, RGB or BGR: the order of these three")
        return self

    @model_validator(mode="after")
    def _own_readouts_have_classes(self) -> "Pretraining":
        if self.readout == "own" and self.features is not None:
            raise ValueError(
                "features: the file's own last layer sees what it was trained on; leave this out"
            )
        if self.readout == "trained" and self.classes:
            raise ValueError("classes: readouts that are trained take theirs from the images; leave this out")
        for task, classes in self.classes.items():
            if len(set(classes)) < len(classes):
                raise ValueError(f"classes: those of {task} name one more than once")
        return self

    def named(self, level: str, task: str, seed: int) -> str:
        """Name of the backbone of a model on this level: the level's, with the task and the seed that its path holds."""
        held = [("{task}", f"-{task}"), ("{seed}", f"-s{seed}")]
        return level + "".join(part for mark, part in held if mark in self.weights)

    def filled(self, task: str, seed: int) -> "Pretraining":
        """The same of one task and seed."""
        weights = self.weights.replace("{task}", task).replace("{seed}", str(seed))
        classes = {name: own for name, own in self.classes.items() if name == task}
        return self.model_copy(update={"weights": weights, "classes": classes})
