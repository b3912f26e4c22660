"""Rate-distortion: the table against files encoded here, BD-rates of curves whose answer is known."""

import io
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from in_process import run
from PIL import Image

from helpers import DATA, RESULTS, ROOT, StudyError, jpeg, metrics, weights
from helpers.data import open_set
from helpers.study import rate_distortion as rd
from helpers.study import rate_distortion_figures, readme

FOUR = ["jpeg", "webp", "jpeg2000", "avif"]
RATES, DECIBELS = [0.2, 0.5, 1.0, 2.0], [24.0, 29.0, 32.0, 36.0]
HALF = [rate / 2 for rate in RATES]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A colour picture that MS-SSIM takes, a grey one that is too small for it, and half a file."""
    folder = tmp_path_factory.mktemp("photographs")
    astronaut = open_set("samples")["astronaut"].load()
    Image.fromarray(astronaut[:176, 150:342]).save(folder / "colour.png")
    Image.fromarray(jpeg.full_range_grey(astronaut)[:100, 180:301]).save(folder / "grey.png")
    (folder / "broken.png").write_bytes((folder / "colour.png").read_bytes()[:900])
    return folder


@pytest.fixture(scope="module")
def measured(folder, tmp_path_factory):
    """(the process, its table) of four codecs on the folder."""
    path = tmp_path_factory.mktemp("csv") / "rd.csv"
    process = run("rd", "--images", folder, "--csv", path, "--codecs", *FOUR, "--workers", 1)
    return process, pd.read_csv(path)


def saved(image: np.ndarray, kind: str, **options) -> tuple[bytes, np.ndarray]:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue(), np.array(Image.open(buffer).convert("L" if image.ndim == 2 else "RGB"))


def by_hand(codec: str, image: np.ndarray, setting: int) -> tuple[bytes, np.ndarray]:
    """The file and its picture, with the options that the protocol names."""
    if codec == "jpeg":
        return saved(image, "JPEG", quality=setting, optimize=True)  # 4:2:0 is Pillow's default
    if codec == "webp":
        return saved(image, "WEBP", quality=setting, method=6)
    if codec == "jpeg2000":
        return saved(
            image, "JPEG2000", irreversible=True, mct=1, quality_mode="rates", quality_layers=[setting]
        )
    chroma = "4:4:4" if image.ndim == 3 else "4:0:0"
    return saved(image, "AVIF", quality=setting, subsampling=chroma, speed=6, max_threads=2)


def table_of(curves: dict[str, tuple[list, list]], images: tuple[str, ...] = ("a",)) -> pd.DataFrame:
    """A table whose codecs have these (bits a pixel, PSNR), and similarities that rise with PSNR."""
    rows = [
        (codec, setting, image, 1, bpp, psnr, 1 - 10 ** (-psnr / 30), 1 - 10 ** (-psnr / 20))
        for codec, (rates, decibels) in curves.items()
        for setting, (bpp, psnr) in enumerate(zip(rates, decibels, strict=True))
        for image in images
    ]
    return pd.DataFrame(rows, columns=rd.COLUMNS)


def test_a_bad_picture_is_one_line_and_the_rest_is_done(measured):
    process, table = measured
    assert process.returncode == 2
    (line,) = process.stderr.splitlines()
    assert "broken.png: can't be read" in line
    assert set(table["image"]) == {"colour", "grey"}


def test_each_codec_setting_and_picture_is_a_row(measured):
    table = measured[1]
    assert list(table.columns) == "codec setting image bytes bpp psnr ssim ms_ssim".split()
    settings = {
        "jpeg": [5, 10, 20, 30, 50, 70, 80, 90, 95],
        "webp": [0, 1, 5, 15, 30, 50, 70, 80, 90, 95],
        "jpeg2000": [256, 192, 96, 64, 48, 32, 24, 16, 10],
        "avif": [5, 10, 20, 30, 40, 50, 60, 75, 90],
    }
    rows = [(c, s, image) for c in FOUR for s in settings[c] for image in ("colour", "grey")]
    assert list(table[["codec", "setting", "image"]].itertuples(index=False, name=None)) == rows
    assert table["ms_ssim"].isna().equals(table["image"] == "grey")  # 100 pixels high: too small
    assert table.drop(columns="ms_ssim").notna().all(axis=None)


@pytest.mark.parametrize("codec", FOUR)
@pytest.mark.parametrize("name", ["colour", "grey"])
def test_bytes_and_measures_are_those_of_real_files(measured, folder, codec, name):
    table, image = measured[1], open_set(folder)[name].load()
    rows = table[(table["codec"] == codec) & (table["image"] == name)]
    for row in (rows.iloc[0], rows.iloc[4], rows.iloc[-1]):
        data, decoded = by_hand(codec, image, int(row["setting"]))
        assert row["bytes"] == len(data)
        assert row["bpp"] == pytest.approx(8 * len(data) / (image.shape[0] * image.shape[1]), abs=1e-6)
        assert decoded.shape == image.shape
        assert row["psnr"] == pytest.approx(metrics.psnr(image, decoded), abs=1e-6)
        assert row["ssim"] == pytest.approx(metrics.ssim(image, decoded), abs=1e-6)
        if name == "colour":
            assert row["ms_ssim"] == pytest.approx(metrics.ms_ssim(image, decoded), abs=1e-5)


def test_the_command_prints_the_bd_rates_of_its_table(measured):
    process, table = measured
    title, windows, *lines = process.stdout.splitlines()
    assert "2 images" in title and "JPEG 4:2:0, optimize=True (Pillow)" in title
    assert "25 to 34 dB" in windows
    found = rd.bd_rates(table).set_index("codec")
    assert [line.split()[0] for line in lines] == ["codec", *FOUR]
    for line in lines[1:]:
        codec, *cells = line.split()
        assert cells == ["-" if math.isnan(x) else f"{x:+.1f}" for x in found.loc[codec]]
    assert lines[1].split() == ["jpeg", "+0.0", "+0.0", "+0.0"]


def test_444_and_restored_jpeg_differ_from_jpeg_as_they_should(folder):
    image = open_set(folder)["colour"].load()
    rows = rd.measure_image("colour", image, ["jpeg", "jpeg444", "jpeg+restore"])
    plain, full, restored = (
        [row for row in rows if row["codec"] == codec] for codec in ("jpeg", "jpeg444", "jpeg+restore")
    )
    for row, other in zip(plain, restored, strict=True):
        assert (row["setting"], row["bytes"]) == (other["setting"], other["bytes"])  # the same files
    assert all(other["psnr"] > row["psnr"] + 0.5 for row, other in zip(plain[:4], restored[:4], strict=True))
    for row in full:
        data, decoded = saved(image, "JPEG", quality=row["setting"], optimize=True, subsampling=0)
        assert row["bytes"] == len(data) and row["psnr"] == metrics.psnr(image, decoded)


def test_a_grey_jpeg_is_restored_as_grey(folder):
    image = open_set(folder)["grey"].load()
    plain = rd.measure_image("grey", image, ["jpeg"])
    restored = rd.measure_image("grey", image, ["jpeg+restore"])
    assert all(b["psnr"] > a["psnr"] + 0.5 for a, b in zip(plain[:4], restored[:4], strict=True))


def test_similarity_is_empty_where_its_window_does_not_fit(folder):
    image = open_set(folder)["colour"].load()
    for height, missing in ((10, {"ssim", "ms_ssim"}), (11, {"ms_ssim"}), (160, {"ms_ssim"}), (161, set())):
        row = rd.measure_image("strip", image[:height], ["jpeg"])[0]
        assert {measure for measure in rd.MEASURES if math.isnan(row[measure])} == missing


def test_a_picture_a_codec_cannot_take_is_named(folder):
    with pytest.raises(StudyError, match="^ribbon: webp can't take it .*16383 pixels"):
        rd.measure_image("ribbon", np.zeros((1, 16384), np.uint8), ["webp"])
    with pytest.raises(TypeError, match="uint8"):
        rd.measure_image("float", np.zeros((8, 8)), ["jpeg"])


def test_bd_rate_of_itself_is_0_and_of_half_the_bytes_is_minus_50():
    found = rd.bd_rates(
        table_of({"jpeg": (RATES, DECIBELS), "same": (RATES, DECIBELS), "half": (HALF, DECIBELS)})
    )
    assert list(found["codec"]) == ["jpeg", "same", "half"]
    assert found.loc[:1, rd.MEASURES].to_numpy() == pytest.approx(0, abs=1e-9)
    assert found.loc[2, rd.MEASURES].to_numpy(float) == pytest.approx(-50, abs=1e-3)


def test_a_curve_that_does_not_span_25_to_34_db_has_no_bd_rate_of_psnr_alone():
    curves = {
        "jpeg": (RATES, DECIBELS),
        "low": (RATES, [24, 28, 31, 33.9]),
        "high": (RATES, [25.1, 29, 32, 36]),
    }
    found = rd.bd_rates(table_of(curves)).set_index("codec")
    assert found["psnr"].isna().to_dict() == {"jpeg": False, "low": True, "high": True}
    assert found[["ssim", "ms_ssim"]].notna().all(axis=None)  # over the overlap
    apart = rd.bd_rates(table_of({"jpeg": (RATES, DECIBELS), "best": (RATES, [40, 44, 46, 48])}))
    assert apart.loc[1, rd.MEASURES].isna().all()
    alone = rd.bd_rates(table_of({"webp": (RATES, DECIBELS)}))  # no anchor
    assert alone.loc[0, rd.MEASURES].isna().all()


def test_a_window_that_all_curves_span_gives_each_its_bd_rate():
    table = table_of(
        {
            "jpeg": (RATES, DECIBELS),
            "low": (HALF, [24, 29, 32, 33.9]),
            "high": (RATES, [25.1, 29, 32, 36]),
        }
    )
    assert rd.covered(table) == (25.1, 33.9)
    found = rd.bd_rates(table, rd.covered(table)).set_index("codec")["psnr"]
    assert found["jpeg"] == 0 and -60 < found["low"] < -40 and found["high"] == pytest.approx(0, abs=5)
    assert rd.covered(table_of({"jpeg": (RATES, DECIBELS)})) == rd.WINDOW


def test_similarity_counts_as_decibels():
    """Straight lines of log rate over -10 log10(1 - s) lie on average as far apart as in the middle."""
    decibels = np.linspace(24, 36, 7)
    curves = {"jpeg": (np.exp(0.2 * decibels - 6), decibels), "test": (np.exp(0.15 * decibels - 5), decibels)}
    found = rd.bd_rates(table_of(curves)).loc[1, ["ssim", "ms_ssim"]].to_numpy(float)
    assert found == pytest.approx(100 * (math.exp(0.15 * 30 - 5 - (0.2 * 30 - 6)) - 1), abs=1e-3)


def test_similarity_counts_on_the_pictures_that_have_it():
    """Two pictures, the small one without SSIM at ten times the rate: it must not enter that curve."""
    large = table_of({"jpeg": (RATES, DECIBELS), "half": (HALF, DECIBELS)}, ("large",))
    small = table_of(
        {codec: ([10 * rate for rate in RATES], DECIBELS) for codec in ("jpeg", "half")}, ("small",)
    )
    found = rd.bd_rates(pd.concat([large, small.assign(ssim=math.nan)]))
    assert found.loc[1, "ssim"] == pytest.approx(-50, abs=1e-3)
    assert -10 < found.loc[1, "psnr"] < -1  # of 10.5 shares of the rate half a share is saved


def test_a_lossless_setting_and_one_that_buys_nothing_do_not_break_a_curve():
    table = table_of({"jpeg": (RATES, DECIBELS), "half": (HALF, DECIBELS)})
    lossless = pd.DataFrame([("half", 9, "a", 1, 8.0, math.inf, 1.0, 1.0)], columns=rd.COLUMNS)
    useless = table_of({"half": ([4.0], DECIBELS[-1:])}).assign(setting=8)
    found = rd.bd_rates(pd.concat([table, useless, lossless]))
    assert found.loc[1, rd.MEASURES].to_numpy(float) == pytest.approx(-50, abs=1e-3)


def test_curves_of_different_pictures_are_not_compared():
    one, other = (
        table_of({"jpeg": (RATES, DECIBELS)}, ("a", "b")),
        table_of({"webp": (RATES, DECIBELS)}),
    )
    with pytest.raises(ValueError, match="different images"):
        rd.bd_rates(pd.concat([one, other]))


def test_mean_curves_are_means_over_pictures():
    table = pd.concat(
        [table_of({"x": ([1.0, 2.0], [30.0, 34.0])}), table_of({"x": ([3.0, 6.0], [20.0, 26.0])}, ("b",))]
    )
    found = rd.mean_curves(table)
    assert found[["codec", "setting", "bpp", "psnr"]].to_numpy().tolist() == [
        ["x", 0, 2.0, 25.0],
        ["x", 1, 4.0, 30.0],
    ]


def test_codecs_that_cannot_run_are_said_on_one_line(monkeypatch, tmp_path):
    notes = []
    monkeypatch.delitem(Image.SAVE, "JXL", raising=False)
    assert rd.usable(["webp", "jpegxl", "webp"], notes.append) == ["webp"]
    assert notes == ["jpegxl is left out: pillow-jxl-plugin is not installed"]
    with pytest.raises(StudyError, match="no codec is left"):
        rd.usable(["jpegxl"], notes.append)
    monkeypatch.setattr(weights, "WEIGHTS", tmp_path)
    with pytest.raises(StudyError, match=r"codec\.safetensors: is missing"):
        rd.usable(list(rd.CODERS), notes.append)
    assert rd.usable(["jpeg"], pytest.fail) == ["jpeg"]  # whoever doesn't ask for ours isn't told


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--codecs", "jpeg", "gif"), "codec 'gif' is not known; known are jpeg, "),
        (("--csv", "no/such/folder/rd.csv"), "can't be written"),
        (("--images", "no/such/folder"), "does not exist"),
        (("--workers", "0"), "is not a number of processes"),
    ],
)
def test_mistakes_are_one_line(folder, tmp_path, arguments, reason):
    process = run("rd", "--images", folder, "--csv", tmp_path / "rd.csv", "--codecs", "jpeg", *arguments)
    assert process.returncode == 2 and process.stdout == ""
    assert reason in process.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_jpeg_2000_beats_jpeg_on_live1(live1):
    rows = [
        row
        for scene in live1.scenes[:3]
        for row in rd.measure_image(scene.name, scene.load()[:256, :256], ["jpeg", "jpeg2000"])
    ]
    assert rd.bd_rates(pd.DataFrame(rows)).set_index("codec").loc["jpeg2000", "psnr"] < 0


# What is shown of a table


def test_the_command_draws_its_curves_beside_the_table(tmp_path, folder):
    process = run("rd", "--images", folder, "--csv", tmp_path / "x.csv", "--codecs", "jpeg", "--workers", 1)
    assert process.returncode == 2  # the folder holds half a file
    assert {path.name for path in tmp_path.iterdir()} == {"x.csv", "x.svg"}
    svg = (tmp_path / "x.svg").read_text()
    assert "mean PSNR, dB (upper left is better)" in svg and "mean bits a pixel" in svg
    assert "on photographs" in svg and "<!-- jpeg -->" in svg


def test_a_table_that_would_be_overwritten_by_its_figure_is_refused(tmp_path, folder):
    process = run("rd", "--images", folder, "--csv", tmp_path / "x.svg", "--codecs", "jpeg")
    assert process.returncode == 2 and "x.svg: is the figure's name" in process.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kodak", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_published_curves_are_drawn_on_kodak_alone(tmp_path, kodak):
    for number in range(1, 25):
        name = f"kodim{number:02d}" if kodak or number < 24 else "another"
        colours = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(colours).save(tmp_path / f"{name}.{'bmp' if number % 2 else 'png'}")
    table = tmp_path / "table.csv"
    process = run("rd", "--images", tmp_path, "--csv", table, "--codecs", "jpeg", "--workers", 1)
    assert process.returncode == 0, process.stderr
    svg = table.with_suffix(".svg").read_text()
    for name in (
        "VTM, InterDigitalInc",
        "Cool-Chic v4.2, Orange-OpenSource",
        "mbt2018-mean, InterDigitalInc",
    ):
        assert (f"<!-- {name} -->" in svg) == kodak
    assert ("dasharray" in svg) == kodak


def test_a_line_is_the_mean_of_its_pictures_and_lossless_points_are_left_out(monkeypatch):
    drawn = {}
    curves = rate_distortion_figures.plots.curves
    monkeypatch.setattr(
        rate_distortion_figures.plots,
        "curves",
        lambda lines, *labels: drawn.update(lines) or curves(lines, *labels),
    )
    table = pd.concat(
        [
            table_of({"x": ([1.0, 2.0], [30.0, 34.0])}),
            table_of({"x": ([3.0, 6.0], [20.0, 26.0])}, ("b",)),
            table_of({"y": ([1.0, 9.0], [30.0, math.inf])}),
        ]
    )
    rate_distortion_figures.svg_of(table, "two")
    assert drawn == {"x": ([2.0, 4.0], [25.0, 30.0]), "y": ([1.0], [30.0])}


def test_published_curves_rise_and_each_point_names_its_source():
    table = pd.read_csv(DATA / "published_rd.csv")
    assert list(table.columns) == ["curve", "bpp", "psnr", "source"] and table["curve"].nunique() == 8
    for _, curve in table.groupby("curve"):
        assert curve["bpp"].is_monotonic_increasing and curve["psnr"].is_monotonic_increasing
    assert table["source"].str.fullmatch(r"[\w-]+/[\w-]+, results/\S+, commit [0-9a-f]{12}").all()


@pytest.fixture
def fits(tmp_path, monkeypatch):
    """Records of two codecs on two scenes; fits of one of them that need half of JPEG's bytes, or all."""
    same = (RATES, DECIBELS)
    others = table_of({"jpeg": same, "jpeg444": same, "avif": (HALF, DECIBELS)}, ("a", "b"))
    others.to_csv(tmp_path / "rd_live1.csv", index=False)
    own = table_of({"fitted": (HALF, DECIBELS)}).assign(seconds=rate_distortion_figures.SECONDS, took=210.0)
    quick = own.iloc[1:2].assign(bpp=RATES[1], seconds=25, took=27.0)
    pd.concat([own, quick]).to_csv(tmp_path / "fitted_live1.csv", index=False)
    monkeypatch.setattr(rate_distortion_figures, "RESULTS", tmp_path)
    monkeypatch.setattr(rate_distortion_figures, "FITS", tmp_path / "fitted_live1.csv")


