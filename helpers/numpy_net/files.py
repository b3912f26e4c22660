"""Weights of a NumPy network as one .npz file: plain arrays, nothing that could run."""

import io
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

from helpers import StudyError, one_line
from helpers.data.loading import ENDLESS, endless, shown
from helpers.numpy_net.parts import Layer
from helpers.records import write_file

UNREADABLE = (  # what a damaged archive raises, member by member
    ValueError, KeyError, EOFError, NotImplementedError, RuntimeError, MemoryError, tokenize.TokenError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def save(network: Layer, path: Path | str) -> None:
    """Writes parameters, states and the network's layers in words. Raises StudyError where it can't."""
    buffer = io.BytesIO()
    np.savez(buffer, layers=np.array(str(network)), **network.parameters, **network.state)
    write_file(Path(path), buffer.getvalue())


def load(network: Layer, path: Path | str) -> None:
    """Reads what `save` wrote into a network of the same layers; it is changed only if all fits.

    Raises StudyError for a file that can't be read, isn't whole, or is another network's.
    """
    path = Path(path)
    if endless(path):
        raise StudyError(f"{shown(path)}: {ENDLESS}")
    try:
        with path.open("rb") as stream, np.lib.npyio.NpzFile(stream) as file:  # refuses what could run code
            arrays = dict(file)
        layers = str(arrays.pop("layers"))
    except OSError as error:
        raise StudyError(f"{shown(path)}: can't be read ({error.strerror})") from None
    except UNREADABLE as error:
        reason = one_line(error)
        raise StudyError(f"{shown(path)}: not a whole weights file ({reason})") from None
    if layers != str(network):
        found = " ".join(layers.split())[:300]
        raise StudyError(f"{shown(path)}: weights of {found}; takes those of {network}")
    targets = {**network.parameters, **network.state}
    for name, target in targets.items():
        found = arrays.get(name)
        if not isinstance(found, np.ndarray) or found.shape != target.shape or found.dtype != target.dtype:
            got = f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else "no array"
            raise StudyError(f"{shown(path)}: {name} is {got}; takes {target.dtype} {target.shape}")
        if not np.isfinite(found).all():
            raise StudyError(f"{shown(path)}: {name} holds values that are NaN or infinite")
    for name, target in targets.items():
        target[...] = arrays[name]
