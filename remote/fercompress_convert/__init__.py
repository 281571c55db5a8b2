"""Runs in the Python that has rknn-toolkit 1.7 (CPython 3.6 and newer): see `convert.py`."""
