"""What is shown of a rate-distortion table: its curves, and the README's findings."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from helpers import DATA, RESULTS, ROOT, plots, rd
from helpers.evaluation import TITLES, markdown, write_between

STYLES = {"ours": {"color": plots.BLACK, "linewidth": 2}, "jpeg+restore": {"linestyle": ":"}}
KODAK = {f"kodim{number:02d}" for number in range(1, 25)}
SHORT = {
    "jpeg": "JPEG 4:2:0",
    "jpeg444": "JPEG 4:4:4",
    "webp": "WebP",
    "jpeg2000": "JPEG 2000",
    "avif": "AVIF",
    "jpegxl": "JPEG XL",
    "jpeg+restore": "restored JPEG",
    "ours": "ours",
}
NAMES = SHORT | {
    "webp": "WebP, method 6",
    "jpeg2000": "JPEG 2000, irreversible, mct=1",
    "avif": "AVIF 4:4:4, speed 6",
    "jpegxl": "JPEG XL, effort 7",
    "jpeg+restore": "restored JPEG 4:2:0 (our colour network)",
}


def svg_of(table: pd.DataFrame, name: str) -> bytes:
    """An SVG file of a table of rd.COLUMNS: mean PSNR over mean bits a pixel, one line a codec.

    On Kodak's 24 pictures the curves of data/published_rd.csv are drawn too, dashed, with their owners'
    names: PSNR pooled as here, but its JPEG is another anchor than rd.ANCHOR_NAME. `name` is the set's.
    """
    means = rd.mean_curves(table)
    ours = _lines(means[np.isfinite(means["psnr"])], "codec")
    published = {}
    if set(table["image"]) == KODAK:
        found = pd.read_csv(DATA / "published_rd.csv")
        found["curve"] += ", " + found["source"].str.partition("/")[0]
        published = _lines(found, "curve")
    figure = plots.curves(ours | published, "mean bits a pixel", "mean PSNR, dB (upper left is better)")
    for line in figure.axes[0].get_lines():  # there are more codecs than colours
        line.set(**STYLES.get(line.get_label(), {}))
    if published:
        _set_apart(figure, published)
    else:
        figure.axes[0].legend(frameon=False)  # as the lines are now
    alt = f"Mean PSNR over mean bits a pixel on {name}: {', '.join([*ours, *published])}"
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Title": alt})
    plt.close(figure)
    return buffer.getvalue()


def _lines(points: pd.DataFrame, key: str) -> dict[str, tuple[list, list]]:
    return {name: (list(of["bpp"]), list(of["psnr"])) for name, of in points.groupby(key, sort=False)}


def _set_apart(figure: Figure, published: dict) -> None:
    """Published curves dashed and thin; the axes are those of what was measured here."""
    (axis,) = figure.axes
    mine = [line for line in axis.get_lines() if line.get_label() not in published]
    for number, line in enumerate(axis.get_lines()[len(mine) :]):
        dashes = "--" if number < len(plots.COLOURS) else "-."
        line.set(linestyle=dashes, linewidth=0.8, marker="")
    for limits, values in (
        (axis.set_xlim, np.concatenate([line.get_xdata() for line in mine])),
        (axis.set_ylim, np.concatenate([line.get_ydata() for line in mine])),
    ):
        margin = 0.05 * np.ptp(values) or 1.0
        limits(values.min() - margin, values.max() + margin)
    figure.set_size_inches(7.5, 6.0)
    axis.legend(frameon=False, fontsize=7, loc="lower right")


def write_findings() -> None:
    """Draws the codec's findings in README.md anew, from data/results/rd_live1.csv."""
    write_between(ROOT / "README.md", "rd", findings())


def findings() -> str:
    """Markdown: the protocol in a sentence, and each codec's BD-rates on LIVE1, best first."""
    table = pd.read_csv(RESULTS / "rd_live1.csv")
    rates = rd.bd_rates(table).sort_values("psnr")
    rows = [
        {"codec": NAMES[row.codec]} | {f"BD-rate, {TITLES[key]}": f"{row[key]:+.1f} %" for key in rd.MEASURES}
        for _, row in rates.iterrows()
    ]
    low, high = rd.WINDOW
    return (
        f"On LIVE1's {table['image'].nunique()} pictures, real file bytes, headers included; BD-rate against "
        f"{rd.ANCHOR_NAME}, of RGB PSNR over {low:.0f} to {high:.0f} dB, of SSIM and MS-SSIM as "
        f"-10 log10(1 - s) over the overlap; less than zero is fewer bytes:\n\n{markdown(rows)}\n"
    )
