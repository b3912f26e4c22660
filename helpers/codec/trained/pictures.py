"""Pictures to files of the trained codec and back, at a rate or within a budget of bytes."""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from helpers import jpeg
from helpers.codec.container import MOST_PIXELS, CodecError, Container, read
from helpers.codec.trained.network import RATE_COUNT, STRIDE, CompressionNetwork
from helpers.codec.trained.stream import decode_latent, encode_latent
from helpers.data.patches import scaled, tiles
from helpers.weights import default_weights, load_network

TILE, HALO = 128, 12  # positions of the latent that a transform writes at once, and sees around them
Codec = tuple[CompressionNetwork, bytes]  # and its model id
Coded = tuple[bytes, np.ndarray]  # a file, and the picture that a decoder makes of it


@cache
def shipped_codec() -> Codec:
    """(network, model id) of the shipped weights."""
    network, card = load_network(default_weights("compress", "rgb"), CompressionNetwork, "compress", "rgb")
    return checked(network), bytes.fromhex(card["legs"][-1]["weights_sha256"])[:4]


def checked(network: CompressionNetwork) -> CompressionNetwork:
    """The network, ready for use. Raises CodecError where its sums of integers could be rounded."""
    largest = max(part.largest_sum() for part, _ in network.prior.parts())
    if largest >= 2**24:
        raise CodecError(f"weights: sums of the entropy model reach {largest:,.0f}; float32 is exact to 2^24")
    return network.eval()


def encode(image: np.ndarray, rate: int, codec: Codec | None = None, **metadata: bytes) -> Coded:
    """(file, the picture that a decoder makes of it) of a uint8 image (H, W) or (H, W, 3) at rate 0..63.

    `metadata`: icc, exif, alpha, bytes that travel along. Raises TypeError or ValueError for other images
    and rates, CodecError for a picture larger than a decoder takes.
    """
    jpeg.check_image(image, "encode")
    if not 0 <= rate < RATE_COUNT:
        raise ValueError(f"rate is {rate}; it must lie in 0..{RATE_COUNT - 1}")
    height, width = image.shape[:2]
    if height * width > MOST_PIXELS or max(height, width) > 2**16:
        raise CodecError(f"is {width}x{height}; at most {MOST_PIXELS:,} pixels and sides of 65,536 are coded")
    network, model = codec or shipped_codec()
    with torch.inference_mode():  # not around all: the cached network must not hold inference tensors
        in_steps = network.to_steps(_analysed(network, image), torch.tensor([float(rate)]))
    (latent, decoded), grey = encode_latent(network, in_steps, rate), image.ndim == 2
    file = Container(width, height, rate, model, latent, grey, **metadata).to_bytes()
    return file, _synthesised(network, decoded, rate, height, width, grey)


def decode(data: bytes, codec: Codec | None = None) -> np.ndarray:
    """The picture, uint8 (H, W) or (H, W, 3), of a file. Raises CodecError, without a file's name."""
    return decode_container(read(data), codec)


def decode_container(found: Container, codec: Codec | None = None) -> np.ndarray:
    """As `decode`, of a file that was taken apart."""
    network, model = codec or shipped_codec()
    if found.model != model:
        raise CodecError(f"was made with other weights ({found.model.hex()}; these are {model.hex()})")
    shape = (1, network.config.latent, -(-found.height // STRIDE), -(-found.width // STRIDE))
    decoded = decode_latent(network, found.latent, found.rate, shape)
    return _synthesised(network, decoded, found.rate, found.height, found.width, found.grey)


def encode_within(image: np.ndarray, most_bytes: int, codec: Codec | None = None, **metadata: bytes) -> Coded:
    """As `encode`, at the highest rate within so many bytes. Raises CodecError where no file is so small."""
    best = most_within(lambda rate: encode(image, rate, codec, **metadata), range(RATE_COUNT), most_bytes)
    if len(best[0]) > most_bytes:
        raise CodecError(f"takes {len(best[0]):,} bytes at the lowest rate; {most_bytes:,} can't be reached")
    return best


def most_within(code: Callable, settings: Sequence, most_bytes: int) -> Coded:
    """code(setting) of the last of `settings`, small files first, within so many bytes, else of the first."""
    best, low, high = None, 0, len(settings)  # found by halving
    while high - low > 1 or best is None:
        middle = (low + high) // 2
        found = code(settings[middle])
        if len(found[0]) <= most_bytes or middle == 0:
            low, best = middle, found
        else:
            high = middle
    return best


@torch.inference_mode()
def _analysed(network: CompressionNetwork, image: np.ndarray) -> Tensor:
    """The latent of a picture, tile by tile; sides are filled to whole blocks by repeating the edge."""
    height, width = image.shape[:2]
    colour = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    filled = np.pad(colour, ((0, -height % STRIDE), (0, -width % STRIDE), (0, 0)), mode="edge")
    y = torch.empty(1, network.config.latent, filled.shape[0] // STRIDE, filled.shape[1] // STRIDE)
    for tile in tiles(*y.shape[2:], TILE, HALO):
        part = filled[scaled(tile.outer, STRIDE)].astype(np.float32) / 255
        found = network.analysis(torch.from_numpy(part).permute(2, 0, 1)[None].contiguous())
        y[(..., *tile.inner)] = found[(..., *tile.cut)]
    return y


@torch.inference_mode()
def _synthesised(
    network: CompressionNetwork, decoded: Tensor, rate: int, height: int, width: int, grey: bool
) -> np.ndarray:
    """The picture of a decoded latent, in the one configuration in which its pixels are defined."""
    y = decoded / network.gain(torch.tensor([float(rate)]))
    picture = np.empty((STRIDE * y.shape[2], STRIDE * y.shape[3], 3), np.uint8)
    for tile in tiles(*y.shape[2:], TILE, HALO):
        part = y[(..., *tile.outer)].contiguous(memory_format=torch.channels_last)
        found = network.synthesis(part).clamp(0, 1).mul(255).round().byte()[0].permute(1, 2, 0)
        picture[scaled(tile.inner, STRIDE)] = found.numpy()[scaled(tile.cut, STRIDE)]
    picture = picture[:height, :width]
    return np.rint(picture.mean(axis=2)).astype(np.uint8) if grey else picture
