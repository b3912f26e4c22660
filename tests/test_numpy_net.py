"""The NumPy network: every layer against PyTorch and against finite differences, training, files, errors."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from helpers import StudyError
from helpers import numpy_net as net

CLOSE = 1e-9  # relative to the largest value, float64
sides = st.integers(1, 9)
channels = st.integers(1, 5)
seeds = st.integers(0, 2**32 - 1)


def to_torch(array):
    """(N, H, W, C) to a (N, C, H, W) tensor that takes gradients."""
    axes = (0, 3, 1, 2) if array.ndim == 4 else range(array.ndim)
    return torch.tensor(np.ascontiguousarray(array.transpose(*axes)), requires_grad=True)


def from_torch(tensor):
    array = tensor.detach().numpy()
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


def distance(ours, theirs):
    """Largest difference over the largest value."""
    assert ours.shape == theirs.shape
    return np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-30)


def assert_like_torch(layer, function, x, rng, training=False, named=()):
    """Output, input gradient and parameter gradients of a layer and of a PyTorch function."""
    theirs_x = to_torch(x)
    parameters = [torch.tensor(layer.parameters[name], requires_grad=True) for name in named]
    theirs = function(theirs_x, *parameters)
    ours = layer.forward(x, training)
    assert distance(ours, from_torch(theirs)) < CLOSE
    gradient = rng.standard_normal(ours.shape)
    theirs.backward(to_torch(gradient).detach())
    assert distance(layer.backward(gradient), from_torch(theirs_x.grad)) < CLOSE
    assert set(named) == set(layer.parameters) == set(layer.gradients)
    for name, parameter in zip(named, parameters, strict=True):
        assert distance(layer.gradients[name], parameter.grad.numpy()) < CLOSE


def assert_like_differences(layer, x, rng, training=False):
    """All gradients of sum(output * weights) against central differences."""
    weights = rng.standard_normal(layer.forward(x, training).shape)

    def loss():
        return float(np.vdot(layer.forward(x, training), weights))

    layer.forward(x, training)
    ours = {"input": layer.backward(weights), **layer.gradients}
    for name, array in {"input": x, **layer.parameters}.items():
        expected = net.numerical_gradient(loss, array)
        # both sides lose digits where the true gradient is all but zero (a bias before normalisation)
        scale = max(np.abs(expected).max(), 1e-3)
        assert np.abs(ours[name] - expected).max() / scale < 1e-6, name


def convolution(kernel, c_in, c_out, stride, padding, rng):
    layer = net.Conv2d(c_in, c_out, kernel, rng, stride, padding, dtype=np.float64)
    layer.parameters["bias"][:] = rng.standard_normal(c_out)

    def theirs(x, weight, bias):
        return functional.conv2d(x, weight.permute(3, 2, 0, 1).contiguous(), bias, stride, padding)

    return layer, theirs


@given(
    st.integers(1, 3),
    sides,
    sides,
    channels,
    channels,
    st.integers(1, 5),
    st.integers(1, 3),
    st.integers(0, 3),
    seeds,
)
@settings(max_examples=150, deadline=None)
def test_convolution_is_pytorchs(n, height, width, c_in, c_out, kernel, stride, padding, seed):
    rng = np.random.default_rng(seed)
    height, width = height + max(0, kernel - 2 * padding), width + max(0, kernel - 2 * padding)
    layer, theirs = convolution(kernel, c_in, c_out, stride, padding, rng)
    x = rng.standard_normal((n, height, width, c_in))
    assert_like_torch(layer, theirs, x, rng, named=("weight", "bias"))


@pytest.fixture
def threads():
    yield net.set_threads
    net.set_threads(1)


@given(
    st.integers(1, 5), st.integers(1, 30), st.integers(1, 30), st.integers(1, 20), st.integers(1, 20), seeds
)
@settings(max_examples=100, deadline=None)
def test_the_fast_convolution_is_pytorchs(n, height, width, c_in, c_out, seed):
    rng = np.random.default_rng(seed)
    layer, theirs = convolution(3, c_in, c_out, 1, 1, rng)
    assert_like_torch(
        layer, theirs, rng.standard_normal((n, height, width, c_in)), rng, named=("weight", "bias")
    )


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize(
    "shape", [(7, 12, 20, 24), (2, 130, 150, 24), (1, 9, 700, 40), (40, 5, 6, 16)], ids=str
)
def test_the_fast_convolution_is_pytorchs_over_many_blocks_and_threads(threads, shape, count):
    threads(count)
    rng = np.random.default_rng(0)
    layer, theirs = convolution(3, shape[-1], 17, 1, 1, rng)
    for _ in range(2):  # scratch memory is used again
        assert_like_torch(layer, theirs, rng.standard_normal(shape), rng, named=("weight", "bias"))


def test_one_block_after_another_leaves_nothing_behind(threads):
    """A large input's leftovers in scratch memory must not reach a smaller one, nor infinities spread."""
    rng = np.random.default_rng(0)
    layer = net.Conv2d(8, 8, 3, rng, 1, 1, dtype=np.float64)
    with np.errstate(all="ignore"):
        y = layer.forward(np.full((1, 64, 64, 8), 1e308))
        layer.backward(np.ones_like(y))
    small, theirs = convolution(3, 8, 8, 1, 1, rng)
    with np.errstate(all="raise"):
        assert_like_torch(small, theirs, rng.standard_normal((1, 7, 5, 8)), rng, named=("weight", "bias"))


