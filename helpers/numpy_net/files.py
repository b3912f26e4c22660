"""Weights of a NumPy network as one .npz file: plain arrays, nothing that could run."""

import io
from pathlib import Path

import numpy as np

from helpers.files import StudyError, one_line, printable, write_file
from helpers.numpy_net.parts import Layer


def save(network: Layer, path: Path | str) -> None:
    """Writes parameters, states and the network's layers in words. Raises StudyError where it can't."""
    buffer = io.BytesIO()
    np.savez(buffer, layers=np.array(str(network)), **network.parameters, **network.state)
    write_file(Path(path), buffer.getvalue())


def load(network: Layer, path: Path | str) -> None:
    """Reads what `save` wrote into a network of the same layers; it is changed only if all fits.

    Raises StudyError for a file that can't be read, isn't whole, or is another network's.
    """
    name, targets = printable(path), {**network.parameters, **network.state}
    try:
        with Path(path).open("rb") as stream, np.load(stream) as file:  # refuses what could run code
            arrays = dict(file)
        layers = str(arrays.pop("layers"))
    except OSError as error:
        raise StudyError(f"{name}: can't be read ({error.strerror})") from None
    except Exception as error:  # what a damaged archive raises, from zlib's errors to a tokenizer's
        raise StudyError(f"{name}: not a whole weights file ({one_line(error)})") from None
    if layers != str(network):
        raise StudyError(f"{name}: weights of {' '.join(layers.split())[:300]}; takes those of {network}")
    for key, target in targets.items():
        found = np.asarray(arrays.get(key))
        if (found.dtype, found.shape) != (target.dtype, target.shape):
            got = f"{found.dtype} {found.shape}"
            raise StudyError(f"{name}: {key} is {got}; takes {target.dtype} {target.shape}")
        if not np.isfinite(found).all():
            raise StudyError(f"{name}: {key} holds values that are NaN or infinite")
    for key, target in targets.items():
        target[...] = arrays[key]
