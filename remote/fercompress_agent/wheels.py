"""Wheels that the host sent, in a folder of the workspace that this agent alone puts on its path: nothing system-wide, no pip.

`site/NAME/` holds the unpacked wheels, NAME being what they are made of; `site/INTERPRETER.json` says which folder this interpreter uses. It is
renamed into place last, so that a Python sees all of a set or none of it.
"""

import json
import os
import platform
import struct
import sys

from fercompress_agent import Problem, inputs, spelling
from fercompress_agent.sha256 import sha256

SITE = "site"
SYSTEM_FOLDERS = ("site-packages", "dist-packages")
ROOTS = ("purelib", "platlib")  # of a wheel's `.data`; its scripts, headers and data no engine needs
PIECE_BYTES = 1 << 20
SYMLINK, KIND = 0o120000, 0o170000  # of a Unix mode, as a zip file has it


def interpreter():
    """What decides which wheels fit: facts of this Python and its C library."""
    return {
        "implementation": sys.implementation.name,
        "version": list(sys.version_info[:2]),
        "abiflags": getattr(sys, "abiflags", ""),
        "machine": platform.machine(),
        "bits": 8 * struct.calcsize("P"),
        "libc": list(platform.libc_ver()),
        "system": platform.system(),
    }


def _record_path(site):
    return os.path.join(site, "{}-{}.json".format(sys.implementation.cache_tag, platform.machine()))


def record(site=SITE):
    """{"folder", "wheels": {file name: sha256}, "versions": {project: version}, "files", "bytes"}; {} where this Python has no wheels there"""
    try:
        with open(_record_path(site), encoding="ascii") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("folder"), str) and _plain(found["folder"]) else {}


def sound(site=SITE):
    """The record, if what it tells of is still there; else {}."""
    found = record(site)
    return found if found and measure(os.path.join(site, found["folder"])) == (found.get("files"), found.get("bytes")) else {}


def use(site=SITE):
    """Put this interpreter's folder on the path: before what the system has installed, behind the standard library, which no wheel may hide."""
    found = record(site)
    folder = os.path.abspath(os.path.join(site, found["folder"])) if found else ""
    if not os.path.isdir(folder) or folder in sys.path:
        return
    places = [place for place, entry in enumerate(sys.path) if os.path.basename(entry) in SYSTEM_FOLDERS]
    sys.path.insert(places[0] if places else len(sys.path), folder)


def install(wheels, versions, limit_bytes, site=SITE):
    """Unpack, compile, take into use; what was in use before is removed.

    wheels: {path: sha256}; versions: {project: version}, kept in the record; limit_bytes: what the unpacked files may have together
    returns: the record. raises: Problem where a wheel is not what was sent, or would write elsewhere; OSError
    """
    import shutil  # here, as in the other jobs: it costs 0.7 MB with its compressors

    for path, expected in sorted(wheels.items()):
        if not os.path.isfile(path) or inputs.file_sha256(path) != expected:
            raise Problem("{} is not what was sent: send it again".format(os.path.basename(path)))
    name = sha256(json.dumps(sorted(wheels.values())).encode("ascii")).hexdigest()[:24]
    folder, part = os.path.join(site, name), os.path.join(site, name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        os.makedirs(part)
        for path in sorted(wheels):
            limit_bytes -= unpack(path, part, limit_bytes)
        shutil.rmtree(folder, ignore_errors=True)  # damaged, or half compiled: no record names it, or nobody would have asked
        os.rename(part, folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    _compile(folder)
    files, size_bytes = measure(folder)
    found = {
        "folder": name, "wheels": {os.path.basename(path): digest for path, digest in wheels.items()}, "versions": versions,
        "files": files, "bytes": size_bytes,
    }  # fmt: skip
    before = record(site).get("folder", name)
    path = _record_path(site)
    with open(path + ".part", "w", encoding="ascii") as file:
        json.dump(found, file, sort_keys=True)
    os.replace(path + ".part", path)
    if before != name and not _used(site, before):
        shutil.rmtree(os.path.join(site, before), ignore_errors=True)
    return found


def unpack(path, folder, limit_bytes):
    """A wheel is a zip file. returns: how many bytes its files have. raises: Problem before anything is written outside `folder`"""
    import zipfile
    import zlib

    size_bytes = 0
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                place = inside(entry)
                if place is None:
                    continue
                target = os.path.join(folder, *map(spelling.here, place))
                os.makedirs(os.path.dirname(target), exist_ok=True)
                if os.path.lexists(target):
                    raise Problem("{}: {} is in another wheel too".format(os.path.basename(path), entry.filename))
                with archive.open(entry) as source, open(target, "wb") as file:
                    for piece in iter(lambda: source.read(PIECE_BYTES), b""):
                        size_bytes += len(piece)
                        if size_bytes > limit_bytes:  # counted, not believed: a zip file's own sizes are claims
                            raise Problem("the wheels need more than the {} bytes that are left for them".format(limit_bytes))
                        file.write(piece)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise Problem("{}: not a wheel that can be read ({})".format(os.path.basename(path), error))
    return size_bytes


def inside(entry):
    """Where a zip entry goes, as the parts of a path; None where it is not needed. raises: Problem if it would leave the folder"""
    name = entry.filename
    if name.endswith("/"):
        return None
    parts = name.split("/")
    if (entry.external_attr >> 16) & KIND == SYMLINK or "\\" in name or "\0" in name or not all(_plain(part) for part in parts):
        raise Problem("a wheel holds {!r}, which would not stay in its folder: it is not a sound wheel".format(name))
    if parts[0].endswith(".data"):
        return parts[2:] if len(parts) > 2 and parts[1] in ROOTS else None
    return parts


def _plain(part):
    return part not in ("", ".", "..") and not set(part) & set("/\\:\0")


def _used(site, folder):
    """Whether another interpreter's record names it."""
    for name in os.listdir(site):
        if name.endswith(".json"):
            with open(os.path.join(site, name), encoding="ascii") as file:
                if json.load(file).get("folder") == folder:
                    return True
    return False


def _compile(folder):
    """Once, now: the first process after an unpacking would else compile everything, and weigh 10 MiB more than those after it."""
    import compileall

    compileall.compile_dir(folder, quiet=2)


def measure(folder):
    """How many files, and bytes, without what Python compiled of them."""
    files = size_bytes = 0
    for where, folders, names in os.walk(folder):
        folders[:] = [each for each in folders if each != "__pycache__"]
        files += len(names)
        size_bytes += sum(os.path.getsize(os.path.join(where, each)) for each in names)
    return files, size_bytes
