"""Which wheels of a folder fit an interpreter elsewhere: its facts and the engines in, one wheel per package out, or what was looked for."""

from __future__ import annotations

import email.parser
import hashlib
import shlex
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from fercompress.errors import AgentError, InputError

# What an engine imports. Its names are those of the agent's table.
PACKAGES = {"onnxruntime": ("onnxruntime", "numpy"), "onnxruntime-c": ("onnxruntime",), "numpy": ("numpy",)}
# Declared by a wheel, and not imported by `import onnxruntime` (1.15 and 1.32 were tried with all of these out of reach).
NOT_IMPORTED = {"onnxruntime": {"coloredlogs", "flatbuffers", "packaging", "protobuf", "sympy"}}
# True and not declared: wheels built before numpy 2 do not load with it (release notes of onnxruntime 1.19).
UNDECLARED = (("onnxruntime", SpecifierSet("<1.19"), Requirement("numpy<2")),)
POLICIES = (39, 35, 34, 31, 28, 27, 26, 24, 17, 12, 5)  # glibc 2.x of the manylinux platforms that wheels are built for (auditwheel's list)
LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
METADATA_LIMIT_BYTES = 1 << 20
ROUNDS = 8  # of choosing again after a wheel's requirements are known


def packages_of(engine: str) -> tuple[str, ...]:
    """What an engine, or both halves of a pair, come from; () where no wheel would help."""
    halves = engine.split("+")
    return tuple(sorted({name for half in halves for name in PACKAGES[half]})) if all(half in PACKAGES for half in halves) else ()


@dataclass(frozen=True)
class Interpreter:
    """machine: as uname says it; glibc: (2, minor), None where the C library is another one; abiflags: "m" of CPython up to 3.7, "t" without a GIL"""

    version: tuple[int, int]
    machine: str
    glibc: tuple[int, int] | None
    abiflags: str = ""
    bits: int = 64
    implementation: str = "cpython"

    def __str__(self) -> str:
        library = "no glibc" if self.glibc is None else f"glibc {self.glibc[0]}.{self.glibc[1]}"
        return f"{self.implementation} {self.version[0]}.{self.version[1]} ({self.abi}) on {self.architecture}, {library}"

    @property
    def architecture(self) -> str:
        """A 32-bit Python on a 64-bit kernel takes 32-bit wheels."""
        if self.bits == 32:
            return {"aarch64": "armv7l", "armv8l": "armv7l", "x86_64": "i686"}.get(self.machine, self.machine)
        return self.machine

    @property
    def abi(self) -> str:
        return f"cp{self.version[0]}{self.version[1]}{self.abiflags}"

    @property
    def platforms(self) -> list[str]:
        """Best first. Of a glibc that is not 2.x, or none, only what was built for this very system."""
        found = [f"linux_{self.architecture}"]
        if self.glibc is not None and self.glibc[0] == 2:
            oldest = 5 if self.architecture in ("x86_64", "i686") else 17
            for minor in range(self.glibc[1], oldest - 1, -1):
                found.append(f"manylinux_2_{minor}_{self.architecture}")
                found += [f"{LEGACY[minor]}_{self.architecture}"] if minor in LEGACY else []
        return found

    @property
    def tags(self) -> list[Tag]:
        """Best first."""
        if self.implementation != "cpython":
            return list(compatible_tags(self.version, platforms=self.platforms))
        short = f"cp{self.version[0]}{self.version[1]}"
        return [*cpython_tags(self.version, [self.abi], self.platforms), *compatible_tags(self.version, short, self.platforms)]

    @property
    def markers(self) -> dict[str, str]:
        """What a requirement's marker may ask for."""
        short = ".".join(map(str, self.version))
        return {
            "python_version": short, "python_full_version": f"{short}.0", "implementation_name": self.implementation, "extra": "",
            "platform_python_implementation": "CPython" if self.implementation == "cpython" else self.implementation,
            "implementation_version": f"{short}.0",
            "sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": self.architecture, "platform_release": "",
            "platform_version": "",
        }  # fmt: skip

    def download(self, wheelhouse: Path, packages: Iterable[str]) -> str:
        """The command that fills a wheelhouse for this interpreter; it runs on any machine."""
        built = {f"manylinux_2_{minor}_{self.architecture}" for minor in POLICIES} | {f"{name}_{self.architecture}" for name in LEGACY.values()}
        platforms = " ".join(f"--platform {name}" for name in self.platforms if name in built or name.startswith("linux_"))
        return (
            f"python3 -m pip download --only-binary=:all: --no-deps --dest {shlex.quote(str(wheelhouse))} {platforms} "
            f"--python-version {self.version[0]}.{self.version[1]} --implementation cp --abi {self.abi} {' '.join(packages)}"
        )


