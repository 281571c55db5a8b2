"""Getting data sets: over a real connection to a server of the test's own, with everything that can go wrong on the way."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fercompress.data import download
from fercompress.errors import DataError

EXPRESSIONS = ("affirmative", "conditional", "doubt_question", "emphasis", "negative", "relative", "topics", "wh_question", "yn_question")
REAL = Path(os.environ.get("FERCOMPRESS_DATA", "nowhere")) / "gfe"
Serve = Callable[[bytes], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A file's content -> its address; "/none" is not there."""
    held: list[bytes] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/gfe.zip" else 404)
            content = held[0] if self.path == "/gfe.zip" else b""
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def address(content: bytes) -> str:
        held[:] = [content]
        return f"http://127.0.0.1:{server.server_port}/gfe.zip"

    yield address
    server.shutdown()
    thread.join()
    server.server_close()


def _files() -> dict[str, bytes]:
    """Two frames of every recording."""
    points = b"0.0 " + b" ".join([b"1.5"] * 300) + b"\n"
    named: dict[str, bytes] = {}
    for person in "ab":
        for expression in EXPRESSIONS:
            named[f"{person}_{expression}_datapoints.txt"] = b"header\r\n" + 2 * points
            named[f"{person}_{expression}_targets.txt"] = b"0\r\n1\r\n"
    return named


def _zip(files: dict[str, bytes]) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return held.getvalue()


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the made-up files in the place of the real ones; its sha256 is that of lines that end with LF alone."""
    monkeypatch.setattr(download, "GFE_SHA256", {"a_topics_targets.txt": hashlib.sha256(b"0\n1\n").hexdigest()})


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("nested", [False, True])
def test_the_text_files_are_unpacked_side_by_side_and_nothing_else(tmp_path: Path, serve: Serve, nested: bool) -> None:
    files = {f"grammatical/{name}": content for name, content in _files().items()} | {"../evil.txt": b"x", "readme.txt": b"y"}
    content = _zip({"inner.zip": _zip(files)} if nested else files)
    got = download.get_gfe(tmp_path / "to", serve(content))
    assert (got.files, got.compared) == (36, 1)
    assert {path.name: path.read_bytes() for path in (tmp_path / "to").iterdir()} == _files()
    assert [path.name for path in tmp_path.iterdir()] == ["to"]


@pytest.mark.usefixtures("known")
def test_what_is_there_is_checked_and_not_downloaded_again(tmp_path: Path, serve: Serve) -> None:
    download.get_gfe(tmp_path, serve(_zip(_files())))
    assert download.get_gfe(tmp_path, "http://127.0.0.1:1/none").zip_sha256 == ""
    (tmp_path / "a_topics_targets.txt").write_text("1\n1\n")
    with pytest.raises(DataError, match=r"a_topics_targets\.txt: sha256 .* was expected"):
        download.get_gfe(tmp_path, "http://127.0.0.1:1/none")


@pytest.mark.usefixtures("known")
def test_a_pair_that_does_not_fit_together_is_refused(tmp_path: Path, serve: Serve) -> None:
    with pytest.raises(DataError, match=r"b_relative_targets\.txt: 3 targets for the 2 frames"):
        download.get_gfe(tmp_path, serve(_zip({**_files(), "b_relative_targets.txt": b"0\n1\n1\n"})))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<html>moved</html>", "not the zip file that was expected"),
        (_zip(_files())[:-200], "not the zip file that was expected"),
        (_zip({"readme.txt": b""}), "holds 0 of 36 text files"),
        (_zip({"a_topics_targets.txt": bytes(10_001)}), "unpacks to more than 10000 bytes"),
    ],
    ids=["a page", "cut off", "something else", "a bomb"],
)
def test_what_is_not_the_data_set_is_refused(tmp_path: Path, serve: Serve, content: bytes, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "MOST_BYTES", 10_000)
    with pytest.raises(DataError, match=words):
        download.get_gfe(tmp_path, serve(content))
    assert list(tmp_path.iterdir()) == []


def test_without_a_connection_one_line_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        download.get_gfe(tmp_path, "http://127.0.0.1:1/gfe.zip")
    assert "no connection" in str(error.value)
    assert f"unzip it into {tmp_path}" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_server_that_has_it_not_is_told(tmp_path: Path, serve: Serve) -> None:
    with pytest.raises(DataError, match="the server answers 404"):
        download.get_gfe(tmp_path, serve(b"").replace("gfe.zip", "none"))


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be written .*--to"):
        download.get_gfe(tmp_path / "file" / "below", "http://127.0.0.1:1/gfe.zip")


@pytest.mark.skipif(not REAL.is_dir(), reason="the GFE files are not below $FERCOMPRESS_DATA")
def test_the_real_files_have_the_sha256_that_are_asked_for() -> None:
    assert {name: download._sha256(REAL / name) for name in download.GFE_SHA256} == download.GFE_SHA256


def _command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "fercompress", *arguments], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(("name", "words"), [("ckplus", "jeffcohn.net"), ("mmi", "mmifacedb.eu"), ("afew", "cs.anu.edu.au")])
def test_data_that_its_owners_give_away_is_asked_for(name: str, words: str) -> None:
    done = _command("data", "get", name)
    assert done.returncode == 0
    assert words in done.stdout
    assert "terms: " in done.stdout
    assert f"data check {name} --data-root DIR" in done.stdout
    assert words in json.loads(_command("data", "get", name, "--json").stdout)["address"]


def test_a_name_that_cannot_be_got_is_a_usage_error() -> None:
    done = _command("data", "get", "synthetic")
    assert done.returncode == 2
    assert "'gfe', 'ckplus', 'mmi', 'afew'" in done.stderr
