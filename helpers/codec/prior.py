"""The entropy model: what a coded number is foretold from, by whole numbers only, on any machine the same."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

SCALES = 64  # tables: Gaussian where training starts, counted at its end
SMALLEST, LARGEST = 0.11, 100.0  # the standard deviations they stand for, log-spaced, in steps
SCALE_STEP = math.log(LARGEST / SMALLEST) / (SCALES - 1)
UNIT = 16  # means and activations are counted in sixteenths of a step
WEIGHT_UNIT = 64  # weights of the context networks in parts of 64
INDEX_UNIT = 128  # their sums, an index: an eighth of an activation, so that one learning rate suits all
TABLE_BITS = 16  # counts of a table add up to about 2^16, and none is below 1
GROUPS = (3, 6, 9, 12, 18, 32, 48)  # channels of y in the order of coding; the first ones are interlaced
SIDE = 16  # channels of a hyperprior's side information
LEVELS = 4  # of the first group: every 4th position, every 2nd, the middles of those, the rest
STRIP = 2**15  # positions that a network foretells at once outside training: 24 megapixels in 2 GB
SLOPE = 6 / math.log(2)  # bits that a squared step is worth where a uniform quantiser trades both evenly
REACH = 2  # rows on either side that a network looks at, 5x5 or twice 3x3

# What codes one part: (channels, mean in steps, scale index, where to) to the decoded values of the part.
Code = Callable[[slice, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


class Context(nn.Module):
    """Foretells y part by part from the parts before: ten steps for a picture of any size.

    Within a part all positions are coded at once. Groups of channels follow each other (Minnen and
    Singh 2020); the first group, the blocks' brightness and colour, is interlaced over four levels.
    """

    def __init__(self, width: int, sizes: tuple[int, ...]):
        super().__init__()
        self.sizes, first = sizes, sizes[0]
        self.register_buffer("tables", gaussian_tables())
        inputs = 3 * first + 2  # features, where they are known, the rate
        self.levels = nn.ModuleList(
            Foretell(inputs, width, first, 5 if level else 1, 1) for level in range(LEVELS)
        )
        starts = [sum(sizes[:k]) for k in range(1, len(sizes))]
        self.groups = nn.ModuleList(
            Foretell(3 * start + 1, width, size, 3, 3) for start, size in zip(starts, sizes[1:], strict=True)
        )

    def parts(self) -> list[tuple[nn.Module, slice]]:
        """Each network with the channels of y that it foretells, in the order of coding."""
        ends = [sum(self.sizes[: k + 1]) for k in range(len(self.sizes))]
        slices = [slice(end - size, end) for end, size in zip(ends, self.sizes, strict=True)]
        return list(zip([*self.levels, *self.groups], [*slices[:1] * LEVELS, *slices[1:]], strict=True))

    def forward(self, rate: torch.Tensor, shape: torch.Size, code: Code) -> torch.Tensor:
        n, _, height, width = shape
        rates = whole_rate(rate).expand(n, 1, height, width)
        known = torch.zeros(n, self.sizes[0], height, width, device=rates.device)
        before = torch.zeros(1, 1, height, width, device=rates.device)
        for level, network in enumerate(self.levels):
            here = lattice(level, height, width).to(rates.device) - before
            place = UNIT * before.expand(n, -1, -1, -1)
            mean, index = network(known, place, rates)
            coded = code(slice(0, self.sizes[0]), mean, index, here)
            known, before = torch.where(here > 0, coded, known), before + here
        everywhere = torch.ones_like(before)
        for size, network in zip(self.sizes[1:], self.groups, strict=True):
            start = known.shape[1]
            mean, index = network(known, rates)
            coded = code(slice(start, start + size), mean, index, everywhere)
            known = torch.cat([known, coded], dim=1)
        return known


class Factorised(nn.Module):
    """Foretells each number from its channel and the rate alone."""

    def __init__(self, width: int, channels: int):
        super().__init__()
        self.channels = channels
        self.register_buffer("tables", gaussian_tables())
        self.network = Foretell(1, width, channels, 1, 1)

    def parts(self) -> list[tuple[nn.Module, slice]]:
        return [(self.network, slice(0, self.channels))]

    def forward(self, rate: torch.Tensor, shape: torch.Size, code: Code) -> torch.Tensor:
        n, _, height, width = shape
        rates = whole_rate(rate).expand(n, 1, height, width)
        mean, index = self.network(rates[:, :0], rates)  # of nothing known
        everywhere = torch.ones(1, 1, height, width, device=mean.device)
        return code(slice(0, shape[1]), mean, index, everywhere)


class Hyperprior(nn.Module):
    """Foretells y, mean and scale, from side information z that is sent before it (Minnen et al. 2018).

    z has SIDE channels at every 4th row and column of y, and a factorised model of its own.
    """

    def __init__(self, width: int, channels: int):
        super().__init__()
        self.channels = channels
        self.register_buffer("tables", gaussian_tables())
        self.analysis = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(width, SIDE, 5, stride=2, padding=2),
        )
        self.side = Foretell(1, width, SIDE, 1, 1)
        self.network = Foretell(3 * SIDE + 1, width, channels, 3, 3)

    def parts(self) -> list[tuple[nn.Module, slice]]:
        return [(self.side, slice(0, 0)), (self.network, slice(0, self.channels))]

    def with_side(self, scaled: torch.Tensor) -> torch.Tensor:
        """z, where it stands, before the channels of a scaled latent."""
        z = scaled.new_zeros(len(scaled), SIDE, *scaled.shape[2:])
        z[:, :, ::4, ::4] = self.analysis(scaled.abs())
        return torch.cat([z, scaled], dim=1)

    def forward(self, rate: torch.Tensor, shape: torch.Size, code: Code) -> torch.Tensor:
        n, _, height, width = shape
        rates = whole_rate(rate).expand(n, 1, height, width)
        mean, index = self.side(rates[:, :0], rates)
        z = code(slice(0, SIDE), mean, index, lattice(0, height, width).to(mean.device))[:, :, ::4, ::4]
        z = z.repeat_interleave(4, 2).repeat_interleave(4, 3)[:, :, :height, :width]
        mean, index = self.network(z, rates)
        return code(slice(SIDE, SIDE + self.channels), mean, index, torch.ones_like(mean[:1, :1]))


class Foretell(nn.Module):
    """What is known, and whole numbers beside it, to (mean in steps, scale index), each (N, size, h, w).

    Features, weights, activations and results are whole numbers carried in float32 convolutions whose
    sums stay below 2^24, so that every order of summation gives the same ones (Balle et al. 2019,
    "Integer networks for data compression with latent-variable models"). Training computes with the
    same numbers; gradients pass straight through the rounding. Without gradients a large plane goes
    through in strips of rows, which give the same numbers too.
    """

    def __init__(self, inputs: int, width: int, size: int, first: int, second: int):
        super().__init__()
        self.first = WholeConv2d(inputs, width, first)
        self.second = WholeConv2d(width, 2 * size, second)
        with torch.no_grad():
            self.second.weight.zero_()

    def forward(self, known: torch.Tensor, *beside: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        height, width = known.shape[2:]
        rows = max(4 * REACH, STRIP // width)
        if rows >= height or torch.is_grad_enabled():
            return self.at_once(known, *beside)
        mean, index = known.new_empty(2, len(known), len(self.second.weight) // 2, height, width)
        for top in range(0, height, rows):
            first, last = max(0, top - REACH), top + rows + REACH
            parts = self.at_once(*(x[:, :, first:last] for x in (known, *beside)))
            for whole, part in zip((mean, index), parts, strict=True):
                whole[:, :, top : top + rows] = part[:, :, top - first :][:, :, :rows]
        return mean, index

    def at_once(self, known: torch.Tensor, *beside: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.cat([features(known), *beside], dim=1)
        hidden = straight_through(torch.floor, bounded(self.first(x) / WEIGHT_UNIT, 0, 255))
        mean, index = self.second(hidden).chunk(2, dim=1)
        mean = straight_through(torch.floor, bounded(mean / WEIGHT_UNIT, -2048, 2047)) / UNIT
        index = straight_through(torch.floor, bounded(index / INDEX_UNIT, 0, SCALES - 1))
        return mean, index

    def largest_sum(self) -> float:
        """The largest sum, in size, that any input within its range can make of the weights."""
        inputs = self.first.weight.shape[1]
        known = (inputs - 1) // 3  # features come in three kinds; what follows them is smaller
        range_ = torch.full((inputs,), 64.0 * UNIT)
        range_[known:] = 9.0 * UNIT
        first = (self.first.whole_weight().abs() * range_[:, None, None]).sum((1, 2, 3))
        second = 255 * self.second.whole_weight().abs().sum((1, 2, 3))
        return max(
            (first + self.first.whole_bias().abs()).max(), (second + self.second.whole_bias().abs()).max()
        ).item()


class WholeConv2d(nn.Module):
    """A convolution of whole numbers with weights of 8 bits, in parts of 64; learnt as floats."""

    def __init__(self, inputs: int, outputs: int, kernel: int):
        super().__init__()
        start = nn.Conv2d(inputs, outputs, kernel)
        self.weight = nn.Parameter(start.weight.detach().clone())
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.padding = kernel // 2

    def whole_weight(self) -> torch.Tensor:
        return straight_through(torch.round, bounded(self.weight * WEIGHT_UNIT, -127, 127))

    def whole_bias(self) -> torch.Tensor:
        return straight_through(torch.round, self.bias * (WEIGHT_UNIT * UNIT))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv2d(x, self.whole_weight(), self.whole_bias(), padding=self.padding)


def features(known: torch.Tensor) -> torch.Tensor:
    """(N, 3 C, h, w) whole numbers of decoded values (N, C, h, w), which are sixteenths of a step.

    The value, and its size twice, finely near zero and coarsely further out: a stand-in for a logarithm.
    """
    size = known.abs()
    coarse = straight_through(torch.floor, size.clamp(max=16) * (UNIT // 2))
    return torch.cat([known.clamp(-64, 64) * UNIT, size.clamp(max=2) * (4 * UNIT), coarse], dim=1)


def place_of(rate: torch.Tensor) -> torch.Tensor:
    """Where rates 0..63 lie among the learnt gains 0..7: from 0, the first, to 9, two above the last.

    Part of the file format, as `whole_rate` is: a change needs a new VERSION or other weights.
    """
    return rate.float() / 7


def whole_rate(rate: torch.Tensor) -> torch.Tensor:
    """(N, 1, 1, 1) whole feature of rates 0..63, 18 a gain, and 144 from the first one above the last."""
    return 2 * torch.floor(9 * rate.float() / 7).clamp_max(72)[:, None, None, None]


def lattice(level: int, height: int, width: int) -> torch.Tensor:
    """(1, 1, height, width), 1 where a position is coded by `level` 0..3 or before."""
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    even = (rows % 2 == 0) & (columns % 2 == 0)
    found = (
        (rows % 4 == 0) & (columns % 4 == 0),
        even,
        even | ((rows % 2 == 1) & (columns % 2 == 1)),
        torch.ones(height, width, dtype=torch.bool),
    )
    return found[level][None, None].float()


def scale_of(index: torch.Tensor) -> torch.Tensor:
    """Standard deviation, in steps, of a scale index 0..63."""
    return SMALLEST * torch.exp(index * SCALE_STEP)


def table_bounds() -> np.ndarray:
    """The largest whole number, int64 (64,), that each scale's table holds."""
    scales = SMALLEST * np.exp(SCALE_STEP * np.arange(SCALES))
    return np.ceil(6 * scales).astype(np.int64) + 10


