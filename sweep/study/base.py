"""What all blocks of a study file have in common."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Base of every block: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
