"""The comparison slider: original and reconstruction in one frame, live in a notebook, static in a page."""

import base64
import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path

import ipywidgets
import numpy as np
from IPython.display import HTML
from PIL import Image

from helpers.data import load_image, resize
from helpers.files import StudyError, printable

SCALE = 2  # screen pixels a picture pixel, so that an 8x8 block can be seen
# No script, no ids: every handler stands on its element, so that the figure also works after a
# notebook is saved and reopened, twice in one page, and in a page opened from a folder.
STYLE = f"<style>\n{Path(__file__).with_name('compare.css').read_text()}</style>"
CUT = (
    "this.parentNode.style.setProperty('--cut',this.value+'%');"
    "this.setAttribute('aria-valuetext',this.value+' % of the width shows the original')"
)
PICK = (
    "var f=this.closest('figure'),p=f.querySelectorAll('.stage img+img'),i;"
    "for(i=0;i<p.length;i++)p[i].hidden=i!=this.value;"
    "var t=p[this.value].getAttribute('data-caption');"
    "f.querySelector('output').textContent=t;this.setAttribute('aria-valuetext',t)"
)


def static(original: np.ndarray, reconstructions: Mapping, name: str, start: int = 0) -> HTML:
    """The slider in HTML, for mouse, touch and keyboard, without a kernel: one range moves the cut between
    original (left) and reconstruction (right), a second one picks the reconstruction.

    All are uint8 of one shape; the keys are captions, `name` says what is shown, `start` which one first.
    Raises ValueError where shapes differ or none is given.
    """
    if not reconstructions:
        raise ValueError("there is nothing to compare with")
    for caption, image in reconstructions.items():
        if image.shape != original.shape:
            raise ValueError(f"{caption}: shape {image.shape} differs from the original's {original.shape}")
    (height, width), name = original.shape[:2], escape(name)
    captions = [escape(caption) for caption in reconstructions]
    overlays = "".join(
        f'<img src="{data_uri(image)}" data-caption="{caption}" alt="{name}, reconstruction: {caption}"'
        f"{'' if i == start else ' hidden'}>"
        for i, (caption, image) in enumerate(zip(captions, reconstructions.values(), strict=True))
    )
    picker = (
        f'<input type="range" min="0" max="{len(captions) - 1}" step="1" value="{start}" '
        f'aria-label="Reconstruction of {name}" aria-valuetext="{captions[start]}" oninput="{PICK}">'
    )
    return HTML(
        f'{STYLE}<figure class="study-compare"><div class="stage" style="width:{SCALE * width}px">'
        f'<img src="{data_uri(original)}" width="{width}" height="{height}" alt="{name}, original">{overlays}'
        f'<input type="range" min="0" max="100" value="50" aria-label="Cut between original (left) and '
        f'reconstruction (right) of {name}" aria-valuetext="50 % of the width shows the original" '
        f'oninput="{CUT}"></div>'
        f"<label>{picker if len(captions) > 1 else ''}<output>{captions[start]}</output></label>"
        f"<figcaption>{name}: original left of the line, reconstruction right.</figcaption></figure>"
    )


