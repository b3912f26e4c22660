"""Getting LIVE1: from a real server on this machine, from folders, and from what is not LIVE1."""

import hashlib
import http.server
import io
import json
import threading

import numpy as np
import pytest
from PIL import Image

from helpers import StudyError
from helpers.data import live1 as live1_module
from helpers.data.live1 import fetch_live1

NAMES = ("bikes", "lighthouse", "parrots")


def picture(name):
    rng = np.random.default_rng(NAMES.index(name))
    return Image.fromarray(rng.integers(0, 256, (16, 24, 3), dtype=np.uint8))


def bmp(name):
    buffer = io.BytesIO()
    picture(name).save(buffer, "BMP", dpi=(0, 0))
    return buffer.getvalue()


class Server(http.server.ThreadingHTTPServer):
    """Serves `files` by path; a value of bytes is sent, a number is a status, "cut" breaks off half-way."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes | int | str] = {f"/{name}.bmp": bmp(name) for name in NAMES}
        self.asked: list[str] = []
        self.address = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        content = self.server.files.get(self.path, 404)
        if isinstance(content, int):
            return self.send_error(content)
        whole = bmp(NAMES[0]) if content == "cut" else content
        self.send_response(200)
        self.send_header("Content-Length", str(len(whole)))
        self.end_headers()
        self.wfile.write(whole[: len(whole) // 2] if content == "cut" else whole)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def target(tmp_path, monkeypatch, server):
    """A card of three pictures whose source is the server; returns the folder to fill."""
    card = {
        "sources": [{"address": server.address + "/{name}.bmp"}],
        "also_known_as": {"lighthouse": "lighthouse3"},
        "sha256": {name: hashlib.sha256(bmp(name)).hexdigest() for name in NAMES},
    }
    (tmp_path / "live1.json").write_text(json.dumps(card))
    monkeypatch.setattr(live1_module, "DATA", tmp_path)
    return tmp_path / "live1"


def here(target):
    return {path.name: path.read_bytes() for path in target.iterdir()}


def test_all_files_arrive(target):
    assert fetch_live1(target=target) == 3
    assert here(target) == {f"{name}.bmp": bmp(name) for name in NAMES}


def test_an_address_can_be_given(target, server):
    assert fetch_live1(server.address, target) == 3


@pytest.mark.parametrize("content", [b"not a picture", bmp("parrots")[:-1] + b"x", "cut", 404, 500])
def test_a_wrong_file_is_named_and_the_others_stay(target, server, content):
    server.files["/bikes.bmp"] = content
    with pytest.raises(StudyError) as error:
        fetch_live1(target=target)
    first, *rest = str(error.value).splitlines()
    assert first.startswith("bikes.bmp: ") and len(rest) == 1 and "2 of 3 files" in rest[0]
    assert here(target).keys() == {"lighthouse.bmp", "parrots.bmp"}


def test_the_next_call_fetches_only_what_is_missing_or_damaged(target, server):
    fetch_live1(target=target)
    (target / "bikes.bmp").unlink()
    (target / "parrots.bmp").write_bytes(b"half a pic")
    server.asked.clear()
    assert fetch_live1(target=target) == 3
    assert server.asked == ["/bikes.bmp", "/parrots.bmp"]
    assert here(target)["parrots.bmp"] == bmp("parrots")


def test_the_other_name_of_a_scene_is_tried(target, server):
    server.files["/lighthouse3.bmp"] = server.files.pop("/lighthouse.bmp")
    assert fetch_live1(target=target) == 3


def test_the_second_source_is_asked_where_the_first_fails(target, server, tmp_path):
    card = json.loads((tmp_path / "live1.json").read_text())
    card["sources"].insert(0, {"address": server.address + "/broken/{name}.bmp"})
    (tmp_path / "live1.json").write_text(json.dumps(card))
    server.files["/broken/bikes.bmp"] = b"damaged"
    assert fetch_live1(target=target) == 3


def test_without_an_answer_it_stops_after_one_file(target, server):
    server.shutdown()
    server.server_close()
    with pytest.raises(StudyError, match="no source can be reached") as error:
        fetch_live1(target=target)
    assert len(str(error.value).splitlines()) == 2 and here(target) == {}


def test_a_folder_of_lossless_pictures_becomes_the_same_files(target, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, other in zip(NAMES, ("bikes.png", "lighthouse3.tif", "parrots.webp"), strict=True):
        picture(name).save(folder / other, **({"lossless": True} if other.endswith("webp") else {}))
    assert fetch_live1(str(folder), target) == 3
    assert here(target) == {f"{name}.bmp": bmp(name) for name in NAMES}


def test_a_lossy_copy_is_refused(target, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in NAMES:
        picture(name).save(folder / f"{name}.jpg")
    with pytest.raises(StudyError, match="SHA-256 differs"):
        fetch_live1(str(folder), target)
    assert here(target) == {}


def test_the_real_set_from_a_folder(live1, tmp_path):
    folder = live1.scenes[0].path.parent
    assert fetch_live1(str(folder), tmp_path / "live1") == 29
    assert len(list((tmp_path / "live1").iterdir())) == 29
