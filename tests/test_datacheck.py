"""`fercompress data check` on trees as they lie on disk: counts beside the published ones, and why each clip was left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import facetrees
import pytest
from click.testing import CliRunner, Result

from fercompress import cli
from fercompress.errors import DataError


def check(name: str, root: Path, cache: Path, *options: str) -> Result:
    return CliRunner().invoke(cli.app, ["data", "check", name, "--data-root", str(root), *options], env={"XDG_CACHE_HOME": str(cache)})


def table(done: Result) -> dict[str, list[str]]:
    """Name -> what stands behind it, of the lines of counts"""
    rows = [line.strip().rsplit(maxsplit=2) for line in done.stdout.splitlines() if line.startswith("  ")]
    return {row[0].strip(): row[1:] for row in rows if len(row) == 3}


@pytest.fixture(scope="module")
def ckplus(tmp_path_factory: pytest.TempPathFactory) -> facetrees.Tree:
    return facetrees.ckplus(tmp_path_factory.mktemp("ckplus"), subjects=10, sequences=3, frames=3)


def test_counts_stand_beside_published_ones_and_reasons_are_grouped(ckplus: facetrees.Tree, tmp_path: Path):
    done = check("ckplus", ckplus.root, tmp_path)
    assert done.exception is None, done.output
    assert "clips: 30\nsubjects: 10\n" in done.stdout
    assert table(done)["sequences"] == [str(30 + 7), "593"]
    assert table(done)["contempt"] == ["5", "18"]
    assert "left out: 8\n" in done.stdout
    assert "  2  no emotion label  [S005/051, S005/052]\n" in done.stdout
    assert "  1  the same bytes as S005/001  [S005/058]\n" in done.stdout


def test_json_holds_every_clip_that_was_left_out(ckplus: facetrees.Tree, tmp_path: Path):
    found: dict[str, Any] = json.loads(check("ckplus", ckplus.root, tmp_path, "--json").stdout)
    assert {row["clip"] for row in found["left_out"]} == set(ckplus.left_out)
    assert (found["clips"], found["found"]["labelled sequences"], found["published"]["labelled sequences"]) == (30, 31, 327)


@pytest.mark.parametrize(("name", "clips"), [("mmi", 18), ("afew", 37), ("folder", 24)])
def test_every_data_set_is_found_by_its_name(name: str, clips: int, tmp_path: Path):
    tree = getattr(facetrees, name)(tmp_path / "data")
    found: dict[str, Any] = json.loads(check(name, tree.root, tmp_path / "cache", "--json").stdout)
    cut = {row["clip"] for row in found["left_out"]} - set(tree.left_out)  # whose faces could not be cut
    assert found["clips"] == clips - len(cut)
    assert cut <= set(tree.clips)
    assert set(tree.left_out) <= {row["clip"] for row in found["left_out"]}
    assert not {row["clip"] for row in found["remarks"]} & {row["clip"] for row in found["left_out"]}
    assert set(found["published"]) <= set(found["found"])


def test_where_everything_is_left_out_the_reasons_are_still_told(tmp_path: Path):
    tree = facetrees.mmi(tmp_path / "data", subjects=1, clips=2, frames=2, traps=False)
    for path in tree.root.rglob("S001-*.xml"):
        path.write_text(facetrees.labels_xml(None))
    done = check("mmi", tree.root, tmp_path / "cache")
    assert isinstance(done.exception, DataError)
    assert "no clip of mmi can be used" in str(done.exception)
    assert "  2  no emotion label  [1/S001-001, 2/S001-002]\n" in done.stdout