class Comparison(ipywidgets.VBox):
    """The slider with a kernel behind it: each move calls `reconstruct(setting)` and shows the result.

    `reconstruct` returns (uint8 image of the original's shape, caption); its exceptions are shown under
    the sliders. `settings` are the values the slider offers, `stops` those that the static figure carries,
    `start`, one of the stops, comes first. A page without a kernel shows the static figure, which travels
    in the same output.
    """

    def __init__(
        self,
        original: np.ndarray,
        reconstruct: Callable[[int | str], tuple[np.ndarray, str]],
        settings: Sequence[int | str],
        stops: Sequence[int | str],
        start: int | str,
        name: str,
        setting_name: str = "quality",
    ):
        self._original, self._reconstruct = original, reconstruct
        made = {stop: reconstruct(stop) for stop in stops}
        shown = {caption: image for image, caption in made.values()}  # stops of one caption are one
        self._static = static(original, shown, name, list(shown).index(made[start][1]))
        layout = ipywidgets.Layout(width="100%", max_width="30em")
        wide = {"layout": layout, "style": {"description_width": "7em"}}
        self._setting = ipywidgets.SelectionSlider(
            options=list(settings), value=start, description=setting_name, continuous_update=False, **wide
        )
        self._cut = ipywidgets.IntSlider(50, 0, 100, description="original, %", **wide)
        self._picture = ipywidgets.Image(format="png", layout=ipywidgets.Layout(max_width="100%"))
        self._picture.alt = name
        self._caption, self._errors = ipywidgets.HTML(), ipywidgets.Output()
        self._setting.observe(self._encode, "value")
        self._cut.observe(self._draw, "value")
        super().__init__([self._setting, self._cut, self._picture, self._caption, self._errors])
        self._encode()

    def _encode(self, change: object = None) -> None:
        self._errors.clear_output()
        with self._errors:
            self._image, caption = self._reconstruct(self._setting.value)
            self._caption.value = escape(caption)
            self._draw()

    def _draw(self, change: object = None) -> None:
        column = round(self._original.shape[1] * self._cut.value / 100)
        joined = np.concatenate([self._original[:, :column], self._image[:, column:]], axis=1)
        if 0 < column < joined.shape[1]:
            joined[:, column] = 255
        self._picture.value = _file(joined.repeat(SCALE, 0).repeat(SCALE, 1), "PNG")

    def _repr_mimebundle_(self, **kwargs: object) -> dict:
        return {**super()._repr_mimebundle_(**kwargs), "text/html": self._static.data}


class Upload(ipywidgets.VBox):
    """A button for a reader's own picture; `compare(image)`, a widget, is shown under it.

    The picture is read by `load_image` and made smaller where a side is longer than `most` pixels. What
    can't be read, or raises StudyError in `compare`, is said in one line. A page without a kernel shows
    `without_kernel`, HTML, instead.
    """

    def __init__(self, compare: Callable, without_kernel: str, most: int = 512):
        self._shown_for, self._without_kernel, self._most = compare, without_kernel, most
        self._button = ipywidgets.FileUpload(accept="image/*", description="Your picture")
        self._message, self._errors = ipywidgets.HTML(), ipywidgets.Output()
        self._button.observe(self._take, "value")
        super().__init__([self._button, self._message, self._errors])

    def _take(self, change: object = None) -> None:
        self.children = self.children[:3]
        self._errors.clear_output()
        with self._errors:
            for file in self._button.value:
                name = printable(file["name"])
                try:
                    image = _opened(bytes(file["content"]))
                    said = f"{name}: {image.shape[1]}x{image.shape[0]} pixels"
                    if (factor := self._most / max(image.shape[:2])) < 1:
                        height, width = (max(1, round(side * factor)) for side in image.shape[:2])
                        image = resize(image, (height, width))
                        said += f", made smaller to {width}x{height}"
                    self.children = [*self.children, self._shown_for(image)]
                except StudyError as error:
                    said = f"{name}: {error}"
                self._message.value = escape(said)

    def _repr_mimebundle_(self, **kwargs: object) -> dict:
        return {**super()._repr_mimebundle_(**kwargs), "text/html": self._without_kernel}


def data_uri(image: np.ndarray) -> str:
    """A uint8 image without loss as the `src` of an HTML picture."""
    return "data:image/webp;base64," + base64.b64encode(_file(image, "WEBP", lossless=True)).decode()


def _file(image: np.ndarray, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def _opened(content: bytes) -> np.ndarray:
    """`load_image` of a file's content; its errors do not name the file that it is put into."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture"
        path.write_bytes(content)
        try:
            return load_image(path)
        except StudyError as error:
            raise StudyError(str(error).removeprefix(f"{printable(path)}: ")) from None