def interpreter(facts: Mapping[str, Any]) -> Interpreter:
    """facts: as the agent tells them. raises: AgentError if they cannot be used; InputError where no wheel can be chosen for such a system"""
    try:
        major, minor = (int(part) for part in facts["version"])
        library, version = (str(part) for part in facts["libc"])
        glibc = None
        if library == "glibc":
            first, second = version.split(".")[:2]
            glibc = (int(first), int(second))
        found = Interpreter((major, minor), str(facts["machine"]), glibc, str(facts["abiflags"]), int(facts["bits"]), str(facts["implementation"]))
    except (KeyError, TypeError, ValueError) as error:
        raise AgentError(f"what the target tells of its Python cannot be used ({error!r}: {str(dict(facts))[:300]})") from error
    if facts.get("system") != "Linux":
        raise InputError(f"wheels are provisioned to Linux; the target says that it is {facts.get('system')!r}: install its engines there by hand")
    return found


@dataclass(frozen=True)
class Wheel:
    """requires: what it imports of its metadata's requirements; sha256: "" where they refuse this Python; unpacked_bytes: of all its files"""

    path: Path
    project: str
    version: Version
    requires: tuple[Requirement, ...]
    sha256: str
    unpacked_bytes: int


@dataclass(frozen=True)
class Choice:
    """wheels: for every engine of `engines`; lacking: engine -> why it cannot be provisioned"""

    interpreter: Interpreter
    wheels: tuple[Wheel, ...] = ()
    engines: tuple[str, ...] = ()
    lacking: Mapping[str, str] = field(default_factory=dict)

    @property
    def unpacked_bytes(self) -> int:
        return sum(wheel.unpacked_bytes for wheel in self.wheels)


def choose(folder: Path, engines: Sequence[str], target: Interpreter) -> Choice:
    """engines: those that a target may run, of which those that need no wheels are passed over

    raises: InputError if the folder cannot be read
    """
    house = Wheelhouse(folder, target)
    complete: list[str] = []
    chosen: dict[str, Wheel] = {}
    lacking = {}
    for engine in engines:
        if not packages_of(engine):
            continue
        try:
            together = [*complete, engine]
            found = house.resolve(sorted({package for name in together for package in packages_of(name)}))
        except _LacksError as lack:
            lacking[engine] = str(lack)
        else:
            complete, chosen = together, found
    return Choice(target, tuple(chosen[name] for name in sorted(chosen)), tuple(complete), lacking)


class _LacksError(Exception):
    """The argument says which package, and what there is of it."""


