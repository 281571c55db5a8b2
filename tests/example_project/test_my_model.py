"""What a user's own tests look like: `pytest` with fercompress installed, and two models from the environment."""

import os

import pytest

CANDIDATE, BASELINE = os.environ.get("MY_CANDIDATE", ""), os.environ.get("MY_BASELINE", "")
pytestmark = pytest.mark.skipif(not CANDIDATE, reason="an example: MY_CANDIDATE and MY_BASELINE name the models")


def test_the_predictor_did_not_become_slower(fercompress_gate):
    fercompress_gate(CANDIDATE, BASELINE).not_worse("latency_predictor_p50_ns", by="25 %")


def test_the_accuracy_is_kept(fercompress_gate):
    fercompress_gate(CANDIDATE, BASELINE).not_worse("accuracy", by="1pt")


def test_the_model_stays_below_what_the_board_has(fercompress_gate):
    fercompress_gate(CANDIDATE, BASELINE).within("memory_peak_bytes", "1GiB")
