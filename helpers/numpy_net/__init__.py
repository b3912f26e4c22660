"""A convolutional network in NumPy alone: layers, losses, optimisers, files.

Activations are channels-last arrays (N, H, W, C), as pictures lie in memory; kernels are (k, k, C_in,
C_out). float32 computes fast, float64 checks gradients. Every layer has `forward`, `backward`, and its
`parameters` and `gradients` side by side.
"""

from helpers.numpy_net.convolution import Conv2d
from helpers.numpy_net.files import load, save
from helpers.numpy_net.layers import BatchNorm2d, Dense, Dropout, LeakyReLU, ReLU, Sigmoid, Tanh
from helpers.numpy_net.learning import SGD, Adam, l1, mse, numerical_gradient, schedule_factor
from helpers.numpy_net.parts import Layer, Residual, Sequential, glorot, he
from helpers.numpy_net.shapes import AvgPool2d, Flatten, MaxPool2d, Reshape, Upsample
from helpers.numpy_net.winograd import set_threads
