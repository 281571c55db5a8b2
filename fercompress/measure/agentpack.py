"""Pack the agent into one zip file that any Python 3.6 or newer runs; the same bytes wherever the package was installed from."""

from __future__ import annotations

import hashlib
import importlib.resources
import io
import zipfile
from dataclasses import dataclass
from importlib.resources.abc import Traversable

PACKAGE = "fercompress_agent"
START = "import sys\nfrom fercompress_agent.__main__ import main\nsys.exit(main())\n"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip file can hold


@dataclass(frozen=True)
class AgentPack:
    data: bytes
    sha256: str

    @property
    def name(self) -> str:
        """Holds the sha256: where a file of this name is, it is this agent."""
        return f"agent-{self.sha256[:16]}.pyz"


def pack(package: Traversable | None = None) -> AgentPack:
    """package: the folder to pack, by default the installed fercompress_agent"""
    folder = importlib.resources.files(PACKAGE) if package is None else package
    sources = {f"{PACKAGE}/{entry.name}": entry.read_bytes() for entry in folder.iterdir() if entry.name.endswith(".py")}
    sources["__main__.py"] = START.encode()
    buffer = io.BytesIO()
    # Stored, not deflated: zlib's output may differ between its versions.
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(sources):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            # A checkout with CRLF line ends packs the same bytes.
            archive.writestr(entry, sources[name].replace(b"\r\n", b"\n"))
    data = buffer.getvalue()
    return AgentPack(data, hashlib.sha256(data).hexdigest())
