"""The entropy model: what a coded number is predicted from, by integers only, on any machine the same."""

import math
from collections.abc import Callable
from functools import cache
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor, nn

SCALES = 64  # tables: Gaussian where training starts, counted at its end, and sent with the weights
SMALLEST, LARGEST = 0.11, 100.0  # the standard deviations they stand for, log-spaced, in steps
SCALE_STEP = math.log(LARGEST / SMALLEST) / (SCALES - 1)
ACTIVATION_UNIT = 16  # means and activations are counted in sixteenths of a step
WEIGHT_UNIT = 64  # weights of the context networks in parts of 64
INDEX_UNIT = 128  # their sums, an index: an eighth of an activation, so that one learning rate suits all
TABLE_BITS = 16  # counts of a table add up to about 2^16, and none is below 1
CHANNEL_GROUPS = (3, 6, 9, 12, 18, 32, 48)  # channels of y in the order of coding; the first are interlaced
LATTICE_LEVELS = 4  # of the first group: every 4th position, every 2nd, the middles of those, the rest
STRIP = 2**15  # positions that a network predicts at once outside training: 24 megapixels in 2 GB
SLOPE = 6 / math.log(2)  # bits that a squared step is worth where a uniform quantiser trades both evenly
REACH = 2  # rows on either side that a network looks at, 5x5 or twice 3x3

# What codes one part: (channels, mean in steps, scale index, where to) to the decoded values of the part.
Code = Callable[[slice, Tensor, Tensor, Tensor], Tensor]


class Context(nn.Module):
    """Predicts y part by part from the parts before: ten steps for a picture of any size.

    Within a part all positions are coded at once. Groups of channels follow each other (Minnen and
    Singh 2020); the first group, the blocks' brightness and colour, is interlaced over four levels.
    """

    def __init__(self, width: int, sizes: tuple[int, ...]):
        super().__init__()
        self.register_buffer("tables", gaussian_tables().clone())
        self.slices = [slice(end - size, end) for end, size in zip(accumulate(sizes), sizes, strict=True)]
        inputs = 3 * sizes[0] + 2  # features, where they are known, the rate
        kernels = [1] + [5] * (LATTICE_LEVELS - 1)
        self.levels = nn.ModuleList(EntropyParameters(inputs, width, sizes[0], k, 1) for k in kernels)
        inputs = [3 * group.start + 1 for group in self.slices[1:]]  # features of the groups before, the rate
        groups = zip(inputs, sizes[1:], strict=True)
        self.groups = nn.ModuleList(EntropyParameters(n, width, size, 3, 3) for n, size in groups)

    def parts(self) -> list[tuple[nn.Module, slice]]:
        """Each network with the channels of y that it predicts, in the order of coding."""
        channels = [self.slices[0]] * LATTICE_LEVELS + self.slices[1:]
        return list(zip([*self.levels, *self.groups], channels, strict=True))

    def forward(self, rate: Tensor, shape: torch.Size, code: Code) -> Tensor:
        n, _, height, width = shape
        rates = rate_feature(rate).expand(n, 1, height, width)
        known = torch.zeros(n, self.slices[0].stop, height, width, device=rates.device)
        before = torch.zeros(1, 1, height, width, device=rates.device)
        for level, network in enumerate(self.levels):
            here = lattice(level, height, width).to(rates.device) - before
            where_known = ACTIVATION_UNIT * before.expand(n, -1, -1, -1)
            coded = code(self.slices[0], *network(known, where_known, rates), here)
            known, before = torch.where(here > 0, coded, known), before + here
        for channels, network in zip(self.slices[1:], self.groups, strict=True):
            coded = code(channels, *network(known, rates), torch.ones_like(before))
            known = torch.cat([known, coded], dim=1)
        return known


