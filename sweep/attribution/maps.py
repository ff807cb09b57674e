"""The maps of every method but LRP, each with the equation that it follows."""

from collections.abc import Callable

import numpy as np

from sweep.arrays import Array
from sweep.attribution.subject import Subject
from sweep.keys import generator
from sweep.study.attribution import Attribution, Baseline, NoiseAttribution, PatchAttribution, PathAttribution

Filled = Callable[[Baseline], Array]
"""An image without evidence, as network input: (image, height, width, channel), or (1, ...) where it is one for all."""


def attribution_maps(attribution: Attribution, subject: Subject, filled: Filled) -> Array:
    """Maps float32 (readout, image, height, width) of the chosen logits, channels summed, not normalised.

    Raises InputError for LRP, which `sweep.lrp` computes, and where the network lacks what the method needs.
    """
    if isinstance(attribution, PathAttribution):
        return integrated_gradients(subject, filled(attribution.baseline), attribution.steps)
    if isinstance(attribution, NoiseAttribution):
        return smoothgrad(subject, attribution.samples, attribution.noise)
    if isinstance(attribution, PatchAttribution):
        return occlusion(subject, filled(attribution.fill), attribution.patch, attribution.stride)
    if attribution.method == "input_times_gradient":
        return subject.gradient_maps(subject.images, subject.images)
    if attribution.method == "grad_cam":
        return subject.cam_maps()
    if attribution.method == "random":
        return random_maps(subject)
    return subject.gradient_maps(subject.images, guided=attribution.method == "guided_backprop")


def integrated_gradients(subject: Subject, baseline: Array, steps: int) -> Array:
    """Sundararajan et al. (2017), equation 1, by the midpoint rule: gradients at (k - 1/2) / steps of the way.

    `baseline` is (image, height, width, channel), or (1, ...) for all images.
    """
    way = subject.images - baseline
    total = np.zeros((len(subject.readouts), *subject.images.shape[:3]))
    for step in range(steps):
        inputs = baseline + np.float32((step + 0.5) / steps) * way
        total += subject.gradient_maps(inputs, way)
    return (total / steps).astype(np.float32)


def smoothgrad(subject: Subject, samples: int, noise: float) -> Array:
    """Smilkov et al. (2017), section 3: the mean gradient of copies with normal noise of `noise` times an image's range.

    The noise follows from the image and the number of the sample: readouts share it, and with it the forward pass.
    """
    images = subject.images
    deviation = noise * np.ptp(images, axis=(1, 2, 3), keepdims=True)
    total = np.zeros((len(subject.readouts), *images.shape[:3]))
    for sample in range(samples):
        drawn = [
            generator("smoothgrad", key, sample).standard_normal(images.shape[1:], np.float32)
            for key in subject.image_keys
        ]
        total += subject.gradient_maps(images + deviation * np.stack(drawn))
    return (total / samples).astype(np.float32)


def occlusion(subject: Subject, filled: Array, patch: int, stride: int) -> Array:
    """Zeiler & Fergus (2014), section 4.2: what a logit loses when a square is filled, averaged over a pixel's squares.

    Squares start every `stride` pixels from the top left corner; those that reach over the right or lower edge are cut
    there, and the last ones start where they first reach the edge.
    """
    images = subject.images
    height, width = images.shape[1:3]
    whole = subject.target_logits(images)
    total, times = np.zeros((*whole.shape, height, width)), np.zeros((height, width))
    for top in starts(height, patch, stride):
        for left in starts(width, patch, stride):
            square = (slice(top, top + patch), slice(left, left + patch))
            inputs = images.copy()
            inputs[:, *square] = filled[:, *square]
            total[:, :, *square] += (whole - subject.target_logits(inputs))[..., None, None]
            times[square] += 1
    return (total / times).astype(np.float32)


def starts(length: int, patch: int, stride: int) -> list[int]:
    """Where squares begin along an axis: the last is the first that reaches the end."""
    return list(range(0, max(length - patch, 0) + stride, stride)) if length > patch else [0]


def random_maps(subject: Subject) -> Array:
    """Normal numbers that follow from the model and the image: what maps without any evidence come to."""
    shape = subject.images.shape[1:3]
    return np.stack(
        [
            [
                generator("random attribution", model, image).standard_normal(shape, np.float32)
                for image in subject.image_keys
            ]
            for model in subject.model_keys
        ]
    )
