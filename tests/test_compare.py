"""The comparison slider: its HTML, and the live one's callback that really encodes."""

import io

import numpy as np
import pytest
from bs4 import BeautifulSoup
from PIL import Image

from helpers import compare, jpeg

IMAGE = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)


def reconstruct(quality):
    data = jpeg.encode(IMAGE, quality)
    return jpeg.decode(data), f"quality {quality}: {len(data)} bytes"


def figure(**shown):
    return BeautifulSoup(compare.static(IMAGE, shown or {"same": IMAGE}, "a <b> picture").data, "html.parser")


def live():
    return compare.Comparison(IMAGE, reconstruct, range(1, 96), stops=[5, 50], start=50, name="noise")


def pixels(widget):
    return np.asarray(Image.open(io.BytesIO(widget.children[2].value)))


def test_the_static_figure_has_no_script_no_id_and_escapes_its_texts():
    soup = figure(**{"a": IMAGE, "b < c": IMAGE})
    assert not soup.select("script") and not soup.select("[id]")
    assert [image["alt"] for image in soup.select("img")][0] == "a <b> picture, original"
    assert soup.select("img")[2]["data-caption"] == "b < c"


def test_the_static_figure_carries_the_exact_pixels():
    import base64

    source = figure(same=IMAGE).select("img")[1]["src"].split(",")[1]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(source)))), IMAGE)


def test_one_reconstruction_needs_no_picker():
    assert len(figure(one=IMAGE).select("input")) == 1
    assert len(figure(one=IMAGE, two=IMAGE).select("input")) == 2


def test_every_slider_has_a_name_for_screen_readers():
    assert all(i["aria-label"] and i["aria-valuetext"] for i in figure(one=IMAGE, two=IMAGE).select("input"))


def test_other_shapes_and_nothing_to_compare_are_refused():
    with pytest.raises(ValueError, match=r"small: shape \(8, 8\)"):
        compare.static(IMAGE, {"small": np.zeros((8, 8), np.uint8)}, "x")
    with pytest.raises(ValueError, match="nothing to compare"):
        compare.static(IMAGE, {}, "x")


def test_a_move_of_the_quality_slider_encodes_at_that_quality():
    widget = live()
    setting, cut, _, caption, _ = widget.children
    cut.value = 0  # all reconstruction
    for quality in (50, 7, 93):
        setting.value = quality
        assert np.array_equal(pixels(widget)[::2, ::2], reconstruct(quality)[0])
        assert caption.value == reconstruct(quality)[1]


def test_the_cut_joins_original_and_reconstruction():
    widget = live()
    widget.children[1].value = 50
    shown, coded = pixels(widget)[::2, ::2], reconstruct(50)[0]
    assert np.array_equal(shown[:, :12], IMAGE[:, :12]) and np.array_equal(shown[:, 13:], coded[:, 13:])
    assert (shown[:, 12] == 255).all()
    widget.children[1].value = 100
    assert np.array_equal(pixels(widget)[::2, ::2], IMAGE)


def test_one_output_carries_the_live_slider_and_its_static_twin():
    bundle = live()._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert "quality 5:" in bundle["text/html"] and "quality 50:" in bundle["text/html"]
