"""Reads Keras 3 models, nested ones included, as a `Network`."""

from collections.abc import Sequence
from typing import Any

from sweep.errors import InputError
from sweep.lrp.agreement import check_agreement
from sweep.lrp.folding import ReadModel, Softmax
from sweep.lrp.keras_layers import overrides, read_layer, refuse
from sweep.lrp.layers import Add, Concatenate, Multiply
from sweep.lrp.network import Network


def from_keras(model: Any, input_shape: tuple[int, int, int] | None = None) -> Network:
    """Read a built Keras 3 model, Sequential or Functional, as a `Network` with copies of its weights.

    Models within models are unnested, a softmax at the end is stripped, and batch normalizations are folded into
    the layer before, else into the layer after; where neither is exact they become a 1x1 convolution of each channel.
    Separable convolutions become a depthwise and a 1x1 convolution. Layer names are kept. `input_shape` is (height,
    width, channels), needed where the model leaves its input size open.

    What was read is run beside the model on random images, so nothing that a layer does besides is left out unnoticed.

    Raises InputError that names any layer which cannot be treated, with the reason, and where the outputs differ.
    """
    import keras

    if not isinstance(model, keras.Model):
        raise InputError(
            f"from_keras: needs a Keras 3 model, not {type(model).__module__}.{type(model).__name__}"
        )
    _check_kind(model)
    parts = ReadModel(_input_shape(model, input_shape))
    _read_model(model, parts, 0)
    stripped = any(isinstance(part, Softmax) for part in parts.parts)
    network = parts.network()
    check_agreement(model, network, stripped=stripped)
    return network


def _input_shape(model: Any, given: tuple[int, int, int] | None) -> tuple[int, int, int]:
    inputs = getattr(model, "inputs", None)
    if not inputs:
        raise InputError(f"from_keras: model '{model.name}' is not built; give it an Input layer")
    shape = tuple(inputs[0].shape[1:])
    if len(shape) != 3:
        raise InputError(
            f"from_keras: model '{model.name}' takes {shape}, not images (height, width, channels)"
        )
    if given is None and None in shape:
        raise InputError(
            f"from_keras: model '{model.name}' leaves its input size {shape} open; pass input_shape"
        )
    if given is not None and any(own not in (None, n) for own, n in zip(shape, given, strict=True)):
        raise InputError(f"from_keras: model '{model.name}' takes {shape}, not the input_shape {given}")
    return given or shape


def _check_kind(model: Any) -> None:
    """Raise InputError for a model whose layers cannot be followed."""
    import keras

    functional = keras.src.models.functional.Functional
    if not isinstance(model, keras.Sequential | functional):
        raise InputError(
            f"from_keras: model '{model.name}' is neither Sequential nor Functional, so its layers cannot be followed"
        )
    if overrides(model, keras.Sequential if isinstance(model, keras.Sequential) else functional):
        raise InputError(
            f"from_keras: model '{model.name}' has a forward pass of its own, which cannot be read"
        )


def _read_model(model: Any, parts: ReadModel, tensor: int) -> int:
    """Read a model behind a tensor, nested models unnested; returns the tensor that it gives out."""
    import keras

    _check_kind(model)
    if isinstance(model, keras.Sequential):
        for layer in model.layers:
            tensor = _read_operation(layer, parts, [tensor])
        return tensor
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise InputError(f"from_keras: model '{model.name}' must have one input and one output")
    known = {id(model.inputs[0]): tensor}
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if node.input_tensors:
                _check_call(node)
                tensors = [known[id(one)] for one in node.input_tensors]
                known[id(node.output_tensors[0])] = _read_operation(node.operation, parts, tensors)
    return known[id(model.outputs[0])]


def _check_call(node: Any) -> None:
    """Raise InputError where a layer is called with more than tensors."""
    tensors = set(map(id, node.input_tensors))
    for name, value in node.arguments.kwargs.items():
        if id(value) not in tensors and value not in (None, False):
            raise refuse(node.operation, f"is called with {name}={value}; only inference can be treated")


def _read_operation(operation: Any, parts: ReadModel, tensors: Sequence[int]) -> int:
    import keras

    if isinstance(operation, keras.layers.InputLayer):
        return tensors[0]
    if isinstance(operation, keras.Model):
        return _read_model(operation, parts, tensors[0])
    join = _join_of(operation)
    if join is not None:
        if len(tensors) < 2:
            raise refuse(operation, "joins a tensor with something else than a tensor")
        axis = getattr(operation, "axis", -1)
        if isinstance(join, Concatenate) and axis not in (-1, len(parts.shapes[tensors[0]])):
            raise refuse(operation, f"joins along axis {axis}, not along the channels")
        return parts.add(join, *tensors)
    if len(tensors) != 1:
        raise refuse(operation, f"joins {len(tensors)} inputs in a way that cannot be treated")
    tensor = tensors[0]
    for part in read_layer(operation, parts.shapes[tensor]):
        tensor = parts.add(part, tensor)
    return tensor


def _join_of(operation: Any) -> Add | Concatenate | Multiply | None:
    """What joins several tensors, a layer or an operator between tensors."""
    import keras

    operators = keras.src.ops.numpy
    for name, kind in (("Add", Add), ("Concatenate", Concatenate), ("Multiply", Multiply)):
        if isinstance(operation, getattr(keras.layers, name)) and not overrides(
            operation, getattr(keras.layers, name)
        ):
            return kind(operation.name)
        if type(operation) is getattr(operators, name):
            return kind(operation.name)
    return None
