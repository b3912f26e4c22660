"""Figures in one style: one palette, nearest-neighbour pixels, units on the axes, alt text on each."""

import io
import re
from collections.abc import Collection, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Image, Markdown, display
from matplotlib.figure import Figure

from helpers.files import FIGURES, write_file

# Okabe and Ito's palette, told apart by colour-blind eyes; black is kept for "doing nothing".
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY)
MARKERS = "os^Dv*"
DPI = 110
LEVEL = {"color": BLACK, "linestyle": "--", "linewidth": 1}  # of a reference
BELOW = {"frameon": False, "loc": "outside lower center"}  # a figure's legend
Reference = tuple[str, float]  # its name and its level

plt.rc("figure", dpi=DPI)
plt.rc("figure.constrained_layout", use=True)
plt.rc("font", size=10)
plt.rc("axes", grid=True, axisbelow=True, prop_cycle=plt.cycler(color=COLOURS))
plt.rc("axes.spines", top=False, right=False)
plt.rc("grid", color="#dddddd")
plt.rc("image", interpolation="nearest", cmap="gray")
plt.rc("svg", hashsalt="study")  # the same figure is the same file


def show(figure: Figure, alt: str) -> None:
    """Displays a figure once, as a PNG with alt text, and closes it. Raises ValueError without alt text."""
    display(rendered(figure, alt))


def rendered(figure: Figure, alt: str) -> Image:
    """What `show` displays, for a display that is updated."""
    if not alt.strip():
        raise ValueError("a figure needs alt text: what would a reader miss who can't see it?")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    plt.close(figure)
    return Image(buffer.getvalue(), alt=" ".join(alt.split()), width=int(figure.get_figwidth() * DPI))


def say(text: str) -> None:
    """Displays Markdown; what looks like an HTML tag is shown as it is: it can only be a picture's name."""
    display(Markdown(re.sub("<(?=[A-Za-z/!?])", "&lt;", text)))


def plain(name: str) -> str:
    """A name for Matplotlib, to which $ begins a formula and half a character is an error."""
    return name.encode(errors="backslashreplace").decode().replace("$", r"\$")


def publish(figure: Figure, name: str, alt: str) -> None:
    """Shows a figure drawn from records and writes it to figures/NAME.svg; no photograph, no live number."""
    FIGURES.mkdir(exist_ok=True)
    write_file(FIGURES / f"{name}.svg", svg(figure, " ".join(alt.split())))
    show(figure, alt)


