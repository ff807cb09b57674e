"""Layer-wise relevance propagation, exact to iNNvestigate; pure TensorFlow."""

from sweep.lrp.composites import COMPOSITES, Composite, composite
from sweep.lrp.engine import forward, relevance, shared_relevance
from sweep.lrp.keras_reader import from_keras
from sweep.lrp.network import (
    AveragePool,
    Conv,
    Dense,
    Dropout,
    Flatten,
    Layer,
    MaxPool,
    Network,
    ReLU,
    ZeroPad,
)

__all__ = [
    "COMPOSITES",
    "AveragePool",
    "Composite",
    "Conv",
    "Dense",
    "Dropout",
    "Flatten",
    "Layer",
    "MaxPool",
    "Network",
    "ReLU",
    "ZeroPad",
    "composite",
    "forward",
    "from_keras",
    "relevance",
    "shared_relevance",
]
