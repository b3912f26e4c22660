"""What is shown of a rate-distortion table: its curves, and the README's findings."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from helpers import DATA, RESULTS, ROOT, plots, rd
from helpers.evaluation import TITLES, markdown, write_between
from helpers.fitted.measuring import EVERY, SECONDS
from helpers.fitted.measuring import TABLE as FITS

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
    "fitted": "fitted",
}
FAMILIES = {"ours": "trained", "restored JPEG": "trained", "fitted": "fitted"}  # the others are classical
DASHES = ("-", "--", ":", "-.")
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
    figure = plots.curves(lines, "mean bits a pixel", "mean PSNR, dB (upper left is better)", log_x=True)
    (axis,), looks = figure.axes, {"classical": plots.BLUE, "trained": plots.BLACK, "fitted": plots.VERMILION}
    for number, line in enumerate(axis.get_lines()):
        name = line.get_label()
        family = FAMILIES.get(name, "classical")
        thin = name not in ("ours", "fitted")
        line.set(
            color=looks[family], linewidth=1 if thin else 2.2, linestyle=DASHES[number % 4] if thin else "-"
        )
        line.set(markersize=4, label=name if name == family else f"{name} ({family})")
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
        curves = {
            codec: of.sort_values("bpp")[["bpp", "psnr"]].to_numpy().T
            for codec, of in table[table["image"] == scene].groupby("codec", sort=False)
        }

        def at(bpp: float, codec: str, curves: dict = curves) -> float:
            bits, psnr = curves[codec]
            return float(np.interp(np.log(bpp), np.log(bits), psnr, left=np.nan, right=np.nan))

        for fit in own.itertuples():
            rows.append((scene, fit.seconds, fit.took, "fitted", fit.psnr - at(fit.bpp, rd.ANCHOR)))
            if fit.seconds == SECONDS:
                rows += [(scene, np.nan, np.nan, c, at(fit.bpp, c) - at(fit.bpp, rd.ANCHOR)) for c in curves]
    found = pd.DataFrame(rows, columns=["scene", "seconds", "took", "codec", "gain"])
    short = found.groupby("codec")["gain"].transform(lambda gains: gains.isna().any())
    return found[~short]


def over_seconds(gains: pd.DataFrame, clock: dict[str, float]) -> Figure:
    """Means of `over_jpeg` over seconds of encoding: the fits' line, other codecs at theirs of `clock`."""
    fits = gains[gains["codec"] == "fitted"].groupby("seconds")[["took", "gain"]].mean()
    others = gains[gains["codec"] != "fitted"].groupby("codec")["gain"].mean()
    known = [codec for codec in others.index if codec in clock]
    labels = "seconds of encoding, one thread", "dB over JPEG at equal bytes"
    names = [SHORT[codec] for codec in known]
    figure = plots.scatter([clock[codec] for codec in known], others[known], names, *labels, log_x=True)
    (axis,) = figure.axes
    axis.plot(fits["took"], fits["gain"], "s-", color=plots.VERMILION, label="fitted")
    axis.legend(frameon=False)
    return figure


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
        f"-10 log10(1 - s) over the overlap; less than zero is fewer bytes:\n\n{markdown(rows)}\n\n"
        f"{fitted()}\n"
    )


def fitted() -> str:
    """A sentence on the fits: seconds, scenes, BD-rate, and those of the other codecs on the same scenes."""
    rates, (low, high), count = fit_rates()
    own, others = rates["fitted"], rates.drop(["fitted", "jpeg", "jpeg444"]).sort_values()
    around = ", ".join(f"{SHORT[codec]} {rate:+.1f} %" for codec, rate in others.items())
    return (
        f"Fitted to each of {count} of these pictures, every {EVERY}th, for {SECONDS} s of one core: "
        f"{own:+.1f} % by PSNR over {low:.1f} to {high:.1f} dB, networks included; there {around}."
    )
