"""The lines of a journal: what a page, a collector or JATOS writes down of an experiment, one JSON object a line.

The first line of a file is a `Header`. A `SessionLine` comes before the `ResponseLine`s of its session, a `FinishLine`
after them. Downloads of a page and results of JATOS have the same lines, without the moment of receipt.
"""

import json
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)

VERSION = 1
"""Version of the form of the lines."""


_MOMENT = "must be a moment in UTC, as in 2026-01-31T12:00:00Z"


def _text(moment: Any) -> Any:
    if not isinstance(moment, str | datetime):
        raise ValueError(_MOMENT)
    return moment


def _utc(moment: datetime) -> datetime:
    if moment.utcoffset() != timedelta(0):
        raise ValueError(_MOMENT)
    return moment


Name: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
"""An id: letters, digits, '-' and '_'."""
Moment: TypeAlias = Annotated[datetime, Field(strict=False), BeforeValidator(_text), AfterValidator(_utc)]
"""A moment in UTC, ISO 8601, as in 2026-01-31T12:00:00.123Z."""
Milliseconds: TypeAlias = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Header(_Record):
    """Says which experiment the lines are of."""

    kind: Literal["experiment"]
    experiment_id: Name
    version: Literal[1]


class SessionLine(_Record):
    """A session has begun."""

    kind: Literal["session"]
    session_id: Name
    subject_id: Name
    """The observer, under a pseudonym."""
    list: Annotated[int, Field(ge=1)]
    consented: Moment
    started: Moment


class ResponseLine(_Record):
    """A trial was answered."""

    kind: Literal["response"]
    session_id: Name
    trial_id: Name
    position: Annotated[int, Field(ge=1)]
    onset: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
    """When the pictures appeared, seconds from the start of the session."""
    response_time_ms: Milliseconds
    """From that moment to the answer, milliseconds."""
    side: Literal["left", "right"]
    choice: Literal["a", "b"]
    source: Literal["key", "mouse", "touch", "pen"]
    hidden: bool
    resumed: bool
    image_px: Annotated[float, Field(gt=0, le=1e5, allow_inf_nan=False)]
    """Width of each picture on the page, CSS pixels."""
    received: Moment | None = None
    """When the collector took the answer; none without a collector."""


class FinishLine(_Record):
    """A session has ended."""

    kind: Literal["finish"]
    session_id: Name
    finished: Moment


Line: TypeAlias = Annotated[Header | SessionLine | ResponseLine | FinishLine, Field(discriminator="kind")]
_LINES: TypeAdapter[Any] = TypeAdapter(Line)


class BadLine(ValueError):
    """A line is none of a journal; the message says which field is wrong in what, and never its value."""


def parsed(line: bytes | str) -> Header | SessionLine | ResponseLine | FinishLine:
    """The line as an object. Raises BadLine."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        raise BadLine("is no JSON") from None
    try:
        found: Header | SessionLine | ResponseLine | FinishLine = _LINES.validate_python(fields)
    except ValidationError as error:
        raise BadLine(_in_words(error)) from None
    return found


def _in_words(error: ValidationError) -> str:
    """The first problem, by the field's name and the kind of problem."""
    problem = error.errors(include_input=False, include_url=False, include_context=False)[0]
    # A field that nobody declared is named by the sender, so its name is not repeated either.
    place = "" if problem["type"] == "extra_forbidden" else ".".join(str(part) for part in problem["loc"][1:])
    # Messages of pydantic may repeat a value; those of this module do not.
    own = problem["type"] == "value_error"
    kind = problem["msg"].removeprefix("Value error, ") if own else problem["type"].replace("_", " ")
    return f"{place}: {kind}" if place else kind
