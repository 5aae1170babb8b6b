"""A reader never sees half a file, and a failure leaves nothing."""

import os

import pytest

from gradrace.files import write_text


def test_a_file_is_written_readable_for_all_and_replaced_whole(tmp_path):
    path = tmp_path / "a.json"
    write_text(path, "old")
    write_text(path, "é")
    assert path.read_text(encoding="utf-8") == "é"
    assert path.stat().st_mode & 0o777 == 0o644
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_text(path, "old")

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space left"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]
