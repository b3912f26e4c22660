"""The protocol as code: an image set, a task, a table of per-image and mean measures."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from helpers import DATA, RESULTS, StudyError, jpeg, metrics
from helpers.data import ImageSet
from helpers.data.loading import shown
from helpers.models import ConvolutionalNetwork
from helpers.records import environment, read_record
from helpers.restoring import reconstruct
from helpers.weights import WEIGHTS, load_network

SPACES = {
    "y": ("Y (BT.601 luma, 16..235), coded and compared as a grey picture", jpeg.luma),
    "rgb": ("RGB, chroma subsampled 4:2:0; grey pictures stay grey", lambda image: image),
    "grey": ("full-range grey (Pillow's L), coded and compared as such", jpeg.full_range_grey),
}


def evaluate(
    task: str,
    images: ImageSet,
    qualities: list[int],
    space: str,
    on_error: Callable[[str], None],
    on_image: Callable[[str], None] = lambda name: None,
    weights: Path | None = None,
) -> dict:
    """A task on an image set: a record whose rows hold means over per-image measures.

    Task `jpeg` compares JPEG with the originals. `restore` adds what the network of `weights` makes of
    the JPEG, beside the row that does nothing ("identity"). `imitate` compares the network's picture
    of the original with the JPEG and with the original, beside doing nothing and the JPEG itself.
    `space` is a key of SPACES. A picture that can't be read or measured goes to `on_error` as one
    line and the rest is done; `on_image` hears each name that is finished. Raises StudyError where
    nothing is left or the weights don't fit.
    """
    if task == "jpeg" and weights:
        raise StudyError("jpeg: takes no weights")
    network, card = load_network(weights, task, space) if task != "jpeg" else (None, {})
    model = weights.stem if weights else "jpeg"
    rows: dict[tuple, list[dict]] = {}
    for name, image in images.images(on_error):
        target = SPACES[space][1](image)
        try:
            measured = {
                (*key, quality): values
                for quality in dict.fromkeys(qualities)  # each once
                for key, values in _judge(task, target, quality, network, model).items()
            }
        except ValueError as error:  # too small for a window, grey where the network takes colour
            on_error(f"{shown(images[name].path)}: {error}")
            continue
        for key, values in measured.items():
            rows.setdefault(key, []).append({"name": name, **values})
        on_image(name)
    if not rows:
        raise StudyError(f"{shown(images.name)}: no picture could be measured")
    return {
        "task": task,
        "space": space,
        "space_means": SPACES[space][0],
        "set": images.name,
        "weights": weights.name if weights else None,
        "parameters": card.get("parameters", 0),
        "macs_per_pixel": card.get("macs_per_pixel", 0),
        **environment(),
        "rows": [row(*key, found) for key, found in rows.items()],
    }


def default_weights(task: str, space: str) -> Path | None:
    """The shipped weights of a task and space; None for `jpeg`, which needs none."""
    if task == "jpeg":
        return None
    name = f"restore_{space}" if task == "restore" else f"imitate_{space}_q10"
    path = WEIGHTS / f"{name}.safetensors"
    if not path.exists():
        raise StudyError(f"{task}: no weights are shipped for space {space}; name a file with --weights")
    return path


def image_table(record: dict) -> pd.DataFrame:
    """One line an image and row of a record: method, reference, quality, name and the measures."""
    lines = [
        {"method": row["method"], "reference": row["reference"], "quality": row["quality"], **image}
        for row in record["rows"]
        for image in row["images"]
    ]
    return pd.DataFrame(lines)


def mean_table(record: dict) -> pd.DataFrame:
    """One line a row of a record: method, reference, quality and the mean measures."""
    return pd.DataFrame(record["rows"]).drop(columns="images")


TITLES = {"psnr": "PSNR", "ssim": "SSIM", "ms_ssim": "MS-SSIM"}


def write_model_table() -> None:
    """Draws the table of shipped weights in data/README.md anew, from the files and their records."""
    write_between(DATA / "README.md", "models", model_table())


def write_between(path: Path, marker: str, text: str) -> None:
    """Writes text between the lines <!-- marker --> and <!-- /marker --> of a Markdown file."""
    before, _, rest = path.read_text().partition(f"<!-- {marker} -->\n")
    after = rest.partition(f"<!-- /{marker} -->")[2]
    path.write_text(f"{before}<!-- {marker} -->\n{text}<!-- /{marker} -->{after}")


def model_table() -> str:
    """Markdown: a line for each shipped weights file, its cost, training and numbers; codecs apart."""
    rows: dict[str, list] = {"networks": [], "codecs": []}
    processors = set()
    for path in sorted(WEIGHTS.glob("*.safetensors")):
        _, card = load_network(path)
        legs = card["legs"]
        processors |= {leg["processor"] for leg in legs}
        cells = {
            "weights": f"`{path.stem}`",
            "parameters": f"{card['parameters']:,}",
            "MAC a pixel": f"{card['macs_per_pixel']:,.0f}",
            "steps": " + ".join(f"{leg['training']['steps']:,}" for leg in legs),
            "megapixels": f"{sum(leg['pixels'] for leg in legs) / 1e6:,.0f}",
            "minutes": f"{sum(leg['seconds'] for leg in legs) / 60:.0f}",
        }
        if card["task"] == "compress":
            rows["codecs"].append(cells | _rates_saved())
        else:
            rows["networks"].append(cells | _decibels_gained(path.stem, card))
    tables = [markdown(lines) for lines in rows.values() if lines]
    return "\n\n".join([*tables, f"Trained on {', '.join(sorted(processors))}, one thread each."]) + "\n"


def _decibels_gained(name: str, card: dict) -> dict[str, str]:
    cells = {"qualities": " to ".join(map(str, sorted(set(card["legs"][-1]["training"]["qualities"]))))}
    for images, title in (("live1", "LIVE1, dB"), ("validation", "validation, dB")):
        target = "jpeg" if card["task"] == "imitate" else "original"
        found = {
            row["method"]: row["psnr"]
            for row in read_record(f"{name}_{images}")["rows"]
            if row["reference"] == target and row["quality"] == 10
        }
        cells[title] = f"{found['identity']:.2f} to {found[name]:.2f}"
    return cells


def _rates_saved() -> dict[str, str]:
    """BD-rates of our codec on LIVE1 against JPEG, from the record."""
    from helpers.rd import bd_rates

    ours = bd_rates(pd.read_csv(RESULTS / "rd_live1.csv")).set_index("codec").loc["ours"]
    return {f"BD-rate, {title}": f"{ours[key]:+.1f} %" for key, title in TITLES.items()}


def markdown(rows: list[dict[str, str]]) -> str:
    """A Markdown table of rows with the same keys."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *[list(cells.values()) for cells in rows]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def measure(reference: np.ndarray, image: np.ndarray) -> dict[str, float]:
    """PSNR and PSNR-B in dB and SSIM of an image against a reference, uint8 of one shape."""
    return {
        "psnr": metrics.psnr(reference, image),
        "ssim": metrics.ssim(reference, image),
        "psnr_b": metrics.psnr_b(reference, image),
    }