def test_fits_stand_beside_the_other_codecs_on_their_own_scenes(fits):
    table = rate_distortion_figures.with_fits()
    assert set(table["image"]) == {"a"} and table["codec"].value_counts().to_dict() == dict.fromkeys(
        ("jpeg", "jpeg444", "avif", "fitted"), 4
    )
    assert (
        "-50.0 % by PSNR over 25.0 to 34.0 dB" in readme.fits_sentence()
        and "AVIF -50.0 %" in readme.fits_sentence()
    )
    labels = [line.get_label() for line in rate_distortion_figures.families(table).axes[0].get_lines()]
    assert labels == ["JPEG 4:2:0 (classical)", "JPEG 4:4:4 (classical)", "AVIF (classical)", "fitted"]


def test_seconds_of_a_fit_are_weighed_at_equal_bytes(fits):
    gains = rate_distortion_figures.over_jpeg().set_index(["codec", "took"])["gain"]
    assert gains.xs("fitted").to_dict() == pytest.approx({210.0: DECIBELS[1] - 25.22, 27.0: 0}, abs=0.01)
    short = pd.read_csv(rate_distortion_figures.RESULTS / "rd_live1.csv").query(
        "codec != 'avif' or bpp > 0.3"
    )  # begins later
    others = rate_distortion_figures.over_jpeg().query("codec != 'fitted'").set_index("codec")["gain"]
    assert others["jpeg"] == 0 and others["avif"] == pytest.approx(gains["fitted", 210.0])
    short.to_csv(rate_distortion_figures.RESULTS / "rd_live1.csv", index=False)
    assert set(rate_distortion_figures.over_jpeg()["codec"]) == {"fitted", "jpeg", "jpeg444"}


def test_the_findings_in_the_readme_are_those_of_the_record():
    text = readme.rates_table()
    assert text in (ROOT / "README.md").read_text(), (
        'run python -c "from helpers.study import readme; readme.write_all()"'
    )
    found = rd.bd_rates(pd.read_csv(RESULTS / "rd_live1.csv")).set_index("codec")
    cells = " | ".join(f"{rate:+.1f} %" for rate in found.loc["ours"])
    assert f"| ours | {cells} |" in text and "29 pictures" in text
