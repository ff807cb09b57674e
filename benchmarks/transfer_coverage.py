"""How often the 95 percent intervals of queries/transfer.sql hold the truth, on simulated studies.

    python -m benchmarks.transfer_coverage [--studies 1000]

Each study has one bin: k destinations, 101 images, five levels, right or wrong for each. A destination's own mask costs
0.3 of its accuracy, give or take an effect of the model and of the image; a foreign mask costs T times as much, give
or take an effect of its own. The estimator is its NumPy twin (tests/queries/resampled.py), which the tests hold to the
SQL; "percentile" is the plain percentile interval of images and models resampled together, for comparison.
"""

import argparse
from dataclasses import dataclass

import numpy as np

from tests.queries.resampled import Array, multinomial, transfer

LEVELS = np.array([0.5, 1, 1, 1, 0.5]) / 4
"""Weights of five evenly spaced levels in the trapezoid rule."""
UNMASKED, OWN_LOSS = 0.9, 0.3


@dataclass(frozen=True)
class Case:
    """What a study's losses vary by: standard deviations in units of accuracy."""

    name: str
    models: float
    images: float
    foreign: float = 0.0
    """Of a destination's effect on its loss under foreign masks alone."""
    sources: float = 0.0
    """Of a source's effect that all destinations share; the bin has five sources."""
    k: int = 5
    t: float = 0.5
    n: int = 101


CASES = (
    Case("models and images, T = 0", 0.05, 0.1, 0.03, t=0.0),
    Case("models and images, T = 0.5", 0.05, 0.1, 0.03),
    Case("models and images, T = 1", 0.05, 0.1, 0.03, t=1.0),
    Case("chance alone", 0.0, 0.0),
    Case("models", 0.1, 0.0, 0.05),
    Case("images, mostly", 0.02, 0.15, 0.01),
    Case("models and images, ten models", 0.05, 0.1, 0.03, k=10),
    Case("models and images, two models", 0.05, 0.1, 0.03, k=2),
    Case("images, one model", 0.0, 0.1, k=1),
    Case("models, images and sources", 0.05, 0.1, 0.03, sources=0.05),
)


def main() -> None:
    """Print a row per case."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=300)
    chosen = parser.parse_args()
    print("| losses vary by | loss | own loss | T | T given | percentile: loss | percentile: T |")
    print("|---|---|---|---|---|---|---|")
    for case in CASES:
        shares = coverage(case, chosen.studies, chosen.resamples)
        print(f"| {case.name} | " + " | ".join(f"{100 * share:.1f} %" for share in shares) + " |", flush=True)


def coverage(case: Case, studies: int, resamples: int) -> list[float]:
    """Shares of the studies whose intervals hold the truth, in the order of the printed columns."""
    rng = np.random.default_rng(1)
    hits, given, ratios = np.zeros(4), 0, 0
    for _ in range(studies):
        loss, own = simulate(case, rng)
        of_images, of_models = multinomial(rng, resamples, case.n), multinomial(rng, resamples, case.k)
        found = transfer(loss, own, of_images, of_models)
        both = [
            np.einsum("rk,kn,rn->r", of_models / case.k, values, of_images / case.n) for values in (loss, own)
        ]
        low, high = np.quantile(both[0], [0.025, 0.975])
        ratio_low, ratio_high = np.quantile(both[0] / both[1], [0.025, 0.975])
        truth = case.t * OWN_LOSS
        hits += [
            found["loss_low"] <= truth <= found["loss_high"],
            found["own_low"] <= OWN_LOSS <= found["own_high"],
            low <= truth <= high,
            ratio_low <= case.t <= ratio_high,
        ]
        if not np.isnan(found["transfer"]):
            given += 1
            ratios += found["low"] <= case.t <= found["high"]
    loss_share, own_share, percentile_loss, percentile_ratio = (hits / studies).tolist()
    return [
        loss_share,
        own_share,
        ratios / max(given, 1),
        given / studies,
        percentile_loss,
        percentile_ratio,
    ]


def simulate(case: Case, rng: np.random.Generator) -> tuple[Array, Array]:
    """Give the specific loss of each destination and image under foreign masks, and under its own."""

    def effects(deviation: float, *shape: int) -> Array:
        # Cut at two standard deviations on both sides, which keeps chances within 0 and 1 and means where they are.
        return np.clip(rng.normal(size=shape), -2, 2) * deviation

    def area(chance: Array) -> Array:
        hits = rng.random((len(LEVELS), case.k, case.n)) < chance
        return np.tensordot(LEVELS, hits.astype(np.float64), axes=1)

    unmasked = np.full((case.k, case.n), UNMASKED)
    own = OWN_LOSS + effects(case.images, 1, case.n) + effects(case.models, case.k, 1)
    foreign = case.t * own + effects(case.foreign, case.k, 1) + effects(case.sources, 5).mean()
    return area(unmasked) - area(unmasked - foreign), area(unmasked) - area(unmasked - own)


if __name__ == "__main__":
    main()
