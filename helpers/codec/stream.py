"""Latents as bytes: range coding of what the entropy model foretells, by integer tables."""

from collections.abc import Callable

import constriction
import numpy as np
import torch

from helpers.codec.container import CodecError
from helpers.codec.network import CompressionNetwork
from helpers.codec.prior import SCALES, table_bounds

Categorical = constriction.stream.model.Categorical


def encode_latent(network: CompressionNetwork, scaled: torch.Tensor, rate: int) -> tuple[bytes, torch.Tensor]:
    """(range coder's stream, decoded latent in steps) of what the network's `scaled` makes of a latent.

    Whole numbers are chosen by nearness and by price, see `thrifty`.
    """
    models, coder = models_of(network), constriction.stream.queue.RangeEncoder()
    bounds = table_bounds()

    def code(channels: slice, mean: torch.Tensor, index: torch.Tensor, here: torch.Tensor) -> torch.Tensor:
        whole = network.chosen(channels, scaled[:, channels] - mean, index)
        symbols, tables, _ = _in_order(whole, index, here)
        for table, run in _runs(tables):
            coder.encode(symbols[run] + int(bounds[table]), models[table])
        return mean + whole

    decoded = _through(network, rate, scaled.shape, code)
    return coder.get_compressed().astype("<u4").tobytes(), decoded


def decode_latent(
    network: CompressionNetwork, data: bytes, rate: int, shape: tuple[int, ...]
) -> torch.Tensor:
    """Decoded latent in steps (1, latent, h, w) of a stream. Raises CodecError where it can't be one."""
    if len(data) % 4:
        raise CodecError("has a latent that is not whole")
    models = models_of(network)
    coder = constriction.stream.queue.RangeDecoder(np.frombuffer(data, "<u4").astype(np.uint32))
    bounds = table_bounds()

    def code(channels: slice, mean: torch.Tensor, index: torch.Tensor, here: torch.Tensor) -> torch.Tensor:
        _, tables, places = _in_order(mean, index, here)
        found = np.zeros(mean.numel(), np.float32)
        symbols = np.empty(len(tables), np.int32)
        for table, run in _runs(tables):
            symbols[run] = coder.decode(models[table], run.stop - run.start) - bounds[table]
        found[places] = symbols
        return mean + torch.from_numpy(found).view(mean.shape)

    try:
        return _through(network, rate, shape, code)
    except AssertionError as error:  # constriction's word for an impossible stream
        raise CodecError(f"has a latent that can't be decoded ({error})") from None


def models_of(network: CompressionNetwork) -> list:
    """The coder's model of each scale, from the integer tables that travel with the weights."""
    counts, bounds = network.prior.tables.numpy(), table_bounds()
    ends = np.cumsum(2 * bounds + 1)
    return [
        Categorical(counts[end - 2 * bound - 1 : end].astype(np.float64), perfect=False)
        for bound, end in zip(bounds, ends, strict=True)
    ]


def _through(network: CompressionNetwork, rate: int, shape: tuple[int, ...], code: Callable) -> torch.Tensor:
    """The entropy model over a latent, without gradients."""
    with torch.inference_mode():
        return network.prior(torch.tensor([float(rate)]), shape, code)


def _in_order(
    values: torch.Tensor, index: torch.Tensor, here: torch.Tensor
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(symbols, tables, places) of the numbers to be coded here, sorted by table."""
    places = np.flatnonzero(here.expand_as(values).numpy()).astype(np.int32)  # there can be millions
    tables = index.reshape(-1).byte().numpy()[places]
    order = np.argsort(tables, kind="stable")  # of bytes: counted, not compared
    places = places[order]
    return values.reshape(-1).numpy()[places].astype(np.int32), tables[order], places


def _runs(tables: np.ndarray):
    """(table, slice) of each run of equal numbers in a sorted array."""
    ends = np.searchsorted(tables, np.arange(SCALES, dtype=tables.dtype), side="right")
    start = 0
    for table, end in enumerate(ends):
        if end > start:
            yield table, slice(start, int(end))
        start = int(end)
