"""What of each model is trained, and how: the block `finetune` of a study file, and what a level of a further factor changes in it."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_serializer, model_validator

from sweep.study.base import Settings

Epochs = Annotated[int, Field(ge=1, le=2**31 - 1)]
Units = Annotated[int, Field(ge=1, le=2**20)]
Patience = Annotated[int, Field(ge=1)]
Schedule = Literal["constant", "cosine"]


LATER = ("from_layer", "hidden", "learning_rate_schedule", "patience", "mirror")
"""Settings of `finetune` that are not written down where they have their defaults: keys of models that were trained before
these settings existed stay as they were."""


def _said(settings: BaseModel, values: dict[str, Any]) -> dict[str, Any]:
    """Values of settings as they stand in a study file, without defaults of LATER."""
    fields = type(settings).model_fields
    left_out = {name for name in LATER if getattr(settings, name) == fields[name].default}
    left_out |= {alias for name in left_out if (alias := fields[name].alias)}
    return {
        fields[name].alias or name if name in fields else name: value
        for name, value in values.items()
        if name not in left_out
    }


class Finetune(Settings):
    """What of each model is trained on the frozen layers' features, and how (docs/depths.md)."""

    epochs: Epochs = 25
    """How often every training image is seen."""
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Images in a step of training."""
    learning_rate: Annotated[float, Field(gt=0)] = 0.001
    """Step size of Adam (Kingma & Ba 2015)."""
    standardize: bool = True
    """Train on z-scored features (statistics of the training split), then fold the scaling into the weights. In a deeper head
    it is what the first new layer sees that is z-scored."""
    from_layer: Annotated[str | None, Field(alias="from")] = None
    """First layer of the network that is trained again, with all behind it; by default the readout alone is trained."""
    hidden: tuple[Units, ...] = ()
    """Units of new dense layers with ReLU between the features and the readout, first to last."""
    learning_rate_schedule: Schedule = "constant"
    """What becomes of the learning rate: it stays, or falls to zero as half a cosine over all epochs."""
    patience: Patience | None = None
    """End training once the loss on the images held back has not fallen for so many epochs, and take the weights of the epoch
    with the lowest one; by default all epochs are trained, and the last one's weights are taken."""
    mirror: bool = False
    """Show each training image left-right mirrored in half of the epochs, by chance."""

    @property
    def is_deep(self) -> bool:
        """Whether more than a readout is trained."""
        return self.from_layer is not None or bool(self.hidden)

    @model_serializer(mode="wrap")
    def _without_what_is_default(self, handler: Any) -> dict[str, Any]:
        return _said(self, handler(self))


class FinetuneOverrides(Settings):
    """What a level of a further factor changes in `finetune`."""

    epochs: Epochs | None = None
    batch_size: Annotated[int, Field(ge=1)] | None = None
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    standardize: bool | None = None
    from_layer: Annotated[str | None, Field(alias="from")] = None
    hidden: tuple[Units, ...] | None = None
    learning_rate_schedule: Schedule | None = None
    patience: Patience | None = None
    mirror: bool | None = None

    @model_validator(mode="after")
    def _changes_something(self) -> "FinetuneOverrides":
        if not self.changes:
            raise ValueError("this level changes nothing; name the finetune settings it overrides")
        return self

    @property
    def changes(self) -> dict[str, Any]:
        """The settings that it overrides, by field of `Finetune`."""
        return {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}

    @model_serializer(mode="wrap")
    def _as_in_the_file(self, handler: Any) -> dict[str, Any]:
        return _said(self, handler(self))
