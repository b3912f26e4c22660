"""A fitted picture as bytes and back: networks and latents in one stream of the range coder.

    one byte: which start the weights are counted from, an index of START_RATES
    for each group of WEIGHT_GROUPS, two bytes: its shift (weights are counted in 2^-shift), its scale's index
    ...  the range coder's words, four bytes each: the weights' differences from the start, group after
         group, then the latents

The starts travel with the program (`helpers.training.fitted_start` makes them); a file's `model` names them.
"""

import hashlib
from collections.abc import Iterator
from functools import cache

import constriction
import numpy as np
from safetensors.numpy import load

from helpers.codec.container import CodecError, Container
from helpers.codec.fitted import decoder
from helpers.codec.fitted.decoder import FAMILY, FixedPoint, Weights
from helpers.codec.fitted.layout import LARGEST, PHASES, SCALES, SHAPES, SMALLEST, laplace_tables, table_rows
from helpers.files import StudyError
from helpers.weights import default_weights

# Weights that share a step and a scale: what a kind of layer needs is alike.
WEIGHT_GROUPS = {
    "context": ("context_1", "context_2", "context_3"),
    "context bias": ("context_1_bias", "context_2_bias", "context_3_bias"),
    "upsampling": ("upsampling",),
    "mixing": ("synthesis_1", "synthesis_2"),
    "filters": ("synthesis_3", "synthesis_4"),
    "synthesis bias": ("synthesis_1_bias", "synthesis_2_bias", "synthesis_3_bias", "synthesis_4_bias"),
}
HEAD = 1 + 2 * len(WEIGHT_GROUPS)
START_RATES = (10, 25, 40, 55)  # that starts were learnt at
MOST_SHIFT = 15
CENTRED = np.array([PHASES // 2])  # the phase of tables about zero
MOST_FITTED_PIXELS = 10_000_000  # of a picture, so that decoding stays within 2 GB


@cache
def starts() -> tuple[list[dict[str, np.ndarray]], bytes]:
    """(float32 weights of SHAPES for each of START_RATES, their name in files). Raises StudyError."""
    path = default_weights("fit", "rgb")
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = f"can't be read ({error.strerror}); it is part of the program"
        raise StudyError(f"{path.name}: {reason}") from None
    tensors = load(data)
    found = [{name: tensors[f"{rate} {name}"] for name in SHAPES} for rate in START_RATES]
    return found, hashlib.sha256(data).digest()[:4]


def to_bytes(weights: Weights, latents: list[np.ndarray], start: int) -> tuple[bytes, list[np.ndarray]]:
    """(payload, decoded latents) of rounded weights, counted from START_RATES[start], and of latents."""
    coder, head = constriction.stream.queue.RangeEncoder(), [start]
    for shift, scale, symbols, counts in _groups(weights, start):
        head += [shift, scale]
        coder.encode(symbols, FAMILY, np.repeat(counts, len(symbols), 0))
    decoded = decoder.encode_latents(weights, latents, coder)
    return bytes(head) + coder.get_compressed().astype("<u4").tobytes(), decoded


def from_bytes(data: bytes, height: int, width: int) -> tuple[Weights, list[np.ndarray]]:
    """(weights, latents) of a payload for a picture of that size. Raises CodecError where it can't be one."""
    head, words = data[:HEAD], data[HEAD:]
    if len(head) < HEAD or len(words) % 4:
        raise CodecError("has networks or latents that are not whole")
    if head[0] >= len(START_RATES):
        raise CodecError(f"has networks in an unknown form (start {head[0]})")
    coder = constriction.stream.queue.RangeDecoder(np.frombuffer(words, "<u4").astype(np.uint32))
    weights: Weights = {}
    try:
        for shift, scale, layers in zip(head[1::2], head[2::2], WEIGHT_GROUPS.values(), strict=True):
            if shift > MOST_SHIFT or scale >= SCALES:
                raise CodecError(f"has networks in an unknown form (shift {shift}, scale {scale})")
            bound, counts = table_rows(np.array([scale]), CENTRED)
            for layer in layers:
                base = _start(head[0], layer, shift)
                numbers = coder.decode(FAMILY, np.repeat(counts, base.size, 0)) - bound
                weights[layer] = FixedPoint(base + numbers.reshape(base.shape), shift)
        return weights, decoder.decode_latents(weights, coder, height, width)
    except AssertionError as error:  # constriction's word for an impossible stream
        raise CodecError(f"has networks or latents that can't be decoded ({error})") from None


def decode(found: Container) -> np.ndarray:
    """The picture, uint8 (H, W) or (H, W, 3), of a fitted file taken apart. Raises CodecError."""
    if found.height * found.width > MOST_FITTED_PIXELS:
        size = f"{found.width}x{found.height}"
        raise CodecError(f"claims {size}; at most {MOST_FITTED_PIXELS:,} pixels can be fitted")
    if found.model != starts()[1]:
        ours = starts()[1].hex()
        raise CodecError(f"was fitted from another start ({found.model.hex()}; this program's is {ours})")
    return picture_of(*from_bytes(found.latent, found.height, found.width), found.grey)


def picture_of(weights: Weights, latents: list[np.ndarray], grey: bool) -> np.ndarray:
    """uint8 (H, W, 3), or (H, W) for a grey picture, of what was decoded."""
    picture = decoder.synthesise(weights, latents)
    return np.rint(picture.mean(axis=2)).astype(np.uint8) if grey else picture


def rounded_weights(weights: dict[str, np.ndarray], shifts: dict[str, int], start: int) -> Weights:
    """Weights as integers by each group's shift; further from the start than tables reach: nearer."""
    most, rounded = int(laplace_tables()[0].max()), {}
    for group, layers in WEIGHT_GROUPS.items():
        for layer in layers:
            base = _start(start, layer, shifts[group])
            numbers = _counted(weights[layer], shifts[group]).clip(base - most, base + most)
            rounded[layer] = FixedPoint(numbers, shifts[group])
    return rounded


def _counted(values: np.ndarray, shift: int) -> np.ndarray:
    """int32, in 2^-shift; exact, since a power of two only moves the point."""
    return np.rint(values * np.float32(2.0**shift)).astype(np.int32)


def _start(start: int, layer: str, shift: int) -> np.ndarray:
    """A layer of one of `starts`, counted in 2^-shift."""
    return _counted(starts()[0][start][layer], shift)


def _groups(weights: Weights, start: int) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    """(shift, index of scale, symbols int32 (n,), their table's counts (1, m)) of each of WEIGHT_GROUPS."""
    for layers in WEIGHT_GROUPS.values():
        shift = weights[layers[0]].shift
        parts = [weights[layer].numbers - _start(start, layer, shift) for layer in layers]
        numbers = np.concatenate([part.ravel() for part in parts])
        mean = max(np.abs(numbers).mean(), SMALLEST)  # which is a Laplace distribution's scale
        best = np.log(mean / SMALLEST) / np.log(LARGEST / SMALLEST) * (SCALES - 1)
        reaching_all = np.searchsorted(laplace_tables()[0], np.abs(numbers).max())
        scale = int(max(min(round(best), SCALES - 1), reaching_all))
        bound, counts = table_rows(np.array([scale]), CENTRED)
        yield shift, scale, (numbers + bound).astype(np.int32), counts


def weights_bits(weights: Weights, start: int) -> float:
    """Bits that the networks take."""
    bits = 8.0 * HEAD
    for _, _, symbols, counts in _groups(weights, start):
        bits -= np.log2(counts[0] / counts[0].sum())[symbols].sum()
    return bits
