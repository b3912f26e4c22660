"""Losses, optimisers, learning rates, and the gradient by its definition."""

import math
from collections.abc import Callable

import numpy as np

from helpers.files import StudyError
from helpers.numpy_net.parts import Layer


def mse(output: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean squared error and its gradient with respect to the output; both arrays of one shape."""
    difference = _difference(output, target)
    loss = float(np.vdot(difference, difference)) / difference.size
    difference *= 2 / difference.size
    return loss, difference


def l1(output: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean absolute error and its gradient with respect to the output, 0 where both are equal."""
    difference = _difference(output, target)
    return float(np.abs(difference).mean()), np.sign(difference) / difference.size


def _difference(output: np.ndarray, target: np.ndarray) -> np.ndarray:
    if output.shape != target.shape:  # broadcasting would make a number of it
        got = f"got an output of shape {output.shape}"
        raise StudyError(f"loss: {got}, takes that of the target, {target.shape}")
    return output - target.astype(output.dtype, copy=False)


class SGD:
    """Gradient descent with momentum: v = momentum v + g; w = w - rate v."""

    def __init__(self, network: Layer, momentum: float = 0.0) -> None:
        self.network, self.momentum = network, momentum
        self._velocity = {name: np.zeros_like(value) for name, value in network.parameters.items()}

    def step(self, learning_rate: float) -> None:
        """Moves the network's parameters, in place, against their gradients."""
        gradients = self.network.gradients
        for name, value in self.network.parameters.items():
            velocity = self._velocity[name]
            velocity *= self.momentum
            velocity += gradients[name]
            value -= learning_rate * velocity


class Adam:
    """Steps scaled by running means of the gradient and of its square (Kingma and Ba 2015, algorithm 1)."""

    def __init__(self, network: Layer, betas: tuple = (0.9, 0.999), epsilon: float = 1e-8) -> None:
        self.network, self.betas, self.epsilon, self.steps = network, betas, epsilon, 0
        named = network.parameters.items()
        self._means = {name: (np.zeros_like(value), np.zeros_like(value)) for name, value in named}

    def step(self, learning_rate: float) -> None:
        """Moves the network's parameters, in place."""
        self.steps += 1
        (first, second), gradients = self.betas, self.network.gradients
        rate = learning_rate / (1 - first**self.steps)  # both means start at 0, too low
        correction = 1 / math.sqrt(1 - second**self.steps)
        for name, value in self.network.parameters.items():
            gradient, (mean, square) = gradients[name], self._means[name]
            mean += (1 - first) * (gradient - mean)
            square += (1 - second) * (gradient * gradient - square)
            value -= rate * mean / (np.sqrt(square) * correction + self.epsilon)


def schedule_factor(schedule: str, step: int, steps: int, warm_up: int = 0) -> float:
    """Factor on the learning rate at `step` of `steps`: a linear rise in `warm_up` steps, then the schedule.

    "constant", "step" (a tenth after each third) or "cosine" (Loshchilov and Hutter 2017).
    """
    if step < warm_up:
        return (step + 1) / warm_up
    whole = max(1, steps - warm_up)
    done = min(step - warm_up, whole)
    return {
        "constant": 1.0,
        "step": 0.1 ** (3 * done // whole),
        "cosine": 0.5 * (1 + math.cos(math.pi * done / whole)),
    }[schedule]


def numerical_gradient(function: Callable[[], float], array: np.ndarray, epsilon: float = 1e-6) -> np.ndarray:
    """The gradient of function() with respect to a float64 array it reads, by central differences.

    Two calls an entry, each with the entry moved by epsilon; the array is left as it was.
    """
    gradient = np.empty_like(array)
    for entry in np.ndindex(array.shape):
        kept = array[entry]
        array[entry] = kept + epsilon
        above = function()
        array[entry] = kept - epsilon
        below = function()
        array[entry] = kept
        gradient[entry] = (above - below) / (2 * epsilon)
    return gradient
