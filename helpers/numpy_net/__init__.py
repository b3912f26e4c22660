"""A convolutional network in NumPy alone: layers, losses, optimisers, files.

Activations are channels-last arrays (N, H, W, C), as pictures lie in memory; kernels are (k, k, C_in,
C_out). float32 computes fast, float64 checks gradients. Every layer has `forward`, `backward`, and its
`parameters` and `gradients` side by side.
"""

from helpers.numpy_net.convolution import Conv2d
from helpers.numpy_net.files import load, save
from helpers.numpy_net.layers import (
    BatchNorm2d,
    Dense,
    Dropout,
    Flatten,
    LeakyReLU,
    ReLU,
    Reshape,
    Sigmoid,
    Tanh,
)
from helpers.numpy_net.learning import SGD, Adam, l1, mse, numerical_gradient, schedule_factor
from helpers.numpy_net.parts import Layer, glorot, he
from helpers.numpy_net.pooling import AvgPool2d, MaxPool2d, Upsample
from helpers.numpy_net.sequential import Residual, Sequential
from helpers.numpy_net.winograd import set_threads

__all__ = [
    "SGD", "Adam", "AvgPool2d", "BatchNorm2d", "Conv2d", "Dense", "Dropout", "Flatten", "Layer", "LeakyReLU",
    "MaxPool2d", "ReLU", "Reshape", "Residual", "Sequential", "Sigmoid", "Tanh", "Upsample", "glorot", "he",
    "l1", "schedule_factor", "load", "mse", "numerical_gradient", "save", "set_threads",
]  # fmt: skip
