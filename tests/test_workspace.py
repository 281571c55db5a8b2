"""One run's folder: held by one process, cleared of its own files only, a full disk told as such."""

import errno
import json

import pytest

from fercompress.errors import DiskFullError, StudyError
from fercompress.workspace import Workspace, full_disk_is_an_error


def test_a_folder_is_held_by_one_at_a_time_and_then_free_again(tmp_path):
    workspace = Workspace(tmp_path / "out")
    with workspace.locked(), pytest.raises(StudyError, match="another fercompress is writing there"), Workspace(tmp_path / "out").locked():
        pass
    with workspace.locked():
        pass


def test_clearing_leaves_what_is_not_ours(tmp_path):
    workspace = Workspace(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "bundles/a").mkdir(parents=True)
    (tmp_path / "summary.json").write_text("{}")
    workspace.clear()
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_json_is_written_whole_or_not_at_all(tmp_path):
    workspace = Workspace(tmp_path)
    path = workspace.work("bundle", "0123456789abcdef0").with_suffix(".json")
    assert workspace.load_json(path) is None
    workspace.save_json(path, {"a": [1, 2]})
    assert workspace.load_json(path) == {"a": [1, 2]}
    with pytest.raises(TypeError):
        workspace.save_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": [1, 2]}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_as_one(tmp_path, number):
    with pytest.raises(DiskFullError, match="no space left"), full_disk_is_an_error(tmp_path):
        raise OSError(number, "full", str(tmp_path / "file"))


def test_other_errors_pass_unchanged(tmp_path):
    with pytest.raises(PermissionError), full_disk_is_an_error(tmp_path):
        raise PermissionError(errno.EACCES, "no")
