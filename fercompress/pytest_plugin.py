"""pytest plugin: `fercompress_gate(candidate, baseline).not_worse("latency_predictor_p50_ns", by="2 %")` in a user's own tests.

Both sides are measured beside each other the first time that a metric of theirs is asked for; later questions of the same two use those rounds, and
add some where a verdict needs them. Nothing heavy is imported before a test asks.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from fercompress.examination import Wanted
    from fercompress.gate.finding import Judgement


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fercompress", "fercompress: gates on a model's accuracy, size, latency, memory")
    group.addoption("--fercompress-target", default="localhost", metavar="NAME", help="where to measure: a target's name or TOML file")
    group.addoption("--fercompress-tier", default="quick", choices=["smoke", "quick", "full", "soak"], help="how long each side is timed")
    group.addoption("--fercompress-rounds", type=int, metavar="N", help="exactly so many rounds, instead of as many as a verdict needs")
    group.addoption(
        "--fercompress-on-inconclusive", default="fail", choices=["fail", "skip"], help="what a test does that cannot be decided: fail, or be skipped"
    )
    group.addoption("--fercompress-no-confirm", action="store_true", help="fail on a first 'worse', without a fresh run that repeats it")


@pytest.fixture(scope="session")
def fercompress_gate(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Gate]:
    """`fercompress_gate(candidate, baseline, data=None, data_root=None, inputs=None)`: each RUN:VARIANT or a bundle's folder."""
    gates: dict[tuple[str, ...], Gate] = {}

    def gate(
        candidate: str | Path,
        baseline: str | Path,
        *,
        data: str | None = None,
        data_root: str | Path | None = None,
        inputs: str | Path | None = None,
    ) -> Gate:
        key = (str(candidate), str(baseline), str(data), str(data_root), str(inputs))
        if key not in gates:
            gates[key] = Gate(request.config, str(candidate), str(baseline), _wanted(data, data_root, inputs), tmp_path_factory.mktemp("fercompress"))
        return gates[key]

    return gate


def _wanted(data: str | None, data_root: str | Path | None, inputs: str | Path | None) -> Wanted | None:
    from fercompress.examination import Wanted

    if data is None and inputs is None:
        return None
    return Wanted(data=data, data_root=None if data_root is None else Path(data_root)) if inputs is None else Wanted(str(inputs))


class Gate:
    """One candidate against one baseline. Each method fails the test (or skips it, where nothing is known) and returns what was judged."""

    def __init__(
        self, config: pytest.Config, candidate: str, baseline: str, wanted: Wanted | None, out: Path
    ) -> None:  # fmt: skip
        self._config, self._out = config, out
        self._sides: dict[str, Any] = {
            "candidate": candidate, "baseline": baseline, "wanted": wanted,
        }  # fmt: skip

    def not_worse(self, *metrics: str, by: str | None = None) -> Judgement:
        """Of each metric (default: all): not worse by more than `by` ("2 %", "1pt"), or than the metric's own smallest effect that matters."""
        __tracebackhide__ = True
        return self._judge(metrics, {} if by is None else dict.fromkeys(metrics, by), {})

    def within(self, metric: str, limit: str) -> Judgement:
        """The candidate keeps an absolute limit: at most ("25ms", "57MiB"), or at least where more is better ("95 %")."""
        __tracebackhide__ = True
        return self._judge((metric,), {}, {metric: limit}, limits_alone=True)

    def _judge(self, metrics: tuple[str, ...], effects: dict[str, str], limits: dict[str, str], *, limits_alone: bool = False) -> Judgement:
        __tracebackhide__ = True
        from rich.console import Console

        from fercompress import gating
        from fercompress.gate import render
        from fercompress.progress import Reporter
        from fercompress.tier import LOOKS

        option = self._config.getoption
        rounds = option("--fercompress-rounds")
        asked = gating.Request(
            **self._sides, out=self._out, target=option("--fercompress-target"), tier=option("--fercompress-tier"),
            looks=(rounds,) if rounds else LOOKS, metrics=metrics, effects=effects, limits=limits,
            confirm=not option("--fercompress-no-confirm") and not limits_alone,
        )  # fmt: skip
        with Reporter(Console(stderr=True, quiet=True)) as tell:
            outcome = gating.verdicts(asked, tell)
        judgement = outcome.judgements[0]
        lines = [row for row in render.rows(judgement) if not limits_alone or row["matters from"].startswith("at ")]
        text = "\n".join("  ".join(value for value in row.values() if value) for row in lines)
        failed = any(each.verdict == "broken" for each in judgement.limits) if limits_alone else judgement.regressed
        unsure = any(each.verdict in ("unsure", "n/a") for each in judgement.limits) if limits_alone else judgement.open
        if failed:
            pytest.fail(f"{self._sides['candidate']} against {self._sides['baseline']}:\n{text}", pytrace=False)
        if unsure:
            stop = pytest.fail if option("--fercompress-on-inconclusive") == "fail" else pytest.skip
            reason = f"inconclusive, {self._sides['candidate']} against {self._sides['baseline']}:\n{text}"
            stop(reason, pytrace=False) if stop is pytest.fail else pytest.skip(reason)
        return judgement
