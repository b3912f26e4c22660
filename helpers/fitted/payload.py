"""A fitted picture as bytes and back: networks and latents in one stream of the range coder.

    one byte: which start the weights are counted from, an index of RATES
    for each group of GROUPS, two bytes: its shift (weights are counted in 2^-shift), its scale's index
    ...  the range coder's words, four bytes each: the weights' differences from the start, group after
         group, then the latents

The starts travel with the program (`helpers.fitted.learning` makes them); a file's `model` names them.
"""

import hashlib
from functools import cache

import constriction
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from helpers import DATA, StudyError, one_line
from helpers.codec.container import CodecError, Container
from helpers.fitted.exact import FAMILY, Weights, Whole, decode_latents, encode_latents, synthesise
from helpers.fitted.layout import LARGEST, PHASES, SCALES, SHAPES, SMALLEST
from helpers.fitted.tables import laplace_tables, table_rows

# Weights that share a step and a scale: what a kind of layer needs is alike.
GROUPS = {
    "context": ("context_1", "context_2", "context_3"),
    "context bias": ("context_1_bias", "context_2_bias", "context_3_bias"),
    "upsampling": ("upsampling",),
    "mixing": ("synthesis_1", "synthesis_2"),
    "filters": ("synthesis_3", "synthesis_4"),
    "synthesis bias": ("synthesis_1_bias", "synthesis_2_bias", "synthesis_3_bias", "synthesis_4_bias"),
}
HEAD = 1 + 2 * len(GROUPS)
LEARNT = DATA / "weights" / "fitted" / "start.safetensors"
RATES = (10, 25, 40, 55)  # that starts were learnt at
MOST_SHIFT = 15
MOST_PIXELS = 10_000_000  # of a picture, so that decoding stays within 2 GB


@cache
def starts() -> tuple[list[dict[str, np.ndarray]], bytes]:
    """(float32 weights of SHAPES for each of RATES, their name in files). Raises StudyError."""
    try:
        data = LEARNT.read_bytes()
        tensors = load(data)
        found = [{name: tensors[f"{rate} {name}"] for name in SHAPES} for rate in RATES]
        if any(weights[name].shape != shape for weights in found for name, shape in SHAPES.items()):
            raise ValueError("its tensors have other shapes")
    except (OSError, SafetensorError, LookupError, ValueError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise StudyError(f"{LEARNT.name}: can't be read ({reason}); it is part of the program") from None
    return found, hashlib.sha256(data).digest()[:4]


def to_bytes(weights: Weights, latents: list[np.ndarray], start: int) -> tuple[bytes, list[np.ndarray]]:
    """(payload, decoded latents) of whole weights and latents, in the order of LATENTS.

    `start` is the index of RATES that the weights are counted from.
    """
    coder, head = constriction.stream.queue.RangeEncoder(), [start]
    for layers in GROUPS.values():
        numbers = _differences(weights, layers, start)
        scale = scale_index(numbers)
        head += [weights[layers[0]].shift, scale]
        bound, counts = _table(scale)
        coder.encode((numbers + bound).astype(np.int32), FAMILY, np.repeat(counts, len(numbers), 0))
    decoded = encode_latents(weights, latents, coder)
    return bytes(head) + coder.get_compressed().astype("<u4").tobytes(), decoded


def from_bytes(data: bytes, height: int, width: int) -> tuple[Weights, list[np.ndarray]]:
    """(weights, latents) of a payload for a picture of that size. Raises CodecError where it can't be one."""
    head, words = data[:HEAD], data[HEAD:]
    if len(head) < HEAD or len(words) % 4:
        raise CodecError("has networks or latents that are not whole")
    if head[0] >= len(RATES):
        raise CodecError(f"has networks in an unknown form (start {head[0]})")
    coder = constriction.stream.queue.RangeDecoder(np.frombuffer(words, "<u4").astype(np.uint32))
    weights: Weights = {}
    try:
        for shift, scale, layers in zip(head[1::2], head[2::2], GROUPS.values(), strict=True):
            if shift > MOST_SHIFT or scale >= SCALES:
                raise CodecError(f"has networks in an unknown form (shift {shift}, scale {scale})")
            bound, counts = _table(scale)
            for layer in layers:
                base = _counted(starts()[0][head[0]][layer], shift)
                numbers = coder.decode(FAMILY, np.repeat(counts, base.size, 0)) - bound
                weights[layer] = Whole(base + numbers.reshape(base.shape), shift)
        return weights, decode_latents(weights, coder, height, width)
    except AssertionError as error:  # constriction's word for an impossible stream
        raise CodecError(f"has networks or latents that can't be decoded ({error})") from None


def decode(found: Container) -> np.ndarray:
    """The picture, uint8 (H, W) or (H, W, 3), of a fitted file taken apart. Raises CodecError."""
    if found.height * found.width > MOST_PIXELS:
        raise CodecError(f"claims {found.width}x{found.height}; at most {MOST_PIXELS:,} pixels can be fitted")
    if found.model != starts()[1]:
        ours = starts()[1].hex()
        raise CodecError(f"was fitted from another start ({found.model.hex()}; this program's is {ours})")
    return picture_of(*from_bytes(found.latent, found.height, found.width), found.grey)


def picture_of(weights: Weights, latents: list[np.ndarray], grey: bool) -> np.ndarray:
    """uint8 (H, W, 3), or (H, W) for a grey picture, of what was decoded."""
    picture = synthesise(weights, latents)
    return np.rint(picture.mean(axis=2)).astype(np.uint8) if grey else picture


def whole_weights(weights: dict[str, np.ndarray], shifts: dict[str, int], start: int) -> Weights:
    """Weights as whole numbers by each group's shift; further from the start than tables reach: nearer."""
    most, whole = int(laplace_tables()[0].max()), {}
    for group, layers in GROUPS.items():
        for layer in layers:
            base = _counted(starts()[0][start][layer], shifts[group])
            numbers = _counted(weights[layer], shifts[group]).clip(base - most, base + most)
            whole[layer] = Whole(numbers, shifts[group])
    return whole


def _counted(values: np.ndarray, shift: int) -> np.ndarray:
    """int32, in 2^-shift; exact, since a power of two only moves the point."""
    return np.rint(values * np.float32(2.0**shift)).astype(np.int32)


def _differences(weights: Weights, layers: tuple[str, ...], start: int) -> np.ndarray:
    parts = (
        weights[layer].numbers - _counted(starts()[0][start][layer], weights[layer].shift) for layer in layers
    )
    return np.concatenate([part.ravel() for part in parts])


def scale_index(numbers: np.ndarray) -> int:
    """Index of the scale that codes whole numbers in the fewest bits and reaches all of them."""
    bounds, _ = laplace_tables()
    mean = max(np.abs(numbers).mean(), SMALLEST)  # which is a Laplace distribution's scale
    best = np.log(mean / SMALLEST) / np.log(LARGEST / SMALLEST) * (SCALES - 1)
    return int(max(min(round(best), SCALES - 1), np.searchsorted(bounds, np.abs(numbers).max())))


def _table(scale: int) -> tuple[int, np.ndarray]:
    return table_rows(np.array([scale]), np.array([PHASES // 2]))


def weights_bits(weights: Weights, start: int) -> float:
    """Bits that the networks take."""
    bits = 8.0 * HEAD
    for layers in GROUPS.values():
        numbers = _differences(weights, layers, start)
        bound, counts = _table(scale_index(numbers))
        bits -= np.log2(counts[0] / counts[0].sum())[numbers + bound].sum()
    return bits
