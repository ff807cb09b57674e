"""The intervals of transfer.sql a second time, in NumPy."""

from hashlib import md5

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]


def drawn(label: str, resamples: int, size: int, seed: int = 0) -> Array:
    """How often each of `size` units is in each resample, shape (resamples, size), by the numbers SQL draws."""
    times = np.zeros((resamples, size))
    for resample in range(1, resamples + 1):
        for place in range(1, size + 1):
            digest = md5(f"{seed}|{label}|{resample}|{place}".encode(), usedforsecurity=False).digest()
            times[resample - 1, int.from_bytes(digest[8:], "little") % size] += 1
    return times


def multinomial(rng: np.random.Generator, resamples: int, size: int) -> Array:
    """The same from a generator, for simulations that need many."""
    return rng.multinomial(size, np.full(size, 1 / size), size=resamples).astype(np.float64)


def transfer(loss: Array, own: Array, of_images: Array, of_models: Array) -> dict[str, float]:
    """Loss, own loss and their ratio with 95 percent intervals.

    Args:
        loss: specific loss per destination and image, mean over the sources of a bin.
        own: the same under the destinations' own masks.
        of_images: how often each resample holds each image.
        of_models: how often each resample holds each destination.
    """
    k, n = loss.shape
    by_image = of_images / n
    by_model = of_models / k
    replicates = {
        name: (
            by_model @ values.mean(axis=1),
            by_image @ values.mean(axis=0),
            np.einsum("rk,kn,rn->r", by_model, values, by_image),
        )
        for name, values in (("loss", loss), ("own", own))
    }
    few_models, few_images = (size / (size - 1) if size > 1 else 1.0 for size in (k, n))

    def spread(of_loss: float, of_own: float) -> tuple[float, float, float]:
        parts = [
            float(np.var(of_loss * a + of_own * b))
            for a, b in zip(replicates["loss"], replicates["own"], strict=True)
        ]
        models, images = parts[0] * few_models, parts[1] * few_images
        both = (parts[2] - parts[0] - parts[1]) * few_models * few_images
        both = max(0.0, min(both, models, images))
        variance = models + images - both
        scale = (models**2 / (k - 1) if k > 1 else 0.0) + (images**2 / (n - 1) if n > 1 else 0.0)
        df = variance**2 / scale if scale > 0 else max(k, n) - 1
        share = variance / (models + images) if models + images > 0 else 1.0
        return variance, share, float(stats.t.ppf(0.975, df))

    found: dict[str, float] = {}
    for name, values, weights in (("loss", loss, (1.0, 0.0)), ("own", own, (0.0, 1.0))):
        variance, _, t = spread(*weights)
        mean = float(values.mean())
        found |= {
            f"{name}_loss" if name == "own" else name: mean,
            f"{name}_low": mean - t * variance**0.5,
            f"{name}_high": mean + t * variance**0.5,
        }
    ratio = found["loss"] / found["own_loss"]
    _, share, t = spread(1.0, -ratio)

    def matrix(a: str, b: str) -> float:
        x, y = replicates[a], replicates[b]
        covariances = [float(np.mean(p * q) - np.mean(p) * np.mean(q)) for p, q in zip(x, y, strict=True)]
        return t**2 * share * (few_models * covariances[0] + few_images * covariances[1])

    quadratic = found["own_loss"] ** 2 - matrix("own", "own")
    linear = found["own_loss"] * found["loss"] - matrix("loss", "own")
    constant = found["loss"] ** 2 - matrix("loss", "loss")
    given = found["own_low"] > 0 and quadratic > 0
    root = max(linear**2 - quadratic * constant, 0.0) ** 0.5
    found["transfer"] = ratio if given else np.nan
    found["low"] = (linear - root) / quadratic if given else np.nan
    found["high"] = (linear + root) / quadratic if given else np.nan
    return found
