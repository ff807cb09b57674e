"""How long the rest of a whole study takes: an estimate made before it began, corrected by what has been done since."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Forecast:
    """What a study was expected to take."""

    expected: Mapping[str, float]
    """Seconds of each stage that is still to be done, in their order; 0 for one that is stored."""
    measured: bool
    """Whether the seconds rest on a measurement of this machine; otherwise only their proportions mean something."""
    starts: Mapping[str, float] = field(default_factory=dict)
    """How many of a stage's seconds pass before its first piece of work begins."""

    def left(self, spent: Mapping[str, float], stage: str, share: float, elapsed: float) -> float | None:
        """Seconds until the study ends; None while nothing is known.

        Args:
            spent: seconds that finished stages have taken.
            stage: the stage that goes on.
            share: how much of its work is done, from 0 to 1.
            elapsed: seconds that it has taken so far.

        The stages to come take so much longer than expected as the work done so far did. Of the current stage the same
        is assumed at its beginning, and its own pace counts the more the further it is.
        """
        start = self.starts.get(stage, 0.0)
        work = self.expected.get(stage, 0.0) - start
        finished = {
            name: seconds for name, seconds in spent.items() if self.expected.get(name) and name != stage
        }
        expected = sum(self.expected[name] for name in finished) + (
            start + work * share if share > 0 else 0.0
        )
        actual = sum(finished.values()) + (elapsed if share > 0 else 0.0)
        if expected > 0 and actual > 0:
            pace = actual / expected
        elif self.measured:
            pace = 1.0
        else:
            return None
        later = sum(
            seconds for name, seconds in self.expected.items() if name not in finished and name != stage
        )
        if share == 0:
            return (start + work) * pace + later * pace
        own = work * (1 - share) * pace
        worked = max(elapsed - start * pace, 0.0)
        return (1 - share) * own + share * worked * (1 - share) / share + later * pace