def test_float32_convolution_is_close_to_float64():
    """Fewer multiplications cost digits: about one."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 40, 40, 32))
    exact, fast = (
        net.Conv2d(32, 32, 3, np.random.default_rng(1), 1, 1, dtype=t) for t in (np.float64, np.float32)
    )
    difference = distance(fast.forward(x.astype(np.float32)), exact.forward(x))
    assert 0 < difference < 5e-6 and fast.forward(x.astype(np.float32)).dtype == np.float32


ELEMENTWISE = {
    "ReLU": (net.ReLU, torch.relu),
    "LeakyReLU": (lambda: net.LeakyReLU(0.2), lambda x: functional.leaky_relu(x, 0.2)),
    "Sigmoid": (net.Sigmoid, torch.sigmoid),
    "Tanh": (net.Tanh, torch.tanh),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.floats(0.01, 20), seeds)
@settings(max_examples=40, deadline=None)
def test_activations_are_pytorchs(name, shape, scale, seed):
    make, function = ELEMENTWISE[name]
    rng = np.random.default_rng(seed)
    # further out 1 - y and 1 - y^2 have lost their digits, in PyTorch as here
    assert_like_torch(make(), function, np.clip(scale * rng.standard_normal(shape), -8, 8), rng)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_activations_far_out_saturate_in_silence(name):
    make, function = ELEMENTWISE[name]
    x = np.array([-1e4, -800.0, 800.0, 1e4])
    with np.errstate(all="raise", under="ignore"):
        assert np.array_equal(make().forward(x), function(torch.tensor(x)).numpy())


@pytest.mark.parametrize("kind", ["max", "avg"])
@given(st.integers(1, 3), sides, sides, channels, st.integers(1, 4), st.integers(1, 4), st.booleans(), seeds)
@settings(max_examples=80, deadline=None)
def test_pooling_is_pytorchs(kind, n, height, width, c, size, stride, ties, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, height + size - 1, width + size - 1, c))
    x = np.round(x) if ties else x
    ours = {"max": net.MaxPool2d, "avg": net.AvgPool2d}[kind](size, stride)
    theirs = {"max": functional.max_pool2d, "avg": functional.avg_pool2d}[kind]
    assert_like_torch(ours, lambda x: theirs(x, size, stride), x, rng)


@given(st.integers(1, 3), sides, sides, channels, st.integers(1, 4), seeds)
@settings(max_examples=40, deadline=None)
def test_upsampling_is_pytorchs(n, height, width, c, scale, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, height, width, c))
    assert_like_torch(net.Upsample(scale), lambda x: functional.interpolate(x, scale_factor=scale), x, rng)


@given(sides, sides, sides, seeds)
@settings(max_examples=40, deadline=None)
def test_dense_is_pytorchs(n, inputs, outputs, seed):
    rng = np.random.default_rng(seed)
    layer = net.Dense(inputs, outputs, rng, initial=net.glorot, dtype=np.float64)
    layer.parameters["bias"][:] = rng.standard_normal(outputs)
    x = rng.standard_normal((n, inputs))
    assert_like_torch(layer, lambda x, w, b: x @ w + b, x, rng, named=("weight", "bias"))


@given(st.integers(1, 3), sides, sides, channels, st.floats(0, 20), seeds)
@settings(max_examples=60, deadline=None)
def test_batch_normalisation_is_pytorchs_in_training_and_after(n, height, width, c, offset, seed):
    rng = np.random.default_rng(seed)
    layer, theirs = net.BatchNorm2d(c, dtype=np.float64), nn.BatchNorm2d(c, dtype=torch.float64)
    layer.parameters["scale"][:], layer.parameters["shift"][:] = rng.standard_normal((2, c))
    mean, variance = theirs.running_mean, theirs.running_var
    for training in (True, True, False):
        x = offset + rng.standard_normal((n, height + 1, width + 1, c))

        def function(x, scale, shift, training=training):
            return functional.batch_norm(x, mean, variance, scale, shift, training, 0.1, 1e-5)

        assert_like_torch(layer, function, x, rng, training, named=("scale", "shift"))
        assert distance(layer.state["mean"], mean.numpy()) < CLOSE
        assert distance(layer.state["variance"], variance.numpy()) < CLOSE


def test_dropout_keeps_the_mean_and_hands_out_its_mask():
    rng = np.random.default_rng(0)
    layer, x = net.Dropout(0.3, rng), np.ones((4, 50, 50, 3))
    y = layer.forward(x, training=True)
    assert set(np.unique(y)) == {0.0, 1 / 0.7} and abs((y == 0).mean() - 0.3) < 0.01
    assert np.array_equal(layer.backward(x), layer.mask) and np.array_equal(y, layer.mask)
    assert not np.array_equal(layer.forward(x, training=True), y)
    assert np.array_equal(layer.forward(x), x) and np.array_equal(layer.backward(x), x)


def away_from_kinks(shape, rng):
    """Distinct values at least a hundredth apart and from 0: no step of 1e-6 crosses a kink."""
    count = int(np.prod(shape))
    values = (np.arange(count) - count // 2 + 0.5) / 50
    return rng.permutation(values).reshape(shape)


LAYERS = {
    "Conv2d": lambda rng: net.Conv2d(2, 3, 2, rng, 2, 1, dtype=np.float64),
    "Conv2d, fast": lambda rng: net.Conv2d(2, 3, 3, rng, 1, 1, dtype=np.float64),
    "MaxPool2d": lambda rng: net.MaxPool2d(2),
    "MaxPool2d, overlapping": lambda rng: net.MaxPool2d(3, 1),
    "AvgPool2d": lambda rng: net.AvgPool2d(2, 1),
    "Upsample": lambda rng: net.Upsample(2),
    "BatchNorm2d": lambda rng: net.BatchNorm2d(2, dtype=np.float64),
    "ReLU": lambda rng: net.ReLU(),
    "LeakyReLU": lambda rng: net.LeakyReLU(),
    "Sigmoid": lambda rng: net.Sigmoid(),
    "Tanh": lambda rng: net.Tanh(),
    "Dense": lambda rng: net.Sequential(net.Flatten(), net.Dense(40, 3, rng, dtype=np.float64)),
    "Reshape": lambda rng: net.Sequential(net.Flatten(), net.Reshape((4, 10))),
    "Residual": lambda rng: net.Residual(net.Conv2d(2, 2, 3, rng, 1, 1, dtype=np.float64), net.Tanh()),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_those_of_finite_differences(name, seed):
    rng = np.random.default_rng(seed)
    x = away_from_kinks((2, 4, 5, 2), rng)
    assert_like_differences(LAYERS[name](rng), x, rng, training=name == "BatchNorm2d")


@pytest.mark.parametrize(("ours", "theirs"), [(net.mse, functional.mse_loss), (net.l1, functional.l1_loss)])
def test_losses_are_pytorchs(ours, theirs):
    rng = np.random.default_rng(0)
    output, target = rng.standard_normal((2, 3, 4, 5, 2))
    tensor = torch.tensor(output, requires_grad=True)
    expected = theirs(tensor, torch.tensor(target))
    expected.backward()
    loss, gradient = ours(output, target)
    assert abs(loss - expected.item()) < 1e-12 and distance(gradient, tensor.grad.numpy()) < CLOSE
    with pytest.raises(StudyError, match=r"\(3, 4, 5, 2\).*\(3, 4, 5, 1\)"):
        ours(output, target[..., :1])


def build(rng, dtype=np.float64):
    return net.Sequential(
        net.Conv2d(1, 6, 3, rng, 1, 1, dtype=dtype),
        net.BatchNorm2d(6, dtype=dtype),
        net.ReLU(),
        net.MaxPool2d(2),
        net.Residual(net.Conv2d(6, 6, 3, rng, 1, 1, dtype=dtype), net.LeakyReLU(0.1), net.Dropout(0.2, rng)),
        net.Conv2d(6, 4, 2, rng, 2, 0, dtype=dtype),
        net.Sigmoid(),
        net.Flatten(),
        net.Dense(64, 16, rng, initial=net.glorot, dtype=dtype),
        net.Tanh(),
        net.Reshape((4, 4, 1)),
        net.Upsample(4),
        net.Conv2d(1, 1, 5, rng, 1, 2, dtype=dtype),
    )


def torch_forward(ours, p, state, x):
    """What `build` computes, in PyTorch, with the dropout mask that ours drew."""

    def conv(x, name, stride, padding):
        return functional.conv2d(
            x, p[f"{name}.weight"].permute(3, 2, 0, 1), p[f"{name}.bias"], stride, padding
        )

    x = conv(x, "0", 1, 1)
    x = functional.batch_norm(x, *state, p["1.scale"], p["1.shift"], True, 0.1, 1e-5)
    x = functional.max_pool2d(torch.relu(x), 2)
    mask = torch.tensor(ours.layers[4].layers[2].mask).permute(0, 3, 1, 2)
    x = x + functional.leaky_relu(conv(x, "4.0", 1, 1), 0.1) * mask
    x = torch.sigmoid(conv(x, "5", 2, 0)).permute(0, 2, 3, 1).reshape(len(x), -1)
    x = torch.tanh(x @ p["8.weight"] + p["8.bias"]).reshape(-1, 4, 4, 1).permute(0, 3, 1, 2)
    return conv(functional.interpolate(x, scale_factor=4), "12", 1, 2)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_network_trained_20_steps_has_pytorchs_parameters(optimizer):
    rng = np.random.default_rng(0)
    ours = build(rng)
    theirs = {name: torch.tensor(value, requires_grad=True) for name, value in ours.parameters.items()}
    state = [torch.tensor(value) for value in ours.state.values()]
    start = {name: value.copy() for name, value in ours.parameters.items()}
    if optimizer == "sgd":
        mine, other = net.SGD(ours, 0.9), torch.optim.SGD(theirs.values(), 0.05, momentum=0.9)
    else:
        mine, other = net.Adam(ours), torch.optim.Adam(theirs.values(), 0.01)
    for step in range(20):
        x, target = rng.random((2, 3, 16, 16, 1))
        loss, gradient = net.mse(ours.forward(x, training=True), target)
        ours.backward(gradient)
        other.zero_grad()
        expected = functional.mse_loss(
            torch_forward(ours, theirs, state, to_torch(x).detach()), to_torch(target).detach()
        )
        expected.backward()
        assert abs(loss - expected.item()) < 1e-9
        factor = net.schedule_factor("cosine", step, 20, warm_up=4)
        other.param_groups[0]["lr"] = factor * {"sgd": 0.05, "adam": 0.01}[optimizer]
        mine.step(other.param_groups[0]["lr"])
        other.step()
    for name, value in ours.parameters.items():
        assert np.abs(value - theirs[name].detach().numpy()).max() < 1e-8, name
        # it did move; a bias before normalisation has no gradient
        assert np.abs(value - start[name]).max() > 1e-4 or name == "0.bias", name


def test_the_first_layers_input_gradient_is_left_out_on_request():
    rng = np.random.default_rng(0)
    network = net.Sequential(net.Conv2d(1, 4, 3, rng, 1, 1), net.ReLU(), net.Conv2d(4, 1, 3, rng, 1, 1))
    y = network.forward(rng.random((2, 8, 8, 1), np.float32))
    assert network.backward(y).shape == y.shape
    with_input = {name: value.copy() for name, value in network.gradients.items()}
    assert network.backward(y, to_input=False) is None
    assert all(np.array_equal(value, with_input[name]) for name, value in network.gradients.items())


def test_an_output_is_not_overwritten_by_the_next_one():
    rng = np.random.default_rng(0)
    network = build(rng, np.float32)
    first = network.forward(rng.random((3, 16, 16, 1), np.float32))
    kept = first.copy()
    network.forward(rng.random((3, 16, 16, 1), np.float32), training=True)
    assert np.array_equal(first, kept)


def test_initial_weights_keep_their_variance():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4000, 300))
    assert abs(np.maximum(x @ net.he((300, 200), rng), 0).var() / x.var() - 0.68) < 0.05  # 1 - 1/pi
    weights = net.glorot((3, 3, 20, 40), rng)
    assert abs(weights.var() - 2 / (9 * 60)) < 2e-4 and np.abs(weights).max() <= np.sqrt(6 / (9 * 60))


@pytest.mark.parametrize(
    ("schedule", "values"), [("constant", [1, 1, 1]), ("step", [1, 0.1, 0.01]), ("cosine", [1, 0.75, 0.25])]
)
def test_schedules(schedule, values):
    at = [net.schedule_factor(schedule, step, 35, warm_up=5) for step in (0, 4, 5, 15, 25)]
    assert at == pytest.approx([0.2, 1.0, *values])


def test_a_file_brings_every_value_back(tmp_path):
    rng = np.random.default_rng(0)
    network, other = build(rng, np.float32), build(rng, np.float32)
    network.forward(rng.random((2, 16, 16, 1), np.float32), training=True)
    net.save(network, tmp_path / "network.npz")
    net.load(other, tmp_path / "network.npz")
    x = rng.random((2, 16, 16, 1), np.float32)
    assert np.array_equal(network.forward(x), other.forward(x))
    assert [p.name for p in tmp_path.iterdir()] == ["network.npz"]


def bad_files(path, good):
    """Weights files that must be refused, and a word of the reason."""
    content = good.read_bytes()
    with np.load(good) as file:
        arrays = dict(file)
    yield "is missing", None, "can't be read"
    yield "is empty", b"", "not a whole weights file"
    yield "is text", b"weights\n", "not a whole weights file"
    yield "is cut", content[: len(content) // 2], "not a whole weights file"
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 4
    yield "has a flipped bit", bytes(flipped), "not a whole weights file"

    def changed(**other):
        np.savez(path, **{**arrays, **other})
        return path.read_bytes()

    yield (
        "has another shape",
        changed(**{"0.weight": np.zeros((3, 3, 1, 7), "f")}),
        "0.weight is float32 (3, 3, 1, 7)",
    )
    yield "has another type", changed(**{"0.bias": np.zeros(6)}), "0.bias is float64"
    yield "holds NaN", changed(**{"0.bias": np.full(6, np.nan, "f")}), "0.bias holds values that are NaN"
    yield (
        "is another network's",
        changed(layers=np.array("Sequential(ReLU)")),
        "weights of Sequential(ReLU); takes",
    )
    np.save(path.with_suffix(".npy"), np.zeros(3))
    yield "is one array", path.with_suffix(".npy").read_bytes(), "not a whole weights file"
    np.savez(path, **{**arrays, "0.bias": np.array([{}] * 6, dtype=object)}, allow_pickle=True)
    yield "holds objects", path.read_bytes(), "not a whole weights file"


def test_a_file_that_does_not_fit_is_refused_and_nothing_changes(tmp_path):
    network = build(np.random.default_rng(0), np.float32)
    net.save(network, tmp_path / "good.npz")
    before = {name: value.copy() for name, value in {**network.parameters, **network.state}.items()}
    for case, content, reason in bad_files(tmp_path / "made.npz", tmp_path / "good.npz"):
        path = tmp_path / "bad.npz"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(StudyError) as error:
            net.load(network, path)
        assert "bad.npz" in str(error.value) and reason in str(error.value), case
        assert "\n" not in str(error.value), case
        now = {**network.parameters, **network.state}
        assert all(np.array_equal(now[name], value) for name, value in before.items()), case


RNG = np.random.default_rng(0)
ZEROS = np.zeros((2, 6, 6, 3), np.float32)
NAN = np.where(np.arange(216).reshape(2, 6, 6, 3) % 50 == 7, np.nan, ZEROS)
MISTAKES = {
    "integer pictures": (net.Conv2d(3, 4, 3, RNG), (ZEROS * 255).astype(np.uint8), "got uint8.*astype"),
    "a list": (net.ReLU(), [1.0, 2.0], "ReLU: got list, takes floats"),
    "another precision": (net.Conv2d(3, 4, 3, RNG), ZEROS.astype(float), "got float64, takes float32"),
    "channels": (net.Conv2d(4, 4, 3, RNG), ZEROS, r"Conv2d\(4.*got shape.*6, 3\), takes \(N, H, W, 4\)"),
    "one picture": (net.Conv2d(3, 4, 3, RNG), ZEROS[0], r"got shape \(6, 6, 3\), takes \(N, H, W, 3\)"),
    "a large kernel": (net.Conv2d(3, 4, 9, RNG, padding=1), ZEROS, "8x8 when padded, takes at least 9x9"),
    "a large window": (net.MaxPool2d(7), ZEROS, "MaxPool2d.*takes.*at least 7x7"),
    "dense on pictures": (net.Dense(108, 4, RNG), ZEROS, r"Dense\(108 -> 4\): got shape.*Flatten"),
    "channels of a norm": (net.BatchNorm2d(5), ZEROS, r"BatchNorm2d\(5\): got shape"),
    "a shape that can't be": (net.Reshape((5, 5)), ZEROS, r"Reshape\(5, 5\): got shape.*takes 25 values"),
    "NaN": (net.ReLU(), NAN.astype(np.float32), "ReLU: got 5 values that are NaN"),
    "infinity": (net.ReLU(), np.full((1, 2), np.inf), "got 2 values that are NaN or infinite"),
    "nothing": (net.ReLU(), np.zeros((0, 3)), "got an empty array"),
    "inside a network": (
        net.Sequential(net.Conv2d(3, 4, 3, RNG), net.Residual(net.Conv2d(8, 8, 3, RNG))),
        ZEROS,
        r"^layer 1, layer 0, Conv2d\(8 -> 8.*got shape \(2, 4, 4, 4\), takes \(N, H, W, 8\)",
    ),
    "a shortcut": (net.Residual(net.Conv2d(3, 4, 3, RNG)), ZEROS, r"makes? \(2, 4, 4, 4\) of \(2, 6, 6, 3\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_with_the_layer_what_it_got_and_what_it_takes(name):
    layer, x, expected = MISTAKES[name]
    with pytest.raises(StudyError, match=expected):
        layer.forward(x)


def test_finite_values_whose_sum_overflows_are_taken():
    assert net.ReLU().forward(np.full(9, 3e38, np.float32)).max() == np.float32(3e38)


def test_a_single_pixel_can_not_be_normalised_in_training():
    with pytest.raises(StudyError, match="more than one pixel"):
        net.BatchNorm2d(3).forward(ZEROS[:1, :1, :1], training=True)


def test_backward_needs_a_forward_and_its_outputs_shape():
    layer = net.Conv2d(3, 4, 3, np.random.default_rng(0))
    with pytest.raises(StudyError, match="backward before forward"):
        layer.backward(ZEROS)
    layer.forward(ZEROS)
    with pytest.raises(StudyError, match=r"gradient of shape \(2, 6, 6, 3\), takes \(2, 4, 4, 4\)"):
        layer.backward(ZEROS)


@pytest.mark.parametrize(
    "make",
    [
        lambda: net.Conv2d(0, 4, 3, RNG),
        lambda: net.Conv2d(3, 4, 3, RNG, stride=0),
        lambda: net.Conv2d(3, 4, 3, RNG, padding=-1),
        lambda: net.MaxPool2d(0),
        lambda: net.Upsample(0),
        lambda: net.Dropout(1.0, RNG),
        lambda: net.Dense(3, 0, RNG),
    ],
)
def test_layers_that_can_not_be_are_refused(make):
    with pytest.raises(StudyError, match="must"):
        make()


@pytest.mark.parametrize("geometry", [(3, 1, 0), (5, 1, 2), (3, 2, 1), (3, 1, 1)], ids=str)
def test_the_order_of_the_input_in_memory_does_not_matter(geometry):
    kernel, stride, padding = geometry
    layer = net.Conv2d(1, 2, kernel, np.random.default_rng(0), stride, padding, dtype=np.float64)
    picture = np.random.default_rng(1).standard_normal((12, 10))
    turned = picture.T[None, :, :, None]
    g = np.random.default_rng(2).standard_normal(layer.forward(turned).shape)
    found = [
        (layer.forward(x), layer.backward(g), layer.gradients["weight"]) for x in (turned, turned.copy("C"))
    ]
    assert all(np.array_equal(a, b) for a, b in zip(*found, strict=True))


def test_infinities_left_in_scratch_memory_do_not_reach_a_smaller_gradient():
    rng = np.random.default_rng(0)
    large, small = (net.Conv2d(8, 8, 3, rng, 1, 1, dtype=np.float64) for _ in range(2))
    x, g = rng.standard_normal((2, 1, 7, 5, 8))
    small.forward(x)
    small.backward(g)
    expected = small.gradients["weight"].copy()
    with np.errstate(all="ignore"):
        large.forward(np.full((1, 64, 64, 8), 1e308))  # backward would fill the memory anew
    small.backward(g)
    assert np.array_equal(small.gradients["weight"], expected)


def test_a_window_of_a_whole_picture_is_pooled():
    layer = net.MaxPool2d(200)
    y = layer.forward(np.arange(200.0**2).reshape(1, 200, 200, 1))
    assert y.item() == 200**2 - 1 and layer.backward(np.ones_like(y))[0, -1, -1, 0] == 1


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("wrap", [lambda layer: layer, net.Residual])
def test_the_input_gradient_can_be_left_out_everywhere(kernel, wrap):
    layer = wrap(net.Conv2d(2, 2, kernel, np.random.default_rng(0), padding=kernel // 2))
    y = layer.forward(np.ones((1, 6, 6, 2), np.float32))
    assert layer.backward(y, to_input=False) is None


def test_a_layer_stands_in_one_place_and_is_a_layer():
    relu = net.ReLU()
    with pytest.raises(StudyError, match="one layer in two places"):
        net.Sequential(relu, net.Residual(relu))
    with pytest.raises(StudyError, match="got list, takes layers"):
        net.Sequential([relu])


def test_files_of_layers_with_other_settings_are_refused(tmp_path):
    net.save(net.Sequential(net.Upsample(2), net.LeakyReLU(0.01)), str(tmp_path / "a.npz"))
    for other in (
        net.Sequential(net.Upsample(4), net.LeakyReLU(0.01)),
        net.Sequential(net.Upsample(2), net.LeakyReLU(0.5)),
    ):
        with pytest.raises(StudyError, match="weights of Sequential"):
            net.load(other, tmp_path / "a.npz")


def test_each_flipped_bit_of_a_file_is_refused_or_changes_nothing(tmp_path):
    network = net.Sequential(net.Dense(2, 2, np.random.default_rng(0)))
    net.save(network, tmp_path / "good.npz")
    before = network.parameters["0.weight"].copy()
    content = (tmp_path / "good.npz").read_bytes()
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        (tmp_path / "bad.npz").write_bytes(flipped)
        try:
            net.load(network, tmp_path / "bad.npz")
        except StudyError as error:
            assert "\n" not in str(error)
        assert np.array_equal(network.parameters["0.weight"], before)
