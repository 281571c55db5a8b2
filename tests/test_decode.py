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


def test_rows_are_told_as_a_table(decode):
    row = {"what": "pictures, faces by none", "clips": 8, "decoded_frames": 128, "frames_per_s": {"ours": 1500.2, "opencv": 1000.4}, "speedup": 1.5,
           "speedup_per_round": [1.4, 1.5, 1.62], "mean_difference_grey_levels": 0.04}  # fmt: skip
    told = decode.markdown({"processes": 2, "host": {"cores": 2, "machine": "x86_64", "opencv": "4.11", "load_before": 3.5}, "speed": [row]})
    assert "| pictures, faces by none | 8 | 128 | 1,500 | 1,000 | 1.50 [1.40, 1.62] | 0.0 |" in told
    assert "Load of the machine before it began: 3.5" in told
