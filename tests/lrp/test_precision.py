"""The package computes in full float32 and leaves the process as it was."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from sweep.errors import InputError
from sweep.lrp import Dense, forward, graph, relevance, shared_relevance
from sweep.lrp.precision import ONEDNN_MODE, full_precision
from sweep.lrp.program import program_of
from sweep.numerics import readout as training
from sweep.numerics.evaluation import Evaluator, Readouts
from sweep.numerics.readout import Examples, Readout, ReadoutTraining
from sweep.study import Finetune
from tests.lrp.nets import small

TF32 = tf.config.experimental
OPTIONS = tf.config.optimizer


def state() -> tuple[bool, bool]:
    return (
        TF32.tensor_float_32_execution_enabled(),
        bool(OPTIONS.get_experimental_options().get("auto_mixed_precision")),
    )


@pytest.fixture
def rounding_process() -> Iterator[None]:
    """A process whose user lets TensorFlow round, as TensorFlow does by itself on recent GPUs."""
    before = state()
    TF32.enable_tensor_float_32_execution(True)
    OPTIONS.set_experimental_options({"auto_mixed_precision": True})
    yield
    TF32.enable_tensor_float_32_execution(before[0])
    OPTIONS.set_experimental_options({"auto_mixed_precision": before[1]})


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[bool, bool]]]:
    """The settings at the time each graph and each eager product runs."""
    found: list[tuple[bool, bool]] = []

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            # Inside a graph the note is taken when the graph runs, not when it is traced.
            tf.py_function(lambda: found.append(state()), [], [])
            return function(*arguments, **named)

        return call

    for name in ("run", "record", "propagate"):
        monkeypatch.setattr(graph, name, watched(getattr(graph, name)))
    monkeypatch.setattr(tf, "matmul", watched(tf.matmul))
    program_of.cache_clear()
    yield found
    program_of.cache_clear()


def _maps() -> None:
    relevance(small(0), np.ones((2, 12, 12, 3), np.float32), 0)


def _shared_maps() -> None:
    backbone = small(0, n_classes=5)
    heads = [Dense(np.ones((5, 3), np.float32), np.zeros(3, np.float32))]
    shared_relevance(backbone, heads, np.ones((2, 12, 12, 3), np.float32), "predicted")


def _forward() -> None:
    forward(small(0), np.ones((2, 12, 12, 3), np.float32))


def _evaluator() -> None:
    Evaluator(small(0)).features(np.ones((2, 12, 12, 3), np.float32))


@pytest.mark.parametrize("compute", [_maps, _shared_maps, _forward, _evaluator])
@pytest.mark.usefixtures("rounding_process")
def test_every_caller_gets_full_precision_and_keeps_their_settings(
    compute: Callable[[], None], seen: list[tuple[bool, bool]]
) -> None:
    compute()
    assert seen
    assert set(seen) == {(False, False)}
    assert state() == (True, True)


@pytest.mark.usefixtures("rounding_process")
def test_readouts_answer_and_learn_in_full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []

    class Watched:
        def __matmul__(self, kernel: Any) -> Any:
            found.append(state())
            return tf.ones((2, 3)) @ kernel

    Readouts([Readout.zeros(3, 2)]).logits(Watched())
    jitted = training._jitted

    def noted(function: Any) -> Any:
        found.append(state())
        return jitted(function)

    monkeypatch.setattr(training, "_jitted", noted)
    labels = np.array([0, 1, 0, 1])
    features = np.arange(12, dtype=np.float32).reshape(4, 3)
    ReadoutTraining(Examples(features, labels, np.arange(4) == 3), 2, Finetune(), "key").epoch()
    assert len(found) == 4
    assert set(found) == {(False, False)}
    assert state() == (True, True)


@pytest.mark.usefixtures("rounding_process")
def test_blocks_in_several_threads_restore_the_settings_once() -> None:
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with full_precision():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    thread.start()
    inside.wait(10)
    with pytest.raises(KeyError), full_precision(), full_precision():
        raise KeyError
    assert state() == (False, False)  # the other thread still computes
    leave.set()
    thread.join()
    assert state() == (True, True)


def test_an_environment_that_makes_onednn_round_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ONEDNN_MODE, "BF16")
    with pytest.raises(InputError, match=r"ONEDNN_DEFAULT_FPMATH_MODE=BF16: .*unset it"):
        _forward()
    monkeypatch.setenv(ONEDNN_MODE, "strict")
    _forward()


def test_importing_and_computing_leave_tensorflow_as_it_is_by_default() -> None:
    before = state()
    _maps()
    assert state() == before
