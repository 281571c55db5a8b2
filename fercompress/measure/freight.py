"""What a session needs on its target (the agent, bundles, clips): sent once, and again whatever of it was lost or damaged there."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from pathlib import Path

import numpy as np

from fercompress.errors import AgentError, TargetError
from fercompress.measure.agentjob import Agent, disk_error
from fercompress.measure.schedule import Bundles, ClipsFile, every, remote_folder
from fercompress.records import Clips, Int64, digest

FEATURES = "features"


class Freight:
    """work: a folder on this machine for files on their way. All raise TargetError and DiskFullError."""

    def __init__(self, agent: Agent, bundles: Bundles, clips: Clips, work: Path) -> None:
        self.agent = agent
        self.bundles = bundles
        self.clips = clips
        self.work = work
        self._rows: dict[str, Int64] = {}  # by the file's name on the target
        self._lock = threading.Lock()

    def clips_file(self, rows: Int64) -> ClipsFile:
        """These rows of the clips as one file, named after its content, that `send` will bring."""
        file = self._clips_file(rows, send=False)
        self._rows[file.remote] = rows
        return file

    def send(self) -> None:
        """Bring everything; what is there undamaged is not sent. Nothing of it is then removed to make room."""
        self.agent.channel.reserve(self.names())
        for measured in every(self.bundles):
            for name in ["manifest.json", *measured.bundle.manifest["files"]]:
                self.agent.channel.put(measured.bundle.folder / name, f"{remote_folder(measured.bundle)}/{name}")
        for rows in self._rows.values():
            self._clips_file(rows, send=True)

    def again(self) -> None:
        """A target that started anew may have lost it all, the agent too. Features are in use by now: nor are they removed to make room."""
        with self._lock:
            self.agent.channel.reserve([FEATURES])
            self.agent.deploy()
            self.send()

    def clean(self) -> None:
        """Remove what `send` brought, and features that a killed process left. Where that fails it costs disk space there, not a session."""
        with contextlib.suppress(TargetError, AgentError):
            for name in [*self.names(), FEATURES]:
                self.agent.channel.remove(name)

    def names(self) -> list[str]:
        return sorted({remote_folder(measured.bundle) for measured in every(self.bundles)} | set(self._rows))

    def _clips_file(self, rows: Int64, send: bool) -> ClipsFile:
        path = self.work / f"clips-{digest(self.clips.fingerprint, rows.tolist())[:16]}.npy"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, np.ascontiguousarray(self.clips.frames[rows]))
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            remote = f"clips/{sha256[:32]}.npy"
            if send:
                self.agent.channel.put(path, remote)
        except OSError as error:
            raise disk_error(path, error) from error
        finally:
            path.unlink(missing_ok=True)
        return ClipsFile(remote, sha256, {int(row): place for place, row in enumerate(rows)})
