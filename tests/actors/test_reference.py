"""iNNvestigate as a worker keeps it: one process per model, and a new one where the last has failed."""

from pathlib import Path

import numpy as np
import pytest

from sweep.errors import WorkError
from sweep.keys import key_of
from sweep.lrp import Dense, Network, relevance
from sweep.stages.loaded import ModelRef, ReferenceEngine
from sweep.storage.store import Unit
from tests.lrp import nets


@pytest.mark.reference
def test_a_process_that_has_ended_is_replaced_and_leaves_no_files() -> None:
    network = nets.small(0)
    backbone, readout = Network(network.layers[:-1], network.input_shape), network.layers[-1]
    assert isinstance(readout, Dense)
    images = np.random.default_rng(0).normal(size=(2, *network.input_shape)).astype(np.float32)
    model = ModelRef("model", "key", "identity", Unit("models", "model", key_of("model"), 1))
    reference = ReferenceEngine()

    def maps() -> np.ndarray:
        return reference.maps(model, backbone, readout, "preset_a", images, np.array([0, 1]))

    expected = relevance(network, images, [0, 1], "preset_a")
    np.testing.assert_allclose(maps(), expected, atol=1e-5 * np.abs(expected).max())
    folder = Path(reference._process._path)
    reference._process._process.kill()
    with pytest.raises(WorkError, match="iNNvestigate failed: its process ended"):
        maps()
    np.testing.assert_allclose(maps(), expected, atol=1e-5 * np.abs(expected).max())
    assert not folder.exists()

    # As where the worker is killed: its end of the pipe closes, and nobody else is left to remove the files.
    process, folder = reference._process._process, Path(reference._process._path)
    process.stdin.close()
    assert process.wait(60) == 0
    assert not folder.exists()
    reference._process.close()
