"""fercompress against public peers, in one interleaved run: `python -m peers` (the tox environment `peers`) writes benchmarks/results/peers.*."""
