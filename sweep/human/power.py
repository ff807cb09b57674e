"""How many observers and targets an experiment needs, by the crossed test: in closed form, and by simulation.

On the scale of the preference the squared standard error is (Westfall, Kenny and Judd 2014, for crossed designs)

    observers' variance / observers + targets' variance / targets + variance of single answers / (observers × targets)

so that with ever more observers the second part stays: more targets help where they differ.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from scipy import optimize, stats

from sweep.arrays import Array
from sweep.keys import generator
from sweep.statistics import over_both

LEVEL = 0.05
"""Of the test, two-sided."""
WANTED = 0.8
"""Power that an effect is to be found with."""
ENDLESS = 10**6
"""Observers that are as good as any number."""
BATCH = 200
"""Studies that are simulated at once."""
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(41)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
_SHARES, _SHARE_WEIGHTS = (
    (np.polynomial.legendre.leggauss(80)[0] + 1) / 2,
    np.polynomial.legendre.leggauss(80)[1] / 2,
)


@dataclass(frozen=True)
class Effect:
    """A preference, and how much observers and targets differ."""

    preference: float
    """Mean probability of option a: above 0 and below 1."""
    sd_observers: float
    """Standard deviation between observers, on the logit scale."""
    sd_targets: float
    """Standard deviation between targets, on the logit scale."""

    @cached_property
    def centre(self) -> float:
        """The logit of an average observer and target, which gives the mean probability."""
        limit = 10 + 5 * (self.sd_observers + self.sd_targets)
        return float(optimize.brentq(lambda centre: self._mean(centre) - self.preference, -limit, limit))

    @cached_property
    def variances(self) -> tuple[float, float, float]:
        """Variance between observers, between targets and of single answers, of probabilities and not of logits."""
        chance = self._chances(self.centre)
        whole = self._mean(self.centre)
        observers = float(_WEIGHTS @ (chance @ _WEIGHTS - whole) ** 2)
        targets = float((_WEIGHTS @ chance - whole) ** 2 @ _WEIGHTS)
        return observers, targets, whole * (1 - whole) - observers - targets

    def _chances(self, centre: float) -> Array:
        logit = centre + self.sd_observers * _NODES[:, None] + self.sd_targets * _NODES
        chance: Array = 1 / (1 + np.exp(-logit))
        return chance

    def _mean(self, centre: float) -> float:
        return float(_WEIGHTS @ self._chances(centre) @ _WEIGHTS)


def power(effect: Effect, observers: int, targets: int) -> float:
    """Chance that the crossed test finds the effect, by the non-central t distribution."""
    answers = observers * targets
    of_observers, of_targets, of_answers = effect.variances
    rest = of_answers / answers
    first, second = of_observers / observers + rest, of_targets / targets + rest
    variance = first + second - rest
    df = variance**2 / (
        first**2 / (observers - 1) + second**2 / (targets - 1) + rest**2 / ((observers - 1) * (targets - 1))
    )
    shift = (effect.preference - 0.5) / np.sqrt(variance)
    # SciPy's non-central t has no value for large shifts: the mean over the distribution of the estimated error.
    critical = stats.t.ppf(1 - LEVEL / 2, df) * np.sqrt(stats.chi2.ppf(_SHARES, df) / df)
    return float(_SHARE_WEIGHTS @ (stats.norm.sf(critical - shift) + stats.norm.cdf(-critical - shift)))


def smallest(effect: Effect, observers: int, targets: int) -> float | None:
    """The smallest preference above 0.5 that is found with the power WANTED; None where none is."""

    def lacking(preference: float) -> float:
        return power(Effect(preference, effect.sd_observers, effect.sd_targets), observers, targets) - WANTED

    return float(optimize.brentq(lacking, 0.5, 0.99, xtol=1e-5)) if lacking(0.99) > 0 else None


def simulated_power(effect: Effect, observers: int, targets: int, studies: int, seed: int = 0) -> float:
    """Share of simulated studies in which the crossed test finds the effect."""
    draws = generator(
        "power", effect.preference, effect.sd_observers, effect.sd_targets, observers, targets, seed
    )
    found = 0
    for start in range(0, studies, BATCH):
        answers = simulated_answers(effect, observers, targets, min(BATCH, studies - start), draws)
        found += int((over_both(answers).p < LEVEL).sum())
    return found / studies


def simulated_answers(
    effect: Effect, observers: int, targets: int, studies: int, draws: np.random.Generator
) -> Array:
    """Answers (study, observer, target) of studies with new observers and targets: 1 for option a, 0 for option b."""
    of_observers = effect.sd_observers * draws.normal(size=(studies, observers, 1))
    of_targets = effect.sd_targets * draws.normal(size=(studies, 1, targets))
    chance = 1 / (1 + np.exp(-(effect.centre + of_observers + of_targets)))
    answers: Array = (draws.random((studies, observers, targets)) < chance).astype(np.float64)
    return answers


def comparison(effect: Effect, observers: int, targets: int, studies: int) -> pa.Table:
    """The power as asked, with more observers, with more targets, and with both: a row each."""
    sizes = {
        "as asked": (observers, targets),
        "twice the observers": (2 * observers, targets),
        "twice the targets": (observers, 2 * targets),
        "twice both": (2 * observers, 2 * targets),
    }
    rows = []
    for name, size in sizes.items():
        found = smallest(effect, *size)
        rows.append(
            {
                "design": name,
                "observers": size[0],
                "targets": size[1],
                "power": f"{power(effect, *size):.1%}",
                f"simulated ({studies:,})": f"{simulated_power(effect, *size, studies):.1%}",
                f"found with {WANTED:.0%}": "none" if found is None else f"{found:.1%}",
            }
        )
    return pa.Table.from_pylist(rows)


def in_words(effect: Effect, observers: int, targets: int) -> str:
    """Whether more observers or more targets help, and how far observers alone can lead."""
    of_observers, of_targets, _ = effect.variances
    now, more_observers, more_targets, endless = (
        power(effect, *size)
        for size in (
            (observers, targets),
            (2 * observers, targets),
            (observers, 2 * targets),
            (ENDLESS, targets),
        )
    )
    better = (
        "targets help more than observers"
        if more_targets > more_observers
        else "observers help more than targets"
    )
    return (
        f"Here more {better}: twice the targets raise the power from {now:.1%} to {more_targets:.1%}, twice the observers "
        f"to {more_observers:.1%}. With ever more observers and {targets} targets it comes to {endless:.1%}: the standard "
        f"error stays at {100 * np.sqrt(of_targets / targets):.1f} points, because targets differ (standard deviation "
        f"{100 * np.sqrt(of_targets):.0f} points; observers {100 * np.sqrt(of_observers):.0f})."
    )
