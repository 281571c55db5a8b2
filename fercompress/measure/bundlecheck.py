"""A variant's bundles before anything is sent: whole, of one recipe, and for an engine that the target runs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from fercompress.errors import BundleError
from fercompress.measure.board import Board, check_engine
from fercompress.measure.schedule import MeasuredBundle
from fercompress.records import Bundle, digest


def check_bundles(variant: str, several: Sequence[MeasuredBundle], board: Board) -> None:
    """raises: BundleError unless all are of one recipe and every file on disk is the one that the manifest names; InputError

    Ranks may differ: seeds and folds that choose them from their own weights must not learn them from one another. Results doubt the sizes then.
    """
    if not several:
        raise BundleError(f"variant {variant!r} has no bundle: export it first")
    if len({_kind(measured.bundle) for measured in several}) > 1:
        raise BundleError(f"variant {variant!r}: its bundles differ in recipe, inputs or outputs; export them anew with the same settings")
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


def _kind(bundle: Bundle) -> str:
    """What all bundles of a variant must have in common."""
    manifest = bundle.manifest
    return digest(bundle.engine, manifest["recipe"], [manifest[part][end] for part in ("extractor", "predictor") for end in ("input", "output")])
