"""The parts of README.md and data/README.md that are drawn from records: tables, findings, the picture.

    python -c "from helpers.study import readme; readme.write_all()"

draws all but the picture anew; `readme.write_picture()` that one, from the shipped weights.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from helpers import cells, jpeg, metrics, plots
from helpers.codec.trained import pictures
from helpers.data import center_crop, open_set
from helpers.files import DATA, FIGURES, RESULTS, ROOT
from helpers.restoring import restored
from helpers.study import rate_distortion as rd
from helpers.study import rate_distortion_figures as figures
from helpers.study.findings import findings, recorded
from helpers.study.fits import EVERY, SECONDS
from helpers.weights import WEIGHTS, read_tensors

PICTURED = "coffee"  # in the README's picture
TITLES = {"psnr": "PSNR", "ssim": "SSIM", "ms_ssim": "MS-SSIM"}


def write_all() -> None:
    """Draws the tables and findings of both files anew, from records and the cards of the weights."""
    write_between(ROOT / "README.md", "findings", findings_table())
    write_between(ROOT / "README.md", "rd", rates_table())
    write_between(DATA / "README.md", "models", model_table())


def write_between(path: Path, marker: str, text: str) -> None:
    """Writes text between the lines <!-- marker --> and <!-- /marker --> of a Markdown file."""
    before, _, rest = path.read_text().partition(f"<!-- {marker} -->\n")
    after = rest.partition(f"<!-- /{marker} -->")[2]
    path.write_text(f"{before}<!-- {marker} -->\n{text}<!-- /{marker} -->{after}")


def model_table() -> str:
    """Markdown: a line for each shipped weights file, its cost, training and numbers; codecs apart."""
    networks, codecs, processors = [], [], set()
    live1 = rd.bd_rates(pd.read_csv(RESULTS / "rd_live1.csv")).set_index("codec")
    for path in sorted(WEIGHTS.glob("*.safetensors")):
        card = json.loads(read_tensors(path, "card")[1]["card"])
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
            codecs.append(cells | _rates(live1.loc["ours"]))
        else:
            cells["qualities"] = " to ".join(map(str, sorted(set(legs[-1]["training"]["qualities"]))))
            reference = "jpeg" if card["task"] == "imitate" else "original"
            for images, title in (("live1", "LIVE1, dB"), ("validation", "validation, dB")):
                nothing, ours, _ = recorded(path.stem, images, reference)
                cells[title] = f"{nothing:.2f} to {ours:.2f}"
            networks.append(cells)
    tables = [markdown(rows) for rows in (networks, codecs) if rows]
    return "\n\n".join([*tables, f"Trained on {', '.join(sorted(processors))}, one thread each."]) + "\n"


def _rates(codec: pd.Series) -> dict[str, str]:
    return {f"BD-rate, {title}": f"{codec[key]:+.1f} %" for key, title in TITLES.items()}


def markdown(rows: list[dict[str, str]]) -> str:
    """A Markdown table of rows with the same keys."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *[list(cells.values()) for cells in rows]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def findings_table() -> str:
    """Markdown: question, finding, and a link to its notebook."""
    links = {f"[{found.question}](notebooks/{found.notebook}.ipynb)": found.answer for found in findings()}
    return markdown([{"question": link, "found": answer} for link, answer in links.items()]) + "\n"


def write_picture() -> None:
    """Draws figures/picture.png anew, and its captions in README.md."""
    panels = picture()
    plots.pictures(panels, columns=len(panels), side=2.8).savefig(FIGURES / "picture.png")
    alt = f"A part of the photograph {PICTURED}: {'; '.join(panels).replace(chr(10), ', ')}"
    write_between(ROOT / "README.md", "picture", f"![{alt}](figures/picture.png)\n")


def picture() -> dict[str, np.ndarray]:
    """A part of a sample by its caption: as it was, as JPEG, restored, and by our codec in as many bytes."""
    original = open_set("samples")[PICTURED].load()
    file = jpeg.encode(original, 10)
    ours, coded = pictures.encode_within(original, len(file))
    made = {
        f"JPEG, {len(file):,} bytes": jpeg.decode(file),
        "restored, the same file": restored(*cells.decode(file)),
        f"our codec, {len(ours):,} bytes": coded,
    }
    captions = {f"{name}\n{metrics.psnr(original, image):.1f} dB": image for name, image in made.items()}
    shown = {"original": original} | captions
    return {name: center_crop(image, (180, 210)) for name, image in shown.items()}


def rates_table() -> str:
    """Markdown: the protocol in a sentence, and each codec's BD-rates on LIVE1, best first."""
    table = pd.read_csv(RESULTS / "rd_live1.csv")
    (low, high), rates = rd.WINDOW, rd.bd_rates(table).sort_values("psnr")
    rows = [{"codec": figures.NAMES[row["codec"]]} | _rates(row) for _, row in rates.iterrows()]
    return (
        f"On LIVE1's {table['image'].nunique()} pictures, real file bytes, headers included; BD-rate against "
        f"{rd.ANCHOR_NAME}, of RGB PSNR over {low:.0f} to {high:.0f} dB, of SSIM and MS-SSIM "
        "as -10 log10(1 - s) over the overlap; less than zero is fewer bytes:\n\n"
        f"{markdown(rows)}\n\n{fits_sentence()}\n"
    )


def fits_sentence() -> str:
    """A sentence on the fits: seconds, scenes, BD-rate, and those of the other codecs on the same scenes."""
    rates, (low, high), count = figures.fit_rates()
    own, others = rates["fitted"], rates.drop(["fitted", "jpeg", "jpeg444"]).sort_values()
    around = ", ".join(f"{figures.SHORT[codec]} {rate:+.1f} %" for codec, rate in others.items())
    return (
        f"Fitted to each of {count} of these pictures, every {EVERY}th, for {SECONDS} s of one core: "
        f"{own:+.1f} % by PSNR over {low:.1f} to {high:.1f} dB, networks included; there {around}."
    )
