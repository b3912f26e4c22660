"""Latents as bytes: range coding with what the entropy model predicts, by integer tables."""

from collections.abc import Iterator

import constriction
import numpy as np
import torch
from torch import Tensor

from helpers.codec.container import CodecError
from helpers.codec.trained.entropy_model import SCALES, table_bounds
from helpers.codec.trained.network import CompressionNetwork


@torch.inference_mode()
def encode_latent(network: CompressionNetwork, in_steps: Tensor, rate: int) -> tuple[bytes, Tensor]:
    """(range coder's stream, decoded latent in steps) of what the network's `to_steps` makes of a latent."""
    models, bounds, coder = models_of(network), table_bounds(), constriction.stream.queue.RangeEncoder()

    def code(channels: slice, mean: Tensor, index: Tensor, here: Tensor) -> Tensor:
        quantized = network.quantize(channels, in_steps[:, channels] - mean, index)
        symbols = quantized.reshape(-1).numpy()
        for table, positions in _by_table(index, here):
            coder.encode(symbols[positions].astype(np.int32) + int(bounds[table]), models[table])
        return mean + quantized

    decoded = network.prior(torch.tensor([float(rate)]), in_steps.shape, code)
    return coder.get_compressed().astype("<u4").tobytes(), decoded


@torch.inference_mode()
def decode_latent(network: CompressionNetwork, data: bytes, rate: int, shape: tuple[int, ...]) -> Tensor:
    """Decoded latent in steps (1, latent, h, w) of a stream. Raises CodecError where it can't be one."""
    if len(data) % 4:
        raise CodecError("has a latent that is not whole")
    models, bounds = models_of(network), table_bounds()
    coder = constriction.stream.queue.RangeDecoder(np.frombuffer(data, "<u4").astype(np.uint32))

    def code(channels: slice, mean: Tensor, index: Tensor, here: Tensor) -> Tensor:
        found = np.zeros(mean.numel(), np.float32)
        for table, positions in _by_table(index, here):
            found[positions] = coder.decode(models[table], len(positions)) - bounds[table]
        return mean + torch.from_numpy(found).view(mean.shape)

    try:
        return network.prior(torch.tensor([float(rate)]), shape, code)
    except AssertionError as error:  # constriction's word for an impossible stream
        raise CodecError(f"has a latent that can't be decoded ({error})") from None


def models_of(network: CompressionNetwork) -> list:
    """The coder's model of each scale, from the integer tables that travel with the weights."""
    counts = network.prior.tables.numpy().astype(np.float64)
    tables = np.split(counts, np.cumsum(2 * table_bounds() + 1)[:-1])
    return [constriction.stream.model.Categorical(table, perfect=False) for table in tables]


def _by_table(index: Tensor, here: Tensor) -> Iterator[tuple[int, np.ndarray]]:
    """(table, positions among all numbers) of the numbers to be coded here, table after table."""
    positions = np.flatnonzero(here.expand_as(index).numpy()).astype(np.int32)  # there can be millions
    tables = index.reshape(-1).byte().numpy()[positions]
    order = np.argsort(tables, kind="stable")  # of bytes: counted, not compared
    starts = np.searchsorted(tables[order], np.arange(1, SCALES, dtype=tables.dtype))
    for table, part in enumerate(np.split(positions[order], starts)):
        if len(part):
            yield table, part
