"""A variant's bundles before anything is sent: whole, of one graph, and for an engine that the target runs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from fercompress.errors import BundleError
from fercompress.measure.board import Board, check_engine
from fercompress.measure.schedule import MeasuredBundle


def check_bundles(variant: str, several: Sequence[MeasuredBundle], board: Board) -> None:
    """raises: BundleError unless all are of one graph and every file on disk is the one that the manifest names; InputError"""
    if not several:
        raise BundleError(f"variant {variant!r} has no bundle: export it first")
    if len({measured.bundle.graph_key for measured in several}) > 1:
        raise BundleError(f"variant {variant!r}: its bundles differ in graph or shapes, not only in numbers; export them anew with the same settings")
    for measured in several:
        check_engine(board, measured.bundle.engine)
        folder = measured.bundle.folder
        told = {"manifest.json": measured.bundle.sha256, **{name: entry["sha256"] for name, entry in measured.bundle.manifest["files"].items()}}
        for name, sha256 in told.items():
            try:
                with (folder / name).open("rb") as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise BundleError(f"{folder / name}: cannot be read ({error.strerror}); export the bundle again") from error
            if found != sha256:
                raise BundleError(f"{folder / name}: does not match the manifest's sha256, the file was changed or damaged; export the bundle again")