class Wheelhouse:
    """The wheels of a folder, as one interpreter sees them."""

    def __init__(self, folder: Path, target: Interpreter) -> None:
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; make one and fill it: {target.download(folder, ('numpy', 'onnxruntime'))}")
        self.folder = folder
        self.target = target
        self._ranks = {tag: rank for rank, tag in reversed(list(enumerate(target.tags)))}
        self._names: dict[str, list[tuple[Version, int, str]]] = {}  # by project: version, how well its tags fit (most is best), name
        self._other: dict[str, list[str]] = {}  # by project: those that fit another interpreter
        for path in sorted(folder.glob("*.whl")):
            try:
                name, version, _, tags = parse_wheel_filename(path.name)
            except InvalidWheelFilename:
                continue  # it cannot be told for whom it is
            ranks = [self._ranks[tag] for tag in tags if tag in self._ranks]
            if ranks:
                self._names.setdefault(name, []).append((version, -min(ranks), path.name))
            else:
                self._other.setdefault(name, []).append(path.name)
        self._read: dict[str, Wheel] = {}

    def resolve(self, packages: Sequence[str]) -> dict[str, Wheel]:
        """The newest wheels that fit together, with what they import. raises: _LacksError"""
        wanted: dict[str, SpecifierSet] = {name: SpecifierSet() for name in packages}
        for _ in range(ROUNDS):
            chosen = {name: self._best(name, specifier) for name, specifier in wanted.items()}
            asked = {name: SpecifierSet() for name in packages}
            for wheel in chosen.values():
                for requirement in wheel.requires:
                    name = canonicalize_name(requirement.name)
                    asked[name] = asked.get(name, SpecifierSet()) & requirement.specifier
            if asked == wanted:
                return chosen
            wanted = asked
        raise _LacksError(f"no versions of {', '.join(packages)} in {self.folder} fit each other: take out the newest and try again")

    def _best(self, project: str, specifier: SpecifierSet) -> Wheel:
        refused = []
        for version, _, name in sorted(self._names.get(project, ()), reverse=True):
            if not specifier.contains(version, prereleases=True):
                refused.append(f"{name} (not {specifier})")
                continue
            if name not in self._read:
                self._read[name] = self._opened(name, project, version)
            wheel = self._read[name]
            if not wheel.sha256:
                refused.append(f"{name} (for another Python, by its metadata)")
                continue
            return wheel
        there = [*refused, *(f"{name} (for another system or Python)" for name in self._other.get(project, ()))]
        raise _LacksError(f"no wheel of {project}{specifier} for {self.target}; {self.folder} has {', '.join(there) or 'none of it'}")

    def _opened(self, name: str, project: str, version: Version) -> Wheel:
        """raises: InputError"""
        path = self.folder / name
        try:
            with zipfile.ZipFile(path) as archive:
                inside = [entry for entry in archive.infolist() if entry.filename.endswith(".dist-info/METADATA") and entry.filename.count("/") == 1]
                if len(inside) != 1 or inside[0].file_size > METADATA_LIMIT_BYTES:
                    raise InputError(f"{path}: not a wheel: it has no METADATA; download it again")
                told = email.parser.Parser().parsestr(archive.read(inside[0]).decode("utf-8"), headersonly=True)
                unpacked_bytes = sum(entry.file_size for entry in archive.infolist())
            pythons = SpecifierSet(str(told.get("Requires-Python", "")))
            requires = tuple(self._imported(project, version, [Requirement(text) for text in told.get_all("Requires-Dist", [])]))
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        except (OSError, zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, InvalidRequirement, InvalidSpecifier) as error:
            raise InputError(f"{path}: cannot be read as a wheel ({error}); download it again") from error
        # A patch release is not asked for: ".99" lets `>=3.7.1` pass, `<3.8` stays true.
        fits = pythons.contains(f"{self.target.version[0]}.{self.target.version[1]}.99")
        return Wheel(path, project, version, requires, sha256 if fits else "", unpacked_bytes)

    def _imported(self, project: str, version: Version, declared: list[Requirement]) -> Iterable[Requirement]:
        for requirement in declared:
            if requirement.marker is not None and not requirement.marker.evaluate(self.target.markers):
                continue
            if canonicalize_name(requirement.name) not in NOT_IMPORTED.get(project, ()):
                yield requirement
        yield from (more for name, versions, more in UNDECLARED if name == project and version in versions)