def svg(figure: Figure, title: str) -> bytes:
    """An SVG file, the same on any processor: ids that hash floats to their last digit become numbers."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Title": title})
    text = buffer.getvalue().decode()
    for number, name in enumerate(dict.fromkeys(re.findall(r'id="([mp][0-9a-f]{10})"', text))):
        text = text.replace(name, f"{name[0]}{number}")
    return text.encode()


def pictures(images: Mapping[str, np.ndarray], columns: int = 4, side: float = 2.4) -> Figure:
    """Pictures (uint8, or float in 0..1) with their names above, in rows of `columns`; `side` in inches."""
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(side * columns, side * rows * 0.85), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, (name, image) in zip(axes.flat, images.items(), strict=False):
        axis.imshow(image, vmin=0, vmax=255 if image.dtype == np.uint8 else 1.0)
        axis.set_title(plain(name), fontsize=9)
    return figure


def error_maps(reference: np.ndarray, images: Mapping[str, np.ndarray], gain: int = 8) -> Figure:
    """|image - reference| times `gain` (printed), black where equal, one panel an image."""
    errors = {name: np.abs(image.astype(float) - reference) for name, image in images.items()}
    panels = {f"{name}, error x {gain}": np.minimum(e * gain / 255, 1.0) for name, e in errors.items()}
    return pictures(panels, columns=len(panels), side=10.2 / len(panels))


def curves(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    x_label: str,
    y_label: str,
    *,
    log_x: bool = False,
    log_y: bool = False,
    reference: Reference | None = None,
) -> Figure:
    """Named curves (x, y) with markers and a legend; `reference` is a dashed black level with its name."""
    figure, axis = plt.subplots(figsize=(6.4, 3.8))
    for (name, (x, y)), marker in zip(lines.items(), MARKERS * 9, strict=False):
        axis.plot(x, y, marker=marker if len(x) <= 20 else None, label=name, markersize=5)
    if reference is not None:
        axis.axhline(reference[1], label=reference[0], **LEVEL)
    axis.set(xlabel=x_label, xscale="log" if log_x else "linear")
    axis.set(ylabel=y_label, yscale="log" if log_y else "linear")
    axis.legend(frameon=False)
    return figure


def dots(values: Mapping, x_label: str, reference: Reference | None = None) -> Figure:
    """One line a name: its value, or all its values with their mean marked; a dashed reference level."""
    height = 0.9 + 0.36 * len(values) + (0.3 if reference else 0)
    figure, axis = plt.subplots(figsize=(6.8, height))
    for position, value in enumerate(values.values()):
        points = np.atleast_1d(np.asarray(value, float))
        if len(points) > 1:
            axis.plot(points, np.full(len(points), position), "o", color=SKY, alpha=0.7, markersize=4)
        mean = points.mean()
        axis.plot(mean, position, "D", color=BLUE)
        axis.annotate(f"{mean:.2f}", (mean, position), (7, 5), textcoords="offset points", fontsize=8)
    if reference is not None:
        axis.axvline(reference[1], label=reference[0], **LEVEL)
        figure.legend(**BELOW)
    axis.set_yticks(range(len(values)), values.keys())
    axis.set(xlabel=x_label, ylim=(len(values) - 0.5, -0.5))
    axis.margins(x=0.12)
    return figure


def intervals(
    values: Mapping[str, tuple[float, float, float]], x_label: str, groups: Mapping[str, str] | None = None
) -> Figure:
    """One line a name: a value between the ends of its interval, and a line at zero.

    `groups` names the group of each, told apart by colour and marker; the legend lists them.
    """
    groups = groups or dict.fromkeys(values, "")
    kinds = list(dict.fromkeys(groups.values()))
    figure, axis = plt.subplots(figsize=(6.8, 1.0 + 0.2 * len(values)))
    for kind, colour, marker in zip(kinds, COLOURS, MARKERS, strict=False):
        rows = [position for position, name in enumerate(values) if groups[name] == kind]
        chosen = np.array([values[name] for name in values if groups[name] == kind])
        sizes = np.abs(chosen[:, 1:] - chosen[:, :1]).T
        axis.errorbar(chosen[:, 0], rows, xerr=sizes, fmt=marker, color=colour, markersize=4, label=kind)
    axis.axvline(0, **LEVEL)
    axis.set_yticks(range(len(values)), values.keys(), fontsize=8)
    axis.set(xlabel=x_label, ylim=(len(values) - 0.5, -0.5))
    if len(kinds) > 1:
        figure.legend(ncols=len(kinds), **BELOW)
    return figure


def histograms(values: Mapping[str, np.ndarray], x_label: str, y_label: str) -> Figure:
    """Shares of integers, one panel a name, one bar an integer."""
    figure, axes = plt.subplots(1, len(values), figsize=(9.0, 2.8), sharey=True, squeeze=False)
    for axis, (name, numbers) in zip(axes[0], values.items(), strict=True):
        levels, counts = np.unique(numbers, return_counts=True)
        axis.bar(levels, counts / counts.sum(), width=1.0, color=BLUE)
        axis.set(title=name, xlabel=x_label)
    axes[0, 0].set_ylabel(y_label)
    return figure


def heat_map(values: np.ndarray, x_label: str, y_label: str, value_label: str) -> Figure:
    """A matrix as colours with a scale; each cell carries its number."""
    figure, axis = plt.subplots(figsize=(5.4, 4.2))
    picture = axis.imshow(values, cmap="cividis")
    middle = (values.min() + values.max()) / 2
    for (row, column), value in np.ndenumerate(values):
        colour = "white" if value < middle else "black"
        axis.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=7, color=colour)
    axis.set(xlabel=x_label, ylabel=y_label)
    axis.grid(False)
    figure.colorbar(picture, label=value_label)
    return figure


def scatter(
    x: Sequence[float],
    y: Sequence[float],
    names: Sequence[str],
    x_label: str,
    y_label: str,
    *,
    ours: Collection[str] = (),
    log_x: bool = False,
    reference: Reference | None = None,
) -> Figure:
    """Points with their names next to them; diamonds in another colour for the names in `ours`."""
    figure, axis = plt.subplots(figsize=(6.8, 4.2))
    for name, *point in zip(names, x, y, strict=True):
        marker, colour = ("D", VERMILION) if name in ours else ("o", BLUE)
        axis.plot(*point, marker, color=colour, markersize=5)
        axis.annotate(plain(name), point, (4, 3), textcoords="offset points", fontsize=7)
    if reference is not None:
        axis.axhline(reference[1], label=reference[0], **LEVEL)
        axis.legend(frameon=False)
    axis.set(xlabel=x_label, ylabel=y_label, xscale="log" if log_x else "linear")
    return figure


def calibration(answers: pd.DataFrame) -> Figure:
    """Where each measurement lies in the reader's interval, 0 at its low end and 1 at its high end.

    `answers` has the columns notebook, low, high, measured and inside; a line a notebook, with its
    count. What lies more than two widths outside is drawn at the edge.
    """
    books = list(answers["notebook"].unique())
    width = (answers["high"] - answers["low"]).clip(lower=1e-12)
    position = ((answers["measured"] - answers["low"]) / width).clip(-2, 3)
    figure, axis = plt.subplots(figsize=(6.8, 1.2 + 0.36 * len(books)))
    axis.axvspan(0, 1, color=SKY, alpha=0.25, label="the interval")
    for inside, marker, colour, name in ((True, "o", BLUE, "held"), (False, "x", VERMILION, "missed")):
        chosen = answers["inside"] == inside
        rows = [books.index(book) for book in answers["notebook"][chosen]]
        axis.plot(position[chosen], rows, marker, color=colour, markersize=6, label=name)
    held = answers.groupby("notebook", sort=False)["inside"]
    axis.set_yticks(range(len(books)), [f"{book}: {found.sum()} of {len(found)}" for book, found in held])
    axis.set(xlim=(-2.2, 3.2), ylim=(len(books) - 0.5, -0.5), xlabel="position of the measurement, in widths")
    figure.legend(ncols=3, **BELOW)
    return figure


def fronts(
    cloud: pd.DataFrame,
    groups: Mapping[str, pd.DataFrame],
    costs: Mapping[str, str],
    y_label: str,
    reference: Reference,
) -> Figure:
    """Column `psnr` over each cost (column: its label), a panel each: a cloud and its front, named points.

    The front is the best that each cost buys. Groups keep their colour; a point without a cost is left
    out of its panel. The reference is a dashed level.
    """
    figure, axes = plt.subplots(len(costs), 1, figsize=(6.8, 1.0 + 2.8 * len(costs)), squeeze=False)
    for axis, (cost, label) in zip(axes.flat, costs.items(), strict=True):
        ordered = cloud.sort_values([cost, "psnr"])
        axis.plot(ordered[cost], ordered["psnr"], ".", color=SKY, label="ablations (course protocol)")
        best = ordered["psnr"].cummax()
        axis.step(ordered[cost], best, where="post", color=GREEN, linewidth=1, label="their front")
        looks = (("D", VERMILION, (4, -5)), ("o", BLUE, (-9, -9)))
        for (name, group), (marker, colour, heights) in zip(groups.items(), looks, strict=False):
            known = group.reindex(columns=["psnr", cost]).dropna()
            axis.plot(known[cost], known["psnr"], marker, color=colour, markersize=5, label=name)
            for number, (point, row) in enumerate(known.iterrows()):
                shift, at = (5, heights[number % 2]), (row[cost], row["psnr"])
                axis.annotate(point, at, shift, textcoords="offset points", fontsize=7)
        axis.axhline(reference[1], label=reference[0], **LEVEL)
        axis.set(xscale="log", xlabel=label, ylabel=y_label)
        axis.margins(x=0.12, y=0.1)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), ncols=2, fontsize=8, **BELOW)
    return figure


def mosaic(tiles: np.ndarray, columns: int) -> np.ndarray:
    """One picture, float in 0..1, of n small ones (n, h, w), each stretched to its range around grey."""
    rows = -(-len(tiles) // columns)
    height, width = tiles.shape[1:]
    picture = np.ones((rows * (height + 1) - 1, columns * (width + 1) - 1))
    for number, tile in enumerate(tiles):
        top, left = number // columns * (height + 1), number % columns * (width + 1)
        picture[top : top + height, left : left + width] = tile / (np.abs(tile).max() or 1.0) / 2 + 0.5
    return picture
