"""iNNvestigate as a worker keeps it: one process, and a new one where the last has failed."""

import gc
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sweep.errors import WorkError
from sweep.keys import key_of
from sweep.lrp import Network, relevance
from sweep.stages.loaded import ModelRef, ReferenceEngine
from sweep.storage.store import Unit
from tests.lrp import nets

IMAGES = np.random.default_rng(0).normal(size=(2, *nets.small(0).input_shape)).astype(np.float32)


@pytest.mark.reference
def test_a_process_that_has_ended_is_replaced_and_leaves_no_files() -> None:
    network, maps = _one_model()
    reference = ReferenceEngine()
    expected = relevance(network, IMAGES, [0, 1], "preset_a")
    np.testing.assert_allclose(maps(reference), expected, atol=1e-5 * np.abs(expected).max())
    folder = Path(reference._process._path)
    reference._process._process.kill()
    with pytest.raises(WorkError, match="iNNvestigate failed: its process ended"):
        maps(reference)
    np.testing.assert_allclose(maps(reference), expected, atol=1e-5 * np.abs(expected).max())
    assert not folder.exists()

    # As where the worker is killed: its end of the pipe closes, and nobody else is left to remove the files.
    process, folder = reference._process._process, Path(reference._process._path)
    process.stdin.close()
    assert process.wait(60) == 0
    assert not folder.exists()
    reference._process.close()


@pytest.mark.reference
def test_a_process_ends_with_the_engine_that_keeps_it() -> None:
    _, maps = _one_model()
    reference = ReferenceEngine()
    maps(reference)
    process, folder = reference._process._process, Path(reference._process._path)
    # What a worker keeps may lie in a circle of references: then the collector comes to it at any moment.
    circle = [reference]
    circle.append(circle)  # type: ignore[arg-type]
    del reference, circle
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        gc.collect()
    assert process.poll() is not None
    assert not folder.exists()
    assert not [str(warning.message) for warning in said]


def _one_model() -> tuple[Network, Callable[[ReferenceEngine], np.ndarray]]:
    """A network, and the maps that an engine makes of it."""
    network = nets.small(0)
    model = ModelRef("model", "key", "identity", Unit("models", "model", key_of("model"), 1))
    return network, lambda engine: engine.maps(model, network, "preset_a", IMAGES, np.array([0, 1]))
