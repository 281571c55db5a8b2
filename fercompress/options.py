"""Options that several commands share, and what a command line says of a study: options in, one `Asked` out."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fercompress.errors import InputError

if TYPE_CHECKING:
    from fercompress.study import Request

Command = Callable[..., Any]
TIERS = click.Choice(["smoke", "quick", "full", "soak"])

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON to stdout.")
data_root = click.option("--data-root", type=click.Path(path_type=Path), help="Folder of a data set that is on your disk.")

# Each by the name of the field of `Asked` that it fills.
OF_STUDY: dict[str, Callable[[Command], Command]] = {
    "name": click.argument("name", metavar="[STUDY]", default="default"),
    "data_root": data_root,
    "out": click.option("--out", type=click.Path(path_type=Path), help="Output folder.  [default: reports/<study>]"),
    "only": click.option("--only", multiple=True, metavar="VARIANT", help="Only this variant beside the baseline; may be repeated."),
    "target": click.option("--target", multiple=True, metavar="NAME", help="Measure here instead of on the study's targets; may be repeated."),
    "seeds": click.option("--seeds", type=click.IntRange(1, 1000), metavar="N", help="Train with N seeds (0 .. N-1) instead of the study's."),
    "wishes": click.option(
        "--set", "wishes", multiple=True, metavar="KEY=VALUE", help="Instead of what STUDY says (data.protocol=modulo); may be repeated."
    ),
    "tier": click.option("--tier", type=TIERS, help="Time so much of each variant, in rounds until each has its verdicts."),
    "minutes": click.option(
        "--minutes", type=click.FloatRange(min=0, min_open=True), help="With a tier: add no rounds beyond so many minutes a target."
    ),
    "keep": click.option("--keep", is_flag=True, help="Leave bundles and clips on boards, which are else removed at the end."),
    "rknn_python": click.option(
        "--rknn-python", envvar="FERCOMPRESS_RKNN_PYTHON", show_envvar=True, metavar="PATH",
        help="The Python that has rknn-toolkit 1.7: converts extractors for the RK3399Pro's NPU.",
    ),
    "executor": click.option(
        "--executor", type=click.Choice(["local", "ray"]), default="local", show_default=True,
        help="Who makes the variants: this process, or Ray's nodes, as many at once as have room.",
    ),
    "ray_address": click.option(
        "--ray-address", metavar="ADDRESS", help="Of a running Ray: ray://HOST:10001, HOST:6379, auto.  [default: one of its own]"
    ),
    "cpus": click.option("--cpus", type=click.IntRange(1, 1024), metavar="N", help="With Ray: cores, and threads, of each task.  [default: 1]"),
}  # fmt: skip

OF_RAY = ("executor", "ray_address", "cpus")


@dataclass(frozen=True)
class Asked:
    """What a command line says of a study. A command without an option leaves the default here."""

    name: str = "default"
    data_root: Path | None = None
    out: Path | None = None
    only: tuple[str, ...] = ()
    target: tuple[str, ...] = ()
    seeds: int | None = None
    wishes: tuple[str, ...] = ()
    tier: str | None = None
    minutes: float | None = None
    keep: bool = False
    rknn_python: str | None = None
    executor: str = "local"
    ray_address: str | None = None
    cpus: int | None = None

    @property
    def changes(self) -> tuple[str, ...]:
        """All that is said as KEY=VALUE, the tier and its minutes too."""
        measured = {"measure.tier": self.tier, "measure.minutes": None if self.minutes is None else float(self.minutes)}
        return (*self.wishes, *(f"{key}={value}" for key, value in measured.items() if value is not None))

    def request(self) -> Request:
        """All that can be refused is refused here, before torch is imported. raises: StudyError, InputError"""
        from fercompress import studyfile

        if self.executor != "ray" and (self.ray_address is not None or self.cpus is not None):
            raise InputError(f"{'--cpus' if self.ray_address is None else '--ray-address'} is for --executor ray: give that too")
        loaded = studyfile.restricted(studyfile.load_study(self.name, self.changes), self.only, self.target, self.seeds)
        from fercompress.measuring import settled
        from fercompress.raypool import Pool
        from fercompress.study import Request

        pool = Pool(self.ray_address, self.cpus or 1) if self.executor == "ray" else None
        return Request(settled(loaded), self.out or Path("reports") / loaded.name, self.data_root, self.keep, self.rknn_python, pool)


def of_study(*fields: str) -> Callable[[Command], Command]:
    """Give a command the options that fill these fields of `Asked`, in this order; its function takes `asked` in their place."""

    def decorated(function: Command) -> Command:
        @functools.wraps(function)
        def command(**given: Any) -> Any:
            return function(asked=Asked(**{field: given.pop(field) for field in fields}), **given)

        wanting: Command = command
        for field in reversed(fields):
            wanting = OF_STUDY[field](wanting)
        return wanting

    return decorated
