"""The benchmark of decoding: both sides do the same work, and what it prints is what it measured."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def decode():
    spec = importlib.util.spec_from_file_location("decode", BENCHMARKS / "decode.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["decode"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["decode"]


def test_our_crops_of_pictures_are_those_of_opencvs_own_loop(decode, tmp_path):
    listing = decode.written(tmp_path / "data", 2, "pictures", different=2)
    own = decode.ours(decode.PICTURES, listing, tmp_path / "ours", 1)
    other = decode.opencvs(decode.PICTURES, listing, tmp_path / "opencv")
    assert np.abs(own.astype(int) - other).max() <= 1


def test_our_faces_in_videos_are_those_of_opencvs_own_loop(decode, tmp_path):
    listing = decode.written(tmp_path / "data", 1, "videos")
    own = decode.ours(decode.VIDEOS, listing, tmp_path / "ours", 1)
    other = decode.opencvs(decode.VIDEOS, listing, tmp_path / "opencv")
    assert np.abs(own.astype(int) - other).mean() < decode.ALIKE


def test_the_memory_of_a_build_is_measured(decode):
    found = decode.memory(12, 1, lambda _: None)
    assert found["crops"] == 12 * 16
    assert found["cache_bytes"] > 12 * 16 * 64 * 64
    assert found["peak_rss_bytes"] >= found["rss_before_bytes"] > 1e6
