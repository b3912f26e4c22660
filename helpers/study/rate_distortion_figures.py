"""What is shown of a rate-distortion table: its curves, and the README's findings."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from helpers import plots
from helpers.files import DATA, RESULTS
from helpers.study import rate_distortion as rd
from helpers.study.fits import SECONDS
from helpers.study.fits import TABLE as FITS

STYLES = {"ours": {"color": plots.BLACK, "linewidth": 2}, "jpeg+restore": {"linestyle": ":"}}
KODAK = {f"kodim{number:02d}" for number in range(1, 25)}
SHORT = {
    "jpeg": "JPEG 4:2:0", "jpeg444": "JPEG 4:4:4", "webp": "WebP", "jpeg2000": "JPEG 2000", "avif": "AVIF",
    "jpegxl": "JPEG XL", "jpeg+restore": "restored JPEG", "ours": "ours", "fitted": "fitted",
}  # fmt: skip
CODEC_FAMILIES = {"ours": "trained", "restored JPEG": "trained", "fitted": "fitted"}  # others: classical
DASHES = ("-", "--", ":", "-.")
AXES = ("mean bits a pixel", "mean PSNR, dB (upper left is better)")
NAMES = SHORT | {
    "webp": "WebP, method 6", "jpeg2000": "JPEG 2000, irreversible, mct=1", "avif": "AVIF 4:4:4, speed 6",
    "jpegxl": "JPEG XL, effort 7", "jpeg+restore": "restored JPEG 4:2:0 (our colour network)",
}  # fmt: skip


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
    figure = plots.curves(ours | published, *AXES)
    (axis,) = figure.axes
    for line in axis.get_lines():  # there are more codecs than colours
        line.set(**STYLES.get(line.get_label(), {}))
    axis.legend(frameon=False)  # as the lines are now
    if published:  # dashed and thin; the axes are those of what was measured here
        measured, others = axis.get_lines()[: len(ours)], axis.get_lines()[len(ours) :]
        for number, line in enumerate(others):
            dashes = "--" if number < len(plots.COLOURS) else "-."
            line.set(linestyle=dashes, linewidth=0.8, marker="")
        points = np.concatenate([line.get_xydata() for line in measured])
        for limits, values in zip((axis.set_xlim, axis.set_ylim), points.T, strict=True):
            margin = 0.05 * np.ptp(values) or 1.0
            limits(values.min() - margin, values.max() + margin)
        figure.set_size_inches(7.5, 6.0)
        axis.legend(frameon=False, fontsize=7, loc="lower right")
    alt = f"Mean PSNR over mean bits a pixel on {name}: {', '.join([*ours, *published])}"
    plt.close(figure)
    return plots.svg(figure, alt)


def _lines(points: pd.DataFrame, key: str) -> dict[str, tuple[list, list]]:
    return {name: (list(of["bpp"]), list(of["psnr"])) for name, of in points.groupby(key, sort=False)}


def with_fits() -> pd.DataFrame:
    """Rows of rd.COLUMNS: every recorded codec on the scenes of LIVE1 that were fitted, and their fits."""
    fits = pd.read_csv(FITS).query("seconds == @SECONDS")
    table = pd.read_csv(RESULTS / "rd_live1.csv")
    return pd.concat([table[table["image"].isin(fits["image"])], fits[rd.COLUMNS]])


def fit_rates() -> tuple[pd.Series, tuple[float, float], int]:
    """(BD-rate by PSNR of each codec of `with_fits`, over which dB, on how many scenes)."""
    table = with_fits()
    window = rd.covered(table)
    return rd.bd_rates(table, window).set_index("codec")["psnr"], window, table["image"].nunique()


def families(table: pd.DataFrame) -> Figure:
    """Mean PSNR over mean bits a pixel of a table of rd.COLUMNS; a colour for each family of codecs."""
    lines = _lines(rd.mean_curves(table.replace({"codec": SHORT})), "codec")
    figure = plots.curves(lines, *AXES, log_x=True)
    (axis,) = figure.axes
    colours = {"classical": plots.BLUE, "trained": plots.BLACK, "fitted": plots.VERMILION}
    for number, line in enumerate(axis.get_lines()):
        name = line.get_label()
        family = CODEC_FAMILIES.get(name, "classical")
        width, dashes = (2.2, "-") if name in ("ours", "fitted") else (1, DASHES[number % 4])
        line.set(color=colours[family], linewidth=width, linestyle=dashes, markersize=4)
        line.set_label(name if name == family else f"{name} ({family})")
    axis.legend(frameon=False, fontsize=8)
    figure.set_size_inches(7.2, 5.0)
    return figure


def over_jpeg() -> pd.DataFrame:
    """scene, seconds, took, codec, gain: dB over JPEG's curve at the bytes of each recorded fit.

    For `fitted` that of the fit itself, which `took` so long in all; for other codecs theirs at the bytes
    of the fit of SECONDS, with no seconds, if they reach them on every scene. Of the scenes and the rate
    that were fitted in several times, read between settings.
    """
    fits, table = pd.read_csv(FITS), pd.read_csv(RESULTS / "rd_live1.csv")
    fits = fits[fits.groupby(["image", "setting"])["seconds"].transform("nunique") > 1]
    rows = []
    for scene, own in fits.groupby("image"):
        codecs = table[table["image"] == scene].groupby("codec", sort=False)[["bpp", "psnr"]]
        curves = {codec: of.sort_values("bpp").to_numpy().T for codec, of in codecs}
        for fit in own.itertuples():
            at = {  # dB of each codec at the fit's bytes
                codec: np.interp(np.log(fit.bpp), np.log(bits), psnr, left=np.nan, right=np.nan)
                for codec, (bits, psnr) in curves.items()
            }
            rows.append((scene, fit.seconds, fit.took, "fitted", fit.psnr - at[rd.ANCHOR]))
            if fit.seconds == SECONDS:
                rows += [(scene, np.nan, np.nan, codec, psnr - at[rd.ANCHOR]) for codec, psnr in at.items()]
    found = pd.DataFrame(rows, columns=["scene", "seconds", "took", "codec", "gain"])
    short = found.groupby("codec")["gain"].transform(lambda gains: gains.isna().any())
    return found[~short]


def over_seconds(gains: pd.DataFrame, clock: dict[str, float]) -> Figure:
    """Means of `over_jpeg` over seconds of encoding: the fits' line, other codecs at theirs of `clock`."""
    fits = gains[gains["codec"] == "fitted"].groupby("seconds")[["took", "gain"]].mean()
    others = gains[gains["codec"] != "fitted"].groupby("codec")["gain"].mean()
    known = [codec for codec in others.index if codec in clock]
    seconds, names = [clock[codec] for codec in known], [SHORT[codec] for codec in known]
    labels = "seconds of encoding, one thread", "dB over JPEG at equal bytes"
    figure = plots.scatter(seconds, others[known], names, *labels, log_x=True)
    (axis,) = figure.axes
    axis.plot(fits["took"], fits["gain"], "s-", color=plots.VERMILION, label="fitted")
    axis.legend(frameon=False)
    return figure