class EntropyParameters(nn.Module):
    """What is known, and other integer planes, to (mean in steps, scale index), each (N, size, h, w).

    Features, weights, activations and results are integers carried in float32 convolutions whose
    sums stay below 2^24, so that every order of summation gives the same ones (Balle et al. 2019,
    "Integer networks for data compression with latent-variable models"). Training computes with the
    same numbers; gradients pass straight through the rounding. Without gradients a large plane goes
    through in strips of rows, which give the same numbers too.
    """

    def __init__(self, inputs: int, width: int, size: int, first: int, second: int):
        super().__init__()
        self.first = IntegerConv2d(inputs, width, first)
        self.second = IntegerConv2d(width, 2 * size, second)
        nn.init.zeros_(self.second.weight)

    def forward(self, known: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
        height, width = known.shape[2:]
        rows = max(4 * REACH, STRIP // width)
        if rows >= height or torch.is_grad_enabled():
            return self.at_once(known, *others)
        mean, index = known.new_empty(2, len(known), len(self.second.weight) // 2, height, width)
        for top in range(0, height, rows):
            first, last = max(0, top - REACH), top + rows + REACH
            parts = self.at_once(*(x[:, :, first:last] for x in (known, *others)))
            for whole, part in zip((mean, index), parts, strict=True):
                whole[:, :, top : top + rows] = part[:, :, top - first :][:, :, :rows]
        return mean, index

    def at_once(self, known: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.cat([features(known), *others], dim=1)
        hidden = straight_through(torch.floor, bounded(self.first(x) / WEIGHT_UNIT, 0, 255))
        mean, index = self.second(hidden).chunk(2, dim=1)
        mean = straight_through(torch.floor, bounded(mean / WEIGHT_UNIT, -2048, 2047)) / ACTIVATION_UNIT
        index = straight_through(torch.floor, bounded(index / INDEX_UNIT, 0, SCALES - 1))
        return mean, index

    def largest_sum(self) -> float:
        """The largest sum, in size, that any input within its range can make of the weights."""
        inputs = self.first.weight.shape[1]
        most = torch.full((inputs, 1, 1), 9.0 * ACTIVATION_UNIT)
        most[: (inputs - 1) // 3] = 64.0 * ACTIVATION_UNIT  # of three kinds of features the first is largest
        first = (self.first.integer_weight().abs() * most).sum((1, 2, 3)) + self.first.integer_bias().abs()
        second = 255 * self.second.integer_weight().abs().sum((1, 2, 3)) + self.second.integer_bias().abs()
        return max(first.max(), second.max()).item()


class IntegerConv2d(nn.Conv2d):
    """A convolution of integers with weights of 8 bits, in parts of 64; learnt as floats."""

    def __init__(self, inputs: int, outputs: int, kernel: int):
        super().__init__(inputs, outputs, kernel, padding=kernel // 2)
        nn.init.zeros_(self.bias)

    def integer_weight(self) -> Tensor:
        return straight_through(torch.round, bounded(self.weight * WEIGHT_UNIT, -127, 127))

    def integer_bias(self) -> Tensor:
        return straight_through(torch.round, self.bias * (WEIGHT_UNIT * ACTIVATION_UNIT))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, self.integer_weight(), self.integer_bias(), padding=self.padding)


def features(known: Tensor) -> Tensor:
    """(N, 3 C, h, w) integers of decoded values (N, C, h, w), which are sixteenths of a step.

    The value, and its size twice, finely near zero and coarsely further out: a stand-in for a logarithm.
    """
    size = known.abs()
    fine = size.clamp(max=2) * (4 * ACTIVATION_UNIT)
    coarse = straight_through(torch.floor, size.clamp(max=16) * (ACTIVATION_UNIT // 2))
    return torch.cat([known.clamp(-64, 64) * ACTIVATION_UNIT, fine, coarse], dim=1)


# `gain_index` and `rate_feature` are part of the file format: a change needs a new VERSION or other weights.
def gain_index(rate: Tensor) -> Tensor:
    """Where rates 0..63 lie among the learnt gains 0..7: from 0, the first, to 9, two above the last."""
    return rate.float() / 7


def rate_feature(rate: Tensor) -> Tensor:
    """(N, 1, 1, 1) integer feature of rates 0..63, 18 a gain, and 144 from the first one above the last."""
    return 2 * torch.floor(9 * rate.float() / 7).clamp_max(72)[:, None, None, None]


def lattice(level: int, height: int, width: int) -> Tensor:
    """(1, 1, height, width), 1 where a position is coded by `level` 0..3 or before."""
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    even, odd = (rows % 2 == 0) & (columns % 2 == 0), (rows % 2 == 1) & (columns % 2 == 1)
    found = (rows % 4 == 0) & (columns % 4 == 0), even, even | odd, torch.ones_like(even)
    return found[level][None, None].float()


def scale_of(index: Tensor) -> Tensor:
    """Standard deviation, in steps, of a scale index 0..63."""
    return SMALLEST * torch.exp(index * SCALE_STEP)


def table_bounds() -> np.ndarray:
    """The largest integer, int64 (64,), that each scale's table holds."""
    scales = SMALLEST * np.exp(SCALE_STEP * np.arange(SCALES))
    return np.ceil(6 * scales).astype(np.int64) + 10


@cache
def gaussian_tables() -> Tensor:
    """Counts of 2^16, at least 1, of the integers -bound..bound of every scale, one after another."""
    tables = []
    with torch.device("cpu"):  # whatever device a network is built on
        for scale, bound in zip(scale_of(torch.arange(SCALES).double()), table_bounds(), strict=True):
            chances = torch.exp2(-gaussian_bits(torch.arange(-bound, bound + 1).double(), scale))
            tables.append((chances * 2**TABLE_BITS).round().clamp_min(1).int())
        return torch.cat(tables)


def bits_of(tables: Tensor) -> tuple[Tensor, Tensor]:
    """(bits, float32, of each entry of the tables; int32 (64,), where each table's zero stands)."""
    bounds = torch.from_numpy(table_bounds()).to(tables.device)
    sizes = 2 * bounds + 1
    totals = torch.stack([table.sum() for table in tables.double().split(sizes.tolist())])
    bits = totals.log2().repeat_interleave(sizes) - tables.double().log2()
    return bits.float(), (sizes.cumsum(0) - bounds - 1).int()


def table_bits(numbers: Tensor, index: Tensor, tables: Tensor) -> Tensor:
    """Bits of coded integers, offsets from predicted means, by scale index 0..63."""
    bits, zeros = bits_of(tables)
    return bits[zeros[index.int()] + numbers.int()]


def rdo_quantize(offset: Tensor, index: Tensor, tables: Tensor, strength: float) -> Tensor:
    """The integers to code for offsets from predicted means, by scale index 0..63.

    The nearest one that the table holds, or the next one towards zero where `strength` times the bits that
    this saves is more than its error costs at the slope of a uniform quantiser: rate-distortion optimised
    quantisation (Karczewicz, Ye and Chong 2008; its dead zone: Sullivan 1996). The decoder need not know.
    """
    rounded, most = offset.round(), torch.from_numpy(table_bounds()).to(offset)
    some = rounded.abs() > 0  # few of them; nan, of a training that diverged, passes through
    index, distance = index[some], offset[some].abs()
    nearest = torch.minimum(distance.round(), most[index.int()])
    lower = nearest - 1
    saved = table_bits(nearest, index, tables) - table_bits(lower, index, tables)
    lost = SLOPE * (2 * (distance - nearest) + 1)  # squares of both distances, one less the other
    rounded[some] = torch.where(strength * saved > lost, lower, nearest).copysign(offset[some])
    return rounded


def gaussian_bits(offset: Tensor, scale: Tensor) -> Tensor:
    """Bits of an integer that lies `offset` from a Gaussian's mean: its share of the unit interval."""
    upper = torch.special.ndtr((0.5 - offset.abs()) / scale)
    lower = torch.special.ndtr((-0.5 - offset.abs()) / scale)
    return -torch.log2((upper - lower).clamp_min(1e-9))


class Bounded(torch.autograd.Function):
    """clamp(x, low, high) whose gradient passes also where it leads back inside."""

    @staticmethod
    def forward(context, x: Tensor, low: float, high: float) -> Tensor:
        context.save_for_backward((x < low).to(torch.int8) - (x > high).to(torch.int8))
        return x.clamp(low, high)

    @staticmethod
    def backward(context, gradient: Tensor) -> tuple[Tensor, None, None]:
        (outside,) = context.saved_tensors
        return gradient * ~(((outside > 0) & (gradient > 0)) | ((outside < 0) & (gradient < 0))), None, None


class StraightThrough(torch.autograd.Function):
    """function(x), a rounding, with the gradient of x (Bengio et al. 2013)."""

    @staticmethod
    def forward(context, function: Callable, x: Tensor) -> Tensor:
        return function(x)

    @staticmethod
    def backward(context, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient


bounded, straight_through = Bounded.apply, StraightThrough.apply
