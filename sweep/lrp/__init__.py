"""Layer-wise relevance propagation, exact to iNNvestigate; pure TensorFlow."""

from typing import TYPE_CHECKING, Any

from sweep.lrp.assignment import Composite
from sweep.lrp.composites import COMPOSITES, composite
from sweep.lrp.keras_reader import from_keras
from sweep.lrp.layers import (
    Add,
    AveragePool,
    Concatenate,
    Conv,
    Dense,
    DepthwiseConv,
    Dropout,
    Flatten,
    Layer,
    LeakyReLU,
    MaxPool,
    Multiply,
    ReLU,
    ZeroPad,
)
from sweep.lrp.network import Network

if TYPE_CHECKING:
    from sweep.lrp.engine import forward, relevance, shared_relevance

__all__ = [
    "COMPOSITES",
    "Add",
    "AveragePool",
    "Composite",
    "Concatenate",
    "Conv",
    "Dense",
    "DepthwiseConv",
    "Dropout",
    "Flatten",
    "Layer",
    "LeakyReLU",
    "MaxPool",
    "Multiply",
    "Network",
    "ReLU",
    "ZeroPad",
    "composite",
    "forward",
    "from_keras",
    "relevance",
    "shared_relevance",
]


def __getattr__(name: str) -> Any:
    # Checking a composite must not wait for TensorFlow, which takes seconds to import.
    if name in ("forward", "relevance", "shared_relevance"):
        from sweep.lrp import engine

        return getattr(engine, name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
