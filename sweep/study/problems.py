"""What pydantic finds wrong with a study file, as lines: the place, what is wrong, what to do."""

import difflib
import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

Problem = tuple[tuple[str, ...], str]
"""A place inside what is checked, and why it is refused."""


def refuse(*found: Problem) -> None:
    """In a validator: refuse what is checked for each place inside it and the reason, if there are any."""
    if found:
        details = [
            InitErrorDetails(
                type=PydanticCustomError("value_error", "{why}", {"why": why}), loc=place, input=None
            )
            for place, why in found
        ]
        raise ValidationError.from_exception_data("study", details)


def problems(error: ValidationError, model: type[BaseModel]) -> Iterator[str]:
    """A line for each problem that the check of `model` found."""
    found = error.errors()
    for problem in found:
        depth = len(problem["loc"])
        if problem["type"] == "too_short" and any(
            other["loc"][:depth] == problem["loc"] and len(other["loc"]) > depth for other in found
        ):
            continue  # only because what is in it was refused
        loc = tuple(part for part in problem["loc"] if part != "[key]")
        of_method = loc[:2] == ("factors", "attribution")
        if of_method:  # pydantic puts the method into the place, by which it knew the settings
            loc = loc[:3] + loc[4:]
        place = ".".join(map(str, loc))
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            known = "; docs/attributions.md tells the settings of each method"
            message = f"unknown key{known if of_method else _suggestion(model, loc)}"
        elif problem["type"] == "missing":
            message = "missing; this key is required"
        elif problem["type"] == "string_pattern_mismatch":
            message = "may hold only letters, digits, '_' and '.'"
        elif problem["type"] == "string_type" and isinstance(problem["input"], int | float):
            message = f"must be text; write '{problem['input']}', with the quotes"
        elif problem["type"] == "dict_type" and loc[0] == "factors" and len(loc) == 2:
            message = (
                "a further factor maps each of its levels to the finetune settings it changes"
                f"{_suggestion(model, loc)}"
            )
        elif problem["type"] != "value_error":
            message = f"{message[0].lower()}{message[1:]} (got {shortened(problem['input'])})"
        yield f"{place}: {message}" if place else message


def shortened(value: Any) -> str:
    """`value` as it would be written in Python, cut where it is long."""
    text = re.sub(r"\s+", " ", repr(value))
    return text if len(text) <= 60 else f"{text[:57]}..."


def _suggestion(model: type[BaseModel], place: tuple[int | str, ...]) -> str:
    """What may have been meant at `place`, from the keys that its block knows."""
    block: Any = model
    for part in place[:-1]:
        field = block.model_fields.get(part)
        block = field.annotation if field else None
        if not (isinstance(block, type) and issubclass(block, BaseModel)):
            return ""
    names = [field.alias or name for name, field in block.model_fields.items()]
    near = difflib.get_close_matches(str(place[-1]), names, n=1)
    known = ", ".join(names)
    return f"; did you mean '{near[0]}'?" if near else f"; known here: {known}"
