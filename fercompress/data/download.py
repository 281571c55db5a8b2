"""Get data sets: those whose licence allows it are downloaded and checked, of the others a person is told where to ask for them.

GFE lies at the UCI Machine Learning Repository as one zip file, whose sha256 nobody publishes. So what is in it is checked: the sha256 of every text
file of which this project knows a copy (the lines' endings aside), and that every file pair reads as frames with one target each.
"""

from __future__ import annotations

import errno
import hashlib
import io
import logging
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fercompress.data import gfe_files
from fercompress.dataconfig import GfeData
from fercompress.errors import DataError
from fercompress.workspace import full_disk_is_an_error

GFE_URL = "https://archive.ics.uci.edu/static/public/317/grammatical+facial+expressions.zip"
GFE_FILES = 36  # datapoints and targets of two persons, nine expressions
GFE_LICENCE = "CC BY 4.0: Freitas, Barbosa and Peres, Grammatical Facial Expressions, UCI Machine Learning Repository, 2014"
MOST_BYTES = 500_000_000  # unpacked; the data set has about 50 MB
TIMEOUT_S = 60

# sha256 of a file's bytes, CR LF taken as LF: person a without `relative`, from the copy that the reader's tests use.
GFE_SHA256 = {
    "a_affirmative_datapoints.txt": "a21a034c557a38dd2cb94f8f2c7824cd0551aff74254a6db72b6b7d9744e27a5",
    "a_affirmative_targets.txt": "86891ee55ad079dde5981368e72cd8848c5cb6b28d8cac47ffcacb1c2aaaeec0",
    "a_conditional_datapoints.txt": "e4441046a34af20f85a316400dfde776da8dc7da8d8a08c6112fd929185d7e5c",
    "a_conditional_targets.txt": "e9d18b38428bddef79c4d0b95c3887c4d0e99fe1ba9a8d2c33a08cc4840ba3eb",
    "a_doubt_question_datapoints.txt": "fc72c81fcedbb16e33b35815d18352d8021fab674ab87f0bd44786763c04f31e",
    "a_doubt_question_targets.txt": "c09b30754a8125cb4557ea3e97ca652b68d6888717613f43b881bd727ab67d33",
    "a_emphasis_datapoints.txt": "60332354491ab76496a0480e2e17017c970ba61ac95ad1fd149fcf9c837d5b9b",
    "a_emphasis_targets.txt": "4d2282206a70feafff02d0d075e4041c4e1b44a2e157b07d2402ee9ea1f7eda2",
    "a_negative_datapoints.txt": "6f7c383fb851bf404e73dc8b08eef7176b5121313a018567b50ad51c1f9a7aab",
    "a_negative_targets.txt": "9369f95a94be38bc78d3d93b7b6e8b72d5054042dba5a1720a4f255c8212d8e5",
    "a_topics_datapoints.txt": "fb6c1f8d7806070674c7a261189c89479c1739e251f78b07a406cab68c837e26",
    "a_topics_targets.txt": "ce769f0cc10085739ac2014affe388701700cc90b7e22944e2d119399479ab0e",
    "a_wh_question_datapoints.txt": "d40d0f4058f18a29f4089f5b85bda322fa76be8286003289b71a96644c57506f",
    "a_wh_question_targets.txt": "bb9adf13f6ee5f38109fd18b4cf9ead54bd506e0a1a83702ed9550779c8e9896",
    "a_yn_question_datapoints.txt": "f0657fc6bdea70a3a98b0893ce9b7166484b3d3f711fe5b632e2cf8f7a458016",
    "a_yn_question_targets.txt": "e6c6c9fd8f7a3982ae3c671c5f63a11613e509ebbfa4c4a419e5abe26e0361b7",
}


@dataclass(frozen=True)
class Asked:
    """A data set that only its owners give away. unpack: what has to lie below --data-root"""

    title: str
    address: str
    terms: str
    unpack: str


