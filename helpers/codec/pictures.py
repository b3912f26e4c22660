"""Pictures to files of this codec and back; budgets; folders are the command's business."""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
from tqdm import tqdm

from helpers import jpeg
from helpers.codec.container import MOST_PIXELS, CodecError, Container, read
from helpers.codec.network import RATES, STRIDE, CompressionNetwork
from helpers.codec.stream import decode_latent, encode_latent
from helpers.weights import WEIGHTS, load_network

DEFAULT = WEIGHTS / "codec.safetensors"
TILE, HALO = 128, 12  # positions of the latent that a transform writes at once, and sees around them
DEFAULT_RATE = 32


@cache
def shipped_codec() -> tuple[CompressionNetwork, bytes]:
    """(network, model id) of the shipped weights."""
    network, card = load_network(DEFAULT, "compress", "rgb")
    return checked(network), bytes.fromhex(card["legs"][-1]["weights_sha256"])[:4]


def checked(network: CompressionNetwork) -> CompressionNetwork:
    """The network, ready for use. Raises CodecError where its whole-number sums could be rounded."""
    largest = max(foretell.largest_sum() for foretell, _ in network.prior.parts())
    if largest >= 2**24:
        raise CodecError(f"weights: sums of the entropy model reach {largest:,.0f}; float32 is exact to 2^24")
    return network.eval()


def encode(
    image: np.ndarray, rate: int, codec: tuple[CompressionNetwork, bytes] | None = None, **metadata: bytes
) -> tuple[bytes, np.ndarray]:
    """(file, the picture that a decoder makes of it) of a uint8 image (H, W) or (H, W, 3) at rate 0..63.

    `metadata`: icc, exif, alpha, bytes that travel along. Raises TypeError or ValueError for other images
    and rates, CodecError for a picture larger than a decoder takes.
    """
    jpeg.check_image(image, "encode")
    if not 0 <= rate < RATES:
        raise ValueError(f"rate is {rate}; it must lie in 0..{RATES - 1}")
    height, width = image.shape[:2]
    if height * width > MOST_PIXELS or max(height, width) > 2**16:
        raise CodecError(f"is {width}x{height}; at most {MOST_PIXELS:,} pixels and sides of 65,536 are coded")
    network, model = codec or shipped_codec()
    with torch.inference_mode():
        scaled = network.scaled(_analysed(network, image), torch.tensor([float(rate)]))
    latent, decoded = encode_latent(network, scaled, rate)
    grey = image.ndim == 2
    file = Container(width, height, rate, model, latent, grey, **metadata).to_bytes()
    return file, _synthesised(network, decoded, rate, height, width, grey)


def decode(data: bytes, codec: tuple[CompressionNetwork, bytes] | None = None) -> np.ndarray:
    """The picture, uint8 (H, W) or (H, W, 3), of a file. Raises CodecError, without a file's name."""
    found = read(data)
    network, model = codec or shipped_codec()
    if found.model != model:
        raise CodecError(f"was made with other weights ({found.model.hex()}; these are {model.hex()})")
    shape = (1, network.config.latent, -(-found.height // STRIDE), -(-found.width // STRIDE))
    decoded = decode_latent(network, found.latent, found.rate, shape)
    return _synthesised(network, decoded, found.rate, found.height, found.width, found.grey)


def encode_within(
    image: np.ndarray,
    most_bytes: int,
    codec: tuple[CompressionNetwork, bytes] | None = None,
    **metadata: bytes,
) -> tuple[bytes, np.ndarray]:
    """As `encode`, at the highest rate whose file has at most so many bytes, found by halving.

    Raises CodecError where the smallest file is larger.
    """
    best = most_within(lambda rate: encode(image, rate, codec, **metadata), range(RATES), most_bytes)
    if len(best[0]) > most_bytes:
        raise CodecError(f"takes {len(best[0]):,} bytes at the lowest rate; {most_bytes:,} can't be reached")
    return best


def most_within(code: Callable, settings: Sequence, most_bytes: int) -> tuple[bytes, np.ndarray]:
    """(file, decoded) of code(setting) at the last setting, from small files to large, within so many bytes.

    Found by halving; that of the first setting where none is small enough.
    """
    best, low, high = None, 0, len(settings)
    while high - low > 1 or best is None:
        middle = (low + high) // 2
        found = code(settings[middle])
        if len(found[0]) <= most_bytes or middle == 0:
            low, best = middle, found
        else:
            high = middle
    return best


def _analysed(network: CompressionNetwork, image: np.ndarray) -> torch.Tensor:
    """The latent of a picture, tile by tile; sides are filled to whole positions by repeating the edge."""
    height, width = image.shape[:2]
    colour = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    filled = np.pad(colour, ((0, -height % STRIDE), (0, -width % STRIDE), (0, 0)), mode="edge")
    y = torch.empty(1, network.config.latent, filled.shape[0] // STRIDE, filled.shape[1] // STRIDE)

    def one(rows: slice, columns: slice) -> torch.Tensor:
        part = filled[
            STRIDE * rows.start : STRIDE * rows.stop, STRIDE * columns.start : STRIDE * columns.stop
        ]
        pixels = torch.from_numpy(part.astype(np.float32) / 255).permute(2, 0, 1)[None]
        return network.analysis(pixels.contiguous())

    for target, part in _tiles(y.shape[2], y.shape[3], one, 1):
        y[:, :, target[0], target[1]] = part
    return y


def _synthesised(
    network: CompressionNetwork, decoded: torch.Tensor, rate: int, height: int, width: int, grey: bool
) -> np.ndarray:
    """The picture of a decoded latent, in the one configuration in which its pixels are defined."""
    with torch.inference_mode():
        y = decoded / network.gain(torch.tensor([float(rate)]))
        picture = np.empty((STRIDE * y.shape[2], STRIDE * y.shape[3], 3), np.uint8)

        def one(rows: slice, columns: slice) -> torch.Tensor:
            part = y[:, :, rows, columns].contiguous(memory_format=torch.channels_last)
            return network.synthesis(part).clamp(0, 1).mul(255).round().byte()

        for target, part in _tiles(y.shape[2], y.shape[3], one, STRIDE):
            picture[target] = part[0].permute(1, 2, 0).numpy()
    picture = picture[:height, :width]
    return np.rint(picture.mean(axis=2)).astype(np.uint8) if grey else picture


def _tiles(height: int, width: int, one: Callable, scale: int):
    """((rows, columns) to write, values) of each tile of a latent, values `scale` times as fine."""
    places = [(top, left) for top in range(0, height, TILE) for left in range(0, width, TILE)]
    large = len(places) > 4  # of a small picture a bar would only flicker
    for top, left in tqdm(places, unit="tile", leave=False, disable=None if large else True):
        rows = slice(max(0, top - HALO), min(height, top + TILE + HALO))
        columns = slice(max(0, left - HALO), min(width, left + TILE + HALO))
        bottom, right = min(height, top + TILE), min(width, left + TILE)
        with torch.inference_mode():
            part = one(rows, columns)
        inner = part[
            :,
            :,
            scale * (top - rows.start) : scale * (bottom - rows.start),
            scale * (left - columns.start) : scale * (right - columns.start),
        ]
        yield (slice(scale * top, scale * bottom), slice(scale * left, scale * right)), inner
