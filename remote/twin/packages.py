"""The distribution's packages without installing any: names in, downloaded files and an unpacked tree out.

Two sets: arm64 packages with everything they depend on, by an apt of its own (own state, own cache, no installed package assumed), and those
of this machine's architecture that it lacks (the emulator). Neither needs root, and nothing on this machine changes.
"""

import os
import re
import subprocess
from pathlib import Path
from typing import IO

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
NO_RECOMMENDS = ("-y", "-qq", "--no-install-recommends")


class TwinError(Exception):
    """The twin cannot do what was asked; the text says what to do."""


def call(command: list[str], cwd: Path | None = None, env: dict[str, str] | None = None, stdin: IO[bytes] | int | None = subprocess.DEVNULL) -> str:
    """Standard output of a command. raises: TwinError with the end of what it said"""
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=stdin, cwd=cwd, env=env)
    except FileNotFoundError as error:
        raise TwinError(f"{command[0]} is not on this machine: install the package that has it") from error
    if done.returncode:
        raise TwinError(f"{' '.join(command[:6])} ... ended with {done.returncode}:\n{(done.stderr or done.stdout)[-2000:]}")
    return done.stdout


def mirror(apt_folder: Path = Path("/etc/apt")) -> str:
    """The Debian mirror that this machine's own apt uses. raises: TwinError where none is configured"""
    files = [apt_folder / "sources.list", *sorted((apt_folder / "sources.list.d").glob("*"))]
    for file in files:
        lines = file.read_text(errors="replace").splitlines() if file.is_file() else []
        for line in lines:
            found = re.search(r"\bhttps?://\S+/debian/?(?=\s|$)", line)
            if found and not line.lstrip().startswith("#"):
                return found.group().rstrip("/")
    raise TwinError(f"no Debian mirror in {apt_folder}: give one with --mirror http://HOST/debian")


class ForeignApt:
    """apt for arm64 in a folder of its own. release: a Debian release name, for example bookworm"""

    def __init__(self, folder: Path, release: str, mirror_url: str) -> None:
        self.folder = folder.absolute()
        self.archives = self.folder / "cache" / "archives"
        for name in ("state/lists/partial", "cache/archives/partial", "etc"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "status").touch()
        (self.folder / "sources.list").write_text(f"deb [signed-by={KEYRING}] {mirror_url} {release} main\n")
        settings = {
            "APT::Architecture": "arm64",
            "APT::Sandbox::User": "root",  # the user _apt may not be allowed into this folder
            "Dir::Etc": f"{self.folder}/etc",
            "Dir::Etc::SourceList": f"{self.folder}/sources.list",
            "Dir::State": f"{self.folder}/state",
            "Dir::State::Status": f"{self.folder}/status",
            "Dir::Cache": f"{self.folder}/cache",
            "Debug::NoLocking": "true",
        }
        lines = [f'{key} "{value}";' for key, value in settings.items()]
        # The machine's own parts (/etc/apt/apt.conf.d) stay in force before these lines: a proxy set there is a way out.
        lines += ["#clear APT::Architectures;", 'APT::Architectures { "arm64"; };']
        self.configuration = self.folder / "apt.conf"
        self.configuration.write_text("\n".join(lines) + "\n")
        self.environment = {**os.environ, "APT_CONFIG": str(self.configuration), "LC_ALL": "C"}

    def update(self) -> None:
        if not any((self.folder / "state/lists").glob("*Packages*")):
            call(["apt-get", "update", "-qq"], env=self.environment)

    def download(self, names: list[str]) -> list[Path]:
        """The packages and all that they depend on; a file that is there is not fetched again."""
        self.update()
        call(["apt-get", "install", *NO_RECOMMENDS, "--download-only", *names], env=self.environment)
        return [self._archive(name) for name in to_install(names, self.environment)]

    def _archive(self, name: str) -> Path:
        found = sorted(self.archives.glob(f"{name}_*.deb"), key=lambda path: path.stat().st_mtime)
        if not found:
            raise TwinError(f"apt fetched no {name}: remove {self.folder} and build again")
        return found[-1]

    def newest_kernel(self) -> str:
        """The package that the release's `linux-image-cloud-arm64` stands for."""
        self.update()
        listed = call(["apt-cache", "depends", "linux-image-cloud-arm64"], env=self.environment)
        found = re.findall(r"Depends: (linux-image-\d\S+)", listed)
        if not found:
            raise TwinError(f"linux-image-cloud-arm64 names no kernel:\n{listed}")
        return str(found[0])

    def download_alone(self, name: str) -> Path:
        """One package without what it depends on."""
        self.update()
        if not any(self.archives.glob(f"{name}_*.deb")):
            call(["apt-get", "download", "-qq", name], env=self.environment, cwd=self.archives)
        return self._archive(name)


def to_install(names: list[str], environment: dict[str, str]) -> list[str]:
    """The names of all packages that apt would install for these: a simulation, so what apt has in its cache is listed too."""
    listed = call(["apt-get", "install", *NO_RECOMMENDS, "--simulate", *names], env=environment)
    return sorted({line.split()[1].split(":")[0] for line in listed.splitlines() if line.startswith("Inst ")})


def download_missing(name: str, folder: Path) -> list[Path]:
    """A package of this machine's architecture with those of its dependencies that are not installed here."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "LC_ALL": "C"}
    names = to_install([name], environment)
    if not names:
        raise TwinError(f"apt knows nothing to fetch for {name}: run apt-get update, or install it")
    call(["apt-get", "download", "-qq", *names], cwd=folder, env=environment)
    return sorted(folder.glob("*.deb"))


def unpack(archives: list[Path], tree: Path) -> None:
    """Every package's files into one tree, links of merged folders (/lib -> usr/lib) kept; manuals and translations left out."""
    tree.mkdir(parents=True, exist_ok=True)
    left_out = [f"--exclude=./usr/share/{name}/*" for name in ("doc", "man", "locale", "lintian", "info")]
    for archive in archives:
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE) as reader:
            call(["tar", "-C", str(tree), "-x", "-p", "--no-same-owner", "--keep-directory-symlink", *left_out], stdin=reader.stdout)
        if reader.returncode:
            raise TwinError(f"{archive} is damaged: remove it and build again")