# The addresses are those that public projects which use the data name; they may move.
ASKED = {
    "ckplus": Asked(
        "Extended Cohn-Kanade (CK+), Lucey et al. 2010",
        "http://www.jeffcohn.net/Resources/",
        "for research, to those who sign its agreement form; copies may not be passed on",
        "cohn-kanade-images/ and Emotion/, and Landmarks/ if faces are to be aligned by them",
    ),
    "mmi": Asked(
        "MMI Facial Expression Database, Pantic et al. 2005",
        "https://mmifacedb.eu/",
        "for researchers who sign its end-user licence agreement and get an account; copies may not be passed on",
        "Sessions/<number>/ with the XML files and the videos",
    ),
    "afew": Asked(
        "Acted Facial Expressions in the Wild (AFEW 7.0), Dhall et al. 2012",
        "https://cs.anu.edu.au/few/AFEW.html",
        "for researchers who sign a licence agreement with its authors; copies may not be passed on; the test part's labels are not given out",
        "Train_AFEW/<Class>/<id>.avi and Val_AFEW/<Class>/<id>.avi",
    ),
}


@dataclass(frozen=True)
class Got:
    """files: text files in `folder`; compared: of them, by sha256; zip_sha256: "" where nothing was downloaded"""

    folder: Path
    files: int
    compared: int
    zip_sha256: str


def get_gfe(folder: Path, url: str = GFE_URL) -> Got:
    """Download, unpack and check; where all files are there already, check alone. raises: DataError, DiskFullError"""
    zip_sha256 = ""
    if len(_there(folder)) != GFE_FILES:
        with full_disk_is_an_error(Path.cwd()):
            content = _downloaded(url, folder)
            zip_sha256 = hashlib.sha256(content).hexdigest()
            _unpack(content, folder, url)
    there = _there(folder)
    if len(there) != GFE_FILES:
        raise DataError(f"{folder}: holds {len(there)} of {GFE_FILES} text files; delete the folder and get it again")
    for name, wanted in GFE_SHA256.items():
        found = _sha256(folder / name)
        if found != wanted:
            raise DataError(
                f"{folder / name}: sha256 {found[:12]}..., and {wanted[:12]}... was expected: damaged, or another edition than the one known here; "
                "delete the folder and get it again"
            )
    gfe_files.read(GfeData(name="gfe"), folder)
    return Got(folder, len(there), len(GFE_SHA256), zip_sha256)


def _there(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if _is_ours(path.name)] if folder.is_dir() else []


def _is_ours(name: str) -> bool:
    return re.fullmatch(r"[ab]_[a-z_]+_(datapoints|targets)\.txt", name) is not None


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); delete the folder and get it again") from error


def _downloaded(url: str, folder: Path) -> bytes:
    import pooch

    pooch.get_logger().setLevel(logging.WARNING)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "unfinished.zip").unlink(missing_ok=True)
        path = Path(pooch.retrieve(url, None, "unfinished.zip", folder, downloader=pooch.HTTPDownloader(timeout=TIMEOUT_S)))
        content = path.read_bytes()
        path.unlink()
    except OSError as error:  # requests' errors are such, too
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        if error.errno is not None and error.filename is not None:
            raise DataError(f"{error.filename}: cannot be written ({error.strerror}); choose another folder with --to") from error
        response = getattr(error, "response", None)
        cause = f"no connection: {type(error).__name__}" if response is None else f"the server answers {response.status_code}"
        raise DataError(f"{url}: cannot be downloaded ({cause}); try again later, or get it with a browser and unzip it into {folder}") from error
    return content


def _unpack(content: bytes, folder: Path, url: str) -> None:
    """The text files alone, side by side whatever folders they lie in."""
    try:
        for name, text in _members(content, MOST_BYTES):
            unfinished = folder / f"{name}.unfinished"
            unfinished.write_bytes(text)
            unfinished.rename(folder / name)
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{url}: what came is not the zip file that was expected ({error}); try again later") from error


def _members(content: bytes, most_bytes: int, *, nested: bool = False) -> Iterator[tuple[str, bytes]]:
    """(name, content) of every text file of the data set, also in a zip file within the zip file. raises: ValueError for too much of it"""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for member in archive.infolist():
            name = member.filename.rpartition("/")[2]
            inner = name.endswith(".zip") and not nested
            if not (inner or _is_ours(name)):
                continue
            most_bytes -= member.file_size
            if most_bytes < 0:
                raise ValueError(f"it unpacks to more than {MOST_BYTES} bytes")
            if inner:
                yield from _members(archive.read(member), most_bytes, nested=True)
            else:
                yield name, archive.read(member)
