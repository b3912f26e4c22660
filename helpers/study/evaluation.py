"""The protocol as code: an image set, a task, a table of per-image and mean measures."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from helpers import cells, jpeg, metrics
from helpers.data import ImageSet
from helpers.files import StudyError, printable
from helpers.models import ConvolutionalNetwork
from helpers.records import environment
from helpers.restoring import reconstruct
from helpers.weights import load_network, network_space

SPACES = {
    "y": ("Y (BT.601 luma, 16..235; grey is its own), coded and compared as a grey picture", jpeg.luma),
    "rgb": ("RGB; grey pictures stay grey", lambda image: image),
    "grey": ("full-range grey (Pillow's L), coded and compared as such", jpeg.full_range_grey),
}
HARM = 0.02  # dB: a picture that lost more than this was made worse


def evaluate(
    task: str,
    images: ImageSet,
    qualities: list[int],
    space: str,
    on_error: Callable[[str], None],
    on_image: Callable[[str], None] = lambda name: None,
    weights: Path | None = None,
    subsampling: str = "4:2:0",
    earlier: tuple[int, int] | None = None,
) -> dict:
    """A task on an image set: a record whose rows hold means over per-image measures.

    Task `jpeg` compares JPEG with the originals. `restore` adds what the network of `weights` makes of
    the JPEG, next to the do-nothing baseline ("identity"), with the share of 8x8 blocks that would be coded
    as in the file, the worst change of a picture in dB, and how many lost more than HARM. `imitate` compares
    the network's picture of the original with the JPEG and with the original, next to doing nothing and the
    JPEG itself. `space` is a key of SPACES; chroma of rgb is coded with `subsampling`. With `earlier`, a
    quality and a number, each picture was coded before, and so many rows and columns were cut off since. A
    picture that can't be read or measured goes to on_error(line) and the rest is done; on_image(name) is
    called after each. Raises StudyError where nothing is left or the weights don't fit.
    """
    if task == "jpeg" and weights:
        raise StudyError("jpeg: takes no weights")
    network, card, model = None, {}, "jpeg"
    if task != "jpeg":
        network, card = load_network(weights, ConvolutionalNetwork, task, network_space(space))
        model = weights.stem
    rows: dict[tuple, list[dict]] = {}
    grey: list[str] = []
    for name, image in images.images(on_error):
        target = photograph = SPACES[space][1](image)
        code = partial(jpeg.encode, subsampling=subsampling)
        try:
            if earlier:
                photograph = jpeg.decode(code(target, earlier[0]))[earlier[1] :, earlier[1] :]
                target = target[earlier[1] :, earlier[1] :]
            measured = {
                (*key, quality): values
                for quality in dict.fromkeys(qualities)  # each once
                for key, values in _judge(
                    task, target, partial(code, photograph, quality), network, model
                ).items()
            }
        except ValueError as error:  # too small for a window, grey where the network takes colour
            hint = "; --space y or grey takes it" if space == "rgb" and image.ndim == 2 else ""
            on_error(f"{printable(images[name].path)}: {error}{hint}")
            continue
        for key, values in measured.items():
            rows.setdefault(key, []).append({"name": name, **values})
        grey += [name] * (image.ndim == 2)
        on_image(name)
    if not rows:
        raise StudyError(f"{printable(images.name)}: no picture could be measured")
    about = {"task": task, "space": space, "space_means": SPACES[space][0], "set": images.name}
    about |= {"subsampling": subsampling if space == "rgb" else None, "grey_pictures": grey}
    about |= {"earlier": earlier}
    about |= {"weights": weights.name if weights else None}
    about |= {name: card.get(name, 0) for name in ("parameters", "macs_per_pixel")}
    made = [_row(*key, found) for key, found in rows.items()]
    if task == "restore":
        for before, after in zip(made[::2], made[1::2], strict=True):
            after |= _harm([image["psnr"] for image in before["images"]], after["images"])
    return about | environment() | {"rows": made}


def image_table(record: dict) -> pd.DataFrame:
    """One line an image and row of a record: method, reference, quality, name and the measures."""
    keys = ("method", "reference", "quality")
    return pd.DataFrame({k: r[k] for k in keys} | image for r in record["rows"] for image in r["images"])


def mean_table(record: dict) -> pd.DataFrame:
    """One line a row of a record: method, reference, quality and the mean measures."""
    table = pd.DataFrame(record["rows"]).drop(columns="images")
    return table.astype({"made_worse": "Int64"}) if "made_worse" in table else table


def measures_of(reference: np.ndarray, image: np.ndarray) -> dict[str, float]:
    """PSNR and PSNR-B in dB and SSIM of an image against a reference, uint8 of one shape."""
    return {name: getattr(metrics, name)(reference, image) for name in ("psnr", "ssim", "psnr_b")}


def _row(method: str, reference: str, quality: int, images: list[dict]) -> dict:
    means = {key: float(np.mean([image[key] for image in images])) for key in images[0] if key != "name"}
    return {"method": method, "reference": reference, "quality": quality, **means, "images": images}


def _harm(before: list[float], images: list[dict]) -> dict[str, float]:
    """The worst change of a picture's PSNR in dB, and how many lost more than HARM."""
    changes = [0.0 if i["psnr"] == b else i["psnr"] - b for b, i in zip(before, images, strict=True)]
    return {"worst_change": min(changes), "made_worse": sum(change < -HARM for change in changes)}


def _judge(
    task: str,
    original: np.ndarray,
    code: Callable[[], bytes],
    network: ConvolutionalNetwork | None,
    model: str,
) -> dict[tuple[str, str], dict[str, float]]:
    """Measures of one picture and the JPEG file that `code` makes, by (method, reference) in their order."""
    start = time.perf_counter()
    data = code()
    coded = jpeg.decode(data)
    cost = {"seconds": time.perf_counter() - start}
    of_jpeg = measures_of(original, coded)
    if task == "jpeg":
        rate = {"bits_per_pixel": metrics.bits_per_pixel(data, original)}
        return {(model, "original"): of_jpeg | rate | cost}
    start = time.perf_counter()
    if task == "restore":
        coded, coding = cells.decode(data)
        output = reconstruct(network, coded, coding)
        cost = {"seconds": time.perf_counter() - start, "blocks_kept": cells.kept(coded, output, coding)}
        of_output = measures_of(original, output) | cost
        return {("identity", "original"): of_jpeg, (model, "original"): of_output}
    output = reconstruct(network, original)
    cost = {"seconds": time.perf_counter() - start}
    of_output = measures_of(original, output) | cost
    return {
        ("identity", "jpeg"): measures_of(coded, original),
        (model, "jpeg"): measures_of(coded, output) | cost,
        ("jpeg", "original"): of_jpeg,
        (model, "original"): of_output,
    }
