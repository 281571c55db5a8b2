"""What a session needs on its target (the agent, bundles, clips): sent once, and again whatever of it was lost or damaged there."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import numpy as np

from fercompress.measure.agentjob import Agent, disk_error
from fercompress.measure.schedule import Bundles, ClipsFile, every, remote_folder
from fercompress.records import Clips, Int64, digest


class Freight:
    """work: a folder on this machine for files on their way. All raise TargetError and DiskFullError."""

    def __init__(self, agent: Agent, bundles: Bundles, clips: Clips, work: Path) -> None:
        self.agent = agent
        self.bundles = bundles
        self.clips = clips
        self.work = work
        self._rows: list[Int64] = []
        self._lock = threading.Lock()

    def bundle_files(self) -> None:
        for measured in every(self.bundles):
            for name in ["manifest.json", *measured.bundle.manifest["files"]]:
                self.agent.channel.put(measured.bundle.folder / name, f"{remote_folder(measured.bundle)}/{name}")

    def clips_file(self, rows: Int64) -> ClipsFile:
        """Send these rows of the clips as one file, named after its content."""
        sent = self._clips_file(rows)
        self._rows.append(rows)
        return sent

    def again(self) -> None:
        """Everything that was sent: a target that started anew may have lost it all. What is there undamaged is not sent."""
        with self._lock:
            self.agent.deploy()
            self.bundle_files()
            for rows in self._rows:
                self._clips_file(rows)

    def _clips_file(self, rows: Int64) -> ClipsFile:
        path = self.work / f"clips-{digest(self.clips.fingerprint, rows.tolist())[:16]}.npy"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, np.ascontiguousarray(self.clips.frames[rows]))
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            remote = f"clips/{sha256[:32]}.npy"
            self.agent.channel.put(path, remote)
        except OSError as error:
            raise disk_error(path, error) from error
        finally:
            path.unlink(missing_ok=True)
        return ClipsFile(remote, sha256, {int(row): place for place, row in enumerate(rows)})
