"""Open a results journal, an SQLite file: schema number and ladder, and SQLite's errors in our own words."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from fercompress.errors import DiskFullError, ResultsError

SCHEMA = 1
APPLICATION_ID = 0x46455243  # "FERC": tells our files from other programs' SQLite files

# Rung n takes a file of schema n to schema n + 1. History:
#   1  studies, plans, clips, bundles, trainings, blocks
# Tables only grow: where a thing is recorded again, its newest row counts.
_LADDER: tuple[str, ...] = (
    """
    CREATE TABLE studies (id INTEGER PRIMARY KEY, recorded TEXT NOT NULL, study TEXT NOT NULL, crc32 INTEGER NOT NULL);
    CREATE TABLE plans (id INTEGER PRIMARY KEY, recorded TEXT NOT NULL, study INTEGER NOT NULL, keys TEXT NOT NULL, crc32 INTEGER NOT NULL);
    CREATE TABLE clips (id INTEGER PRIMARY KEY, recorded TEXT NOT NULL, facts TEXT NOT NULL, crc32 INTEGER NOT NULL);
    CREATE TABLE bundles (
        id INTEGER PRIMARY KEY, recorded TEXT NOT NULL,
        variant TEXT NOT NULL, seed INTEGER NOT NULL, fold TEXT NOT NULL, engine TEXT NOT NULL,
        sha256 TEXT NOT NULL, timed INTEGER NOT NULL, size TEXT NOT NULL, manifest TEXT NOT NULL, crc32 INTEGER NOT NULL
    );
    CREATE TABLE trainings (
        id INTEGER PRIMARY KEY, recorded TEXT NOT NULL,
        variant TEXT NOT NULL, seed INTEGER NOT NULL, fold TEXT NOT NULL, facts TEXT NOT NULL, crc32 INTEGER NOT NULL
    );
    CREATE TABLE blocks (
        id INTEGER PRIMARY KEY, recorded TEXT NOT NULL,
        variant TEXT NOT NULL, target TEXT NOT NULL, pass TEXT NOT NULL, seed INTEGER NOT NULL, fold TEXT NOT NULL,
        round INTEGER NOT NULL, position INTEGER NOT NULL, settings_sha256 TEXT NOT NULL,
        bundle_sha256 TEXT NOT NULL, status TEXT NOT NULL, reason TEXT NOT NULL,
        extractor_ns BLOB NOT NULL, predictor_ns BLOB NOT NULL, clip_ns BLOB NOT NULL, frame_ns BLOB NOT NULL,
        logits BLOB, logits_shape TEXT, clip_index BLOB,
        memory_bytes TEXT, power TEXT, facts TEXT, crc32 INTEGER NOT NULL
    );
    CREATE UNIQUE INDEX finished_once
        ON blocks (variant, target, pass, seed, fold, round, position, settings_sha256, bundle_sha256) WHERE status = 'ok';
    """,
)


def connect(path: Path, *, writable: bool = True) -> sqlite3.Connection:
    """Open the journal, make it where there is none yet (writable only), climb the ladder.

    A file that is damaged, foreign or newer is left as it is. raises: ResultsError, DiskFullError
    """
    if not writable and not path.is_file():
        raise ResultsError(f"{path}: no such file; give a folder that `fercompress run` wrote")
    with named_errors(path):
        _check_header(path)
        db = sqlite3.connect(_uri(path, writable), uri=True, timeout=30.0, isolation_level=None)
        try:
            _check(db, path, fresh_allowed=writable)
            if writable:
                _use_wal(db)
                db.execute("PRAGMA synchronous = FULL")  # a finished block survives a power cut too; one fsync per block
                _climb(db)
            db.execute(f"PRAGMA query_only = {int(not writable)}")
        except BaseException:
            db.close()
            raise
    return db


@contextlib.contextmanager
def transaction(db: sqlite3.Connection, path: Path) -> Iterator[sqlite3.Connection]:
    """All or nothing, also when the process is killed or the disk fills. raises: ResultsError, DiskFullError"""
    with named_errors(path):
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:  # SQLite has rolled back by itself after some errors
                db.execute("ROLLBACK")
            raise


@contextlib.contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's and the system's errors about `path` into ours, with the remedy."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise damaged(path, str(error)) from error
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0)
        primary = code & 0xFF
        # The WAL's shared memory reports a full disk as an I/O error (SQLITE_IOERR_SHMSIZE).
        if primary == sqlite3.SQLITE_FULL or (primary == sqlite3.SQLITE_IOERR and _free_bytes(path) < 1 << 20):
            raise _disk_full(path) from error
        if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise damaged(path, str(error)) from error
        if primary == sqlite3.SQLITE_BUSY:
            raise ResultsError(f"{path}: another process is writing to it; let it end, then run the same command again") from error
        if primary in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
            raise ResultsError(f"{path}: cannot write it ({error}); check that the folder exists and is yours, or choose another --out") from error
        raise ResultsError(f"{path}: {error}; move the file away or choose another --out") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _disk_full(path) from error
        raise ResultsError(f"{path}: {error.strerror}; check that the folder exists and is yours, or choose another --out") from error


def _uri(path: Path, writable: bool) -> str:
    if not writable and not os.access(path.parent, os.W_OK):
        return f"{path.absolute().as_uri()}?immutable=1"  # a WAL file needs a writable folder even to be read
    return f"{path.absolute().as_uri()}?mode=rwc" if writable else f"{path.absolute().as_uri()}?mode=rw"


def _check_header(path: Path) -> None:
    """SQLite takes any file shorter than a page for an empty database, and would write over it."""
    if not path.is_file() or not path.stat().st_size:
        return
    with path.open("rb") as file:
        header = file.read(512)
    if not header.startswith(b"SQLite format 3\0"):
        raise _foreign(path)
    if len(header) < 512:
        raise damaged(path, "cut short")


def _check(db: sqlite3.Connection, path: Path, fresh_allowed: bool) -> None:
    """Refuse what is not ours before anything is written. Killed while being made, a journal is an empty database: that is fresh."""
    db.execute("BEGIN")  # one snapshot: another process may be making the file right now
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    db.execute("COMMIT")
    if not tables and not application and fresh_allowed:
        return
    if application != APPLICATION_ID:
        raise _foreign(path)
    if version > SCHEMA:
        raise ResultsError(f"{path}: made by a newer fercompress (schema {version}; known: {SCHEMA}); upgrade fercompress or choose another --out")
    (health,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if health != "ok":
        raise damaged(path, " ".join(health.split()))


def _use_wal(db: sqlite3.Connection, patience_s: float = 30.0) -> None:
    """While two processes make the same file, SQLite refuses this switch at once instead of waiting its timeout."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _climb(db: sqlite3.Connection) -> None:
    db.execute("BEGIN IMMEDIATE")  # two processes that make the same file: the second finds it made
    try:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        for rung in _LADDER[version:SCHEMA]:
            for statement in filter(str.strip, rung.split(";")):
                db.execute(statement)
        if version < SCHEMA:
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {SCHEMA}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _free_bytes(path: Path) -> int:
    try:
        return shutil.disk_usage(path.parent).free
    except OSError:
        return 1 << 40  # unknown is not full


def _disk_full(path: Path) -> DiskFullError:
    return DiskFullError(f"{path}: no space left on the disk; free some and run the same command again: every finished block is kept")


def _foreign(path: Path) -> ResultsError:
    return ResultsError(f"{path}: not a fercompress results file; move it away or choose another --out")


def damaged(path: Path, detail: str) -> ResultsError:
    return ResultsError(f"{path}: damaged ({detail}); restore it from a copy, or move it away to start again")
