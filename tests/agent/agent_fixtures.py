"""A bundle for the null engine and clips to go with it, made by the standard library of CPython 3.6 alone."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import unittest

from fercompress_agent import SCHEMA, npyfile

FRAMES, SIDE, CLASSES = 3, 2, ["calm", "glad"]
CLIP_BYTES = FRAMES * SIDE * SIDE


class Tree(unittest.TestCase):
    """A made-up tree of system files below `root`."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = folder.name

    def write(self, name, text):
        """A reader sees the whole file or none. returns: its path"""
        path = os.path.join(self.root, name)
        if not os.path.isdir(os.path.dirname(path)):
            os.makedirs(os.path.dirname(path))
        with open(path + ".part", "w") as file:
            file.write(text)
        os.replace(path + ".part", path)
        return path


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def write_bundle(folder):
    """returns: sha256 of the manifest"""
    os.makedirs(folder)
    for name in ("extractor.onnx", "predictor.onnx"):
        with open(os.path.join(folder, name), "wb") as file:
            file.write(b"a graph named " + name.encode("ascii"))
    manifest = {
        "engine": "null",
        "files": {name: {"sha256": sha256(os.path.join(folder, name))} for name in ("extractor.onnx", "predictor.onnx")},
        "extractor": {"file": "extractor.onnx", "input": {"name": "frame", "shape": [1, 1, SIDE, SIDE]}},
        "predictor": {"file": "predictor.onnx", "input": {"name": "features", "shape": [1, FRAMES, 1]}},
        "preprocess": {"mean": 0.5, "std": 0.2, "difference": False},
        "frames": FRAMES,
        "classes": CLASSES,
    }
    path = os.path.join(folder, "manifest.json")
    with open(path, "w") as file:
        json.dump(manifest, file)
    return sha256(path)


def write_clips(path, number):
    """Clip i holds the bytes i, i, ...; returns: sha256 of the file"""
    with open(path, "wb") as file:
        npyfile.write_header(file, "|u1", (number, FRAMES, SIDE, SIDE))
        for index in range(number):
            file.write(bytes([index]) * CLIP_BYTES)
    return sha256(path)


def job(folder, kind, **more):
    """A whole job over bundle and clips that are made in `folder` (str)."""
    bundle = os.path.join(folder, "bundle")
    clips = os.path.join(folder, "clips.npy")
    asked = {
        "schema": SCHEMA,
        "job": kind,
        "engine": "null",
        "threads": 1,
        "bundle": bundle,
        "bundle_sha256": write_bundle(bundle) if not os.path.exists(bundle) else sha256(os.path.join(bundle, "manifest.json")),
        "clips": clips,
        "clips_sha256": write_clips(clips, 4),
        "rows": [2, 0, 3],
        "warmup_clips": 3,
        "warmup_cap_s": 1.0,
        "block_clips": 7,
        "block_s": 0.0,
        "logits": os.path.join(folder, "logits.npy"),
        "result": os.path.join(folder, "result.json"),
        "nonce": "a nonce",
    }
    asked.update(more)
    return asked


def run_agent(folder, asked, environment=None):
    """Through a real process; returns (exit code, result or None, stderr)."""
    path = os.path.join(folder, "job.json")
    with open(path, "w") as file:
        json.dump(asked, file)
    child = subprocess.Popen(
        [sys.executable, "-m", "fercompress_agent", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ, **(environment or {}))
    )
    _, stderr = child.communicate()
    result = None
    if os.path.exists(asked["result"]):
        with open(asked["result"], "rb") as file:
            result = json.loads(file.read().decode("ascii"))
    return child.returncode, result, stderr.decode("utf-8", "replace")