def gaussian_tables() -> torch.Tensor:
    """Counts of 2^16, at least 1, of the whole numbers -bound..bound of every scale, one after another.

    Training starts with them and ends with counted ones, which travel with the weights.
    """
    tables = []
    for index, bound in enumerate(table_bounds()):
        numbers = torch.arange(-bound, bound + 1, dtype=torch.float64)
        chances = torch.exp2(-gaussian_bits(numbers, scale_of(torch.tensor(float(index)).double())))
        tables.append((chances * 2**TABLE_BITS).round().clamp_min(1).int())
    return torch.cat(tables)


def bits_of(tables: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(bits, float32, of each entry of the tables; int32 (64,), where each table's zero stands)."""
    bounds = torch.from_numpy(table_bounds()).to(tables.device)
    sizes = 2 * bounds + 1
    totals = torch.stack([table.sum() for table in tables.double().split(sizes.tolist())])
    bits = totals.log2().repeat_interleave(sizes) - tables.double().log2()
    return bits.float(), (sizes.cumsum(0) - bounds - 1).int()


def table_bits(whole: torch.Tensor, index: torch.Tensor, tables: torch.Tensor) -> torch.Tensor:
    """Bits of coded numbers, offsets from foretold means, by scale index 0..63."""
    bits, zeros = bits_of(tables)
    return bits[zeros[index.int()] + whole.int()]


def thrifty(offset: torch.Tensor, index: torch.Tensor, tables: torch.Tensor, thrift: float) -> torch.Tensor:
    """The whole numbers to code for offsets from foretold means, by scale index 0..63.

    The nearest number that the table holds, or the next one towards zero where `thrift` times the bits that
    this saves is more than its error costs at the slope of a uniform quantiser: rate-distortion optimised
    quantisation (Karczewicz, Ye and Chong 2008; its dead zone: Sullivan 1996). The decoder need not know.
    """
    whole, most = offset.round(), torch.from_numpy(table_bounds()).to(offset)
    some = whole.abs() > 0  # few of them; nan, of a training that diverged, passes through
    index, distance = index[some], offset[some].abs()
    nearest = torch.minimum(distance.round(), most[index.int()])
    lower = nearest - 1
    saved = table_bits(nearest, index, tables) - table_bits(lower, index, tables)
    lost = SLOPE * (2 * (distance - nearest) + 1)  # squares of both distances, one less the other
    whole[some] = torch.where(thrift * saved > lost, lower, nearest).copysign(offset[some])
    return whole


def gaussian_bits(offset: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Bits of a whole number that lies `offset` from a Gaussian's mean: its share of the unit interval."""
    upper = torch.special.ndtr((0.5 - offset.abs()) / scale)
    lower = torch.special.ndtr((-0.5 - offset.abs()) / scale)
    return -torch.log2((upper - lower).clamp_min(1e-9))


class Bound(torch.autograd.Function):
    """clamp(x, low, high) whose gradient passes where it leads back inside."""

    @staticmethod
    def forward(context, x: torch.Tensor, low: float, high: float) -> torch.Tensor:
        context.save_for_backward((x < low).to(torch.int8) - (x > high).to(torch.int8))
        return x.clamp(low, high)

    @staticmethod
    def backward(context, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (outside,) = context.saved_tensors
        return gradient * ~(((outside > 0) & (gradient > 0)) | ((outside < 0) & (gradient < 0))), None, None


def bounded(x: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """clamp whose gradient passes where it leads back inside."""
    return Bound.apply(x, low, high)


class StraightThrough(torch.autograd.Function):
    """A rounding, exactly, with the gradient of what it rounds (Bengio et al. 2013)."""

    @staticmethod
    def forward(context, x: torch.Tensor, function: Callable) -> torch.Tensor:
        return function(x)

    @staticmethod
    def backward(context, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient, None


def straight_through(function: Callable, x: torch.Tensor) -> torch.Tensor:
    """function(x), a rounding, with the gradient of x."""
    return StraightThrough.apply(x, function)
