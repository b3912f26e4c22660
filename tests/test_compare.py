"""The comparison slider: its HTML, and the live one's callback that really encodes."""

import io
from datetime import datetime

import ipywidgets
import numpy as np
import pytest
from bs4 import BeautifulSoup
from PIL import Image

from helpers import StudyError, compare, jpeg

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


def test_a_setting_may_be_a_name():
    shown = {"none": (IMAGE, "as it was"), "black": (np.zeros_like(IMAGE), "nothing left")}
    names = list(shown)
    widget = compare.Comparison(IMAGE, shown.__getitem__, names, names, "black", "noise", "method")
    widget.children[1].value = 0
    assert not pixels(widget).any() and widget.children[3].value == "nothing left"


def chosen(widget, content, name="picture.png"):
    """The reader picks a file: a browser sends it as this one value."""
    file = {"name": name, "type": "image/png", "size": len(content), "content": memoryview(content)}
    widget.children[0].value = ({**file, "last_modified": datetime.now()},)
    return widget.children[1].value


def png(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def upload():
    taken = []
    widget = compare.Upload(
        lambda image: taken.append(image) or ipywidgets.Label("seen"), "<p>no kernel</p>", 20
    )
    widget.taken = taken
    return widget


def test_an_uploaded_picture_is_shown_with_its_comparison_made_smaller_where_it_is_large(upload):
    assert chosen(upload, png(IMAGE[:8, :16])) == "picture.png: 16x8 pixels"
    assert np.array_equal(upload.taken[0], IMAGE[:8, :16]) and upload.children[3].value == "seen"
    assert chosen(upload, png(IMAGE)) == "picture.png: 24x16 pixels, made smaller to 20x13"
    assert upload.taken[1].shape == (13, 20, 3) and len(upload.children) == 4


def test_an_upload_that_is_no_picture_is_said_in_one_line_and_its_name_is_no_html(upload):
    text = chosen(upload, b"nothing", "<b>\n.png")
    assert text == r"&lt;b&gt;\n.png: is not a picture that Pillow can read" and len(upload.children) == 3
    assert chosen(upload, b"", "a.png") == "a.png: is empty (0 bytes)" and not upload.taken


def test_what_a_comparison_refuses_is_said_under_the_button():
    def refuse(image):
        raise StudyError("takes too many bytes")

    upload = compare.Upload(refuse, "")
    assert chosen(upload, png(IMAGE)) == "picture.png: takes too many bytes"


def test_a_page_without_a_kernel_says_what_to_do_instead_of_uploading(upload):
    assert upload._repr_mimebundle_()["text/html"] == "<p>no kernel</p>"


def test_stops_of_one_caption_are_one():
    widget = compare.Comparison(IMAGE, lambda stage: (IMAGE, "after 3 s"), range(3), range(3), 2, "noise")
    found = BeautifulSoup(widget._static.data, "html.parser")
    assert [image["data-caption"] for image in found.select("img[data-caption]")] == ["after 3 s"]