def row(method: str, reference: str, quality: int, images: list[dict]) -> dict:
    """Row of a record: the means of what `images` (name and measures each) have, and the images."""
    keys = [key for key in images[0] if key != "name"]
    means = {key: float(np.mean([image[key] for image in images])) for key in keys}
    return {"method": method, "reference": reference, "quality": quality, **means, "images": images}


def _judge(
    task: str, original: np.ndarray, quality: int, network: ConvolutionalNetwork | None, model: str
) -> dict[tuple[str, str], dict[str, float]]:
    """Measures of one picture by (method, reference); the rows of a record in their order."""
    start = time.perf_counter()
    data = jpeg.encode(original, quality)
    coded = jpeg.decode(data)
    seconds = time.perf_counter() - start
    if task == "jpeg":
        rate = metrics.bits_per_pixel(data, original)
        return {(model, "original"): {**measure(original, coded), "bits_per_pixel": rate, "seconds": seconds}}
    start = time.perf_counter()
    output = reconstruct(network, coded if task == "restore" else original)
    cost = {"seconds": time.perf_counter() - start}
    if task == "restore":
        return {
            ("identity", "original"): measure(original, coded),
            (model, "original"): {**measure(original, output), **cost},
        }
    return {
        ("identity", "jpeg"): measure(coded, original),
        (model, "jpeg"): {**measure(coded, output), **cost},
        ("jpeg", "original"): measure(original, coded),
        (model, "original"): {**measure(original, output), **cost},
    }
