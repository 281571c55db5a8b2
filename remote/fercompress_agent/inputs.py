"""What a job works on: the bundle, the clips and the cached features, each checked before it is used."""

import json
import os

from fercompress_agent import Problem, npyfile, spelling
from fercompress_agent.sha256 import sha256


class Bundle:
    """A folder whose manifest and files have been checked against their sha256. raises: Problem"""

    def __init__(self, job):
        self.folder = str(job["bundle"])
        path = os.path.join(self.folder, "manifest.json")
        text = _read(path)
        if sha256(text).hexdigest() != job["bundle_sha256"]:
            raise Problem("{}: the manifest is not the one that was sent (sha256 differs); export the bundle again".format(path))
        self.manifest = json.loads(text.decode("utf-8"))
        for name, told in sorted(self.manifest["files"].items()):
            if file_sha256(os.path.join(self.folder, spelling.here(name))) != told["sha256"]:
                raise Problem("{}: file does not match the manifest's sha256; export the bundle again".format(os.path.join(self.folder, name)))


class Inputs:
    """One array file, a row per clip, checked against its sha256, dtype and the shape of a row.

    what: "clips" or "features", for messages. raises: Problem
    """

    def __init__(self, what, path, sha256, dtype, wanted):
        if file_sha256(path) != sha256:
            raise Problem("{}: the {} are not the ones that were sent (sha256 differs); measure again".format(path, what))
        self.rows = npyfile.Rows(path)
        if self.rows.dtype != dtype or self.rows.shape[1:] != wanted:
            self.rows.close()
            raise Problem("{}: {} of {} do not fit the bundle's {}".format(path, what, self.rows.shape[1:], wanted))

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.rows.close()

    def frames(self, engine, row):
        return engine.frames(self.rows.row(row), self.rows.shape[1:])


def clips(job, bundle):
    """The job's clips, uint8 (N, T, H, W). raises: Problem"""
    picture = bundle.manifest["extractor"]["input"].get("picture") or bundle.manifest["extractor"]["input"]["shape"][2:]
    wanted = (bundle.manifest["frames"],) + tuple(picture)
    return Inputs("clips", str(job["clips"]), job["clips_sha256"], "|u1", wanted)


def features(job, bundle):
    """Features that were computed elsewhere, float32 (N, T, D), in the place of clips. raises: Problem"""
    if not job.get("features_file"):
        raise Problem("the engine 'stored' needs a file with features: the job names none (features_file, features_sha256)")
    wanted = tuple(bundle.manifest["predictor"]["input"]["shape"][1:])
    return Inputs("features", str(job["features_file"]), job.get("features_sha256"), "<f4", wanted)


def opened(job, bundle, engine):
    """What the engine's extractor starts from: the job's clips, or its features."""
    return features(job, bundle) if engine.stored else clips(job, bundle)


class FeatureCache:
    """Features of all asked rows in one .npy file (rows, T, D): read where it is there, else written and renamed when complete.

    The name holds the sha256 of all that the features depend on.
    """

    def __init__(self, job, bundle, engine):
        self.hit = False
        self.reader = self.writer = None
        self.engine = engine
        if not job.get("features") or engine.stored or bundle.manifest.get("one_file"):
            return
        folder = str(job["features"])
        os.makedirs(folder, exist_ok=True)
        extractor = bundle.manifest["extractor"]
        key = [
            bundle.manifest["files"][extractor["file"]]["sha256"],
            bundle.manifest["preprocess"],
            job["clips_sha256"],
            job["rows"],
            engine.first.versions(),  # variants that differ in the predictor's half alone share features
            type(engine.first).__name__,
        ]
        if "layout" in bundle.manifest["predictor"]["input"]:
            key.append(bundle.manifest["predictor"]["input"])
        name = sha256(json.dumps(key, sort_keys=True).encode("ascii")).hexdigest()[:32] + ".npy"
        self.path = os.path.join(folder, name)
        try:
            self.reader = npyfile.Rows(self.path)
            self.hit = True
        except FileNotFoundError:
            self.part = "{}.{}.part".format(self.path, os.getpid())
            self.writer = open(self.part, "wb")
            shape = [len(job["rows"])] + list(bundle.manifest["predictor"]["input"]["shape"][1:])
            npyfile.write_header(self.writer, "<f4", shape)

    def get(self, index):
        return self.engine.from_bytes(self.reader.row(index)) if self.reader else None

    def put(self, joined):
        if self.writer:
            self.writer.write(self.engine.to_bytes(joined))

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if self.reader:
            self.reader.close()
        if self.writer:
            self.writer.close()
            try:
                if kind is None:
                    os.replace(self.part, self.path)
                else:
                    os.remove(self.part)
            except FileNotFoundError:
                pass  # the folder was removed meanwhile: whoever comes next computes them again


def file_sha256(path):
    total = sha256()
    try:
        with open(path, "rb") as file:
            for piece in iter(lambda: file.read(1 << 20), b""):
                total.update(piece)
    except OSError as error:
        raise Problem("cannot read {}: {}".format(path, error.strerror))
    return total.hexdigest()


def _read(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise Problem("cannot read {}: {}".format(path, error.strerror))
