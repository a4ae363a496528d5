"""Outputs appear whole or not at all."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stages.common.files import atomic, atomic_folder, atomic_set, number, write_text


def tree(folder: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@contextmanager
def writing(kind: str, folder: Path, text: str) -> Iterator[None]:
    """Within, the text is written and not yet in place."""
    if kind == "file":
        with atomic(folder / "file.txt") as path:
            path.write_text(text)
            yield
    elif kind == "folder":
        with atomic_folder(folder / "models") as path:
            (path / f"{text}.txt").write_text(text)
            yield
    else:
        with atomic_set(folder / "a.txt", folder / "b.txt") as paths:
            for path in paths:
                path.write_text(text)
            yield


def write_all(folder: Path, text: str) -> None:
    for kind in ("file", "folder", "set"):
        with writing(kind, folder, text):
            pass


def test_the_new_replaces_the_old_and_nothing_else_stays(tmp_path: Path) -> None:
    for text in ("first", "second"):
        write_all(tmp_path / "new", text)
        content = text.encode()
        whole = {"file.txt": content, "models": None, f"models/{text}.txt": content}
        assert tree(tmp_path / "new") == whole | {"a.txt": content, "b.txt": content}


@pytest.mark.parametrize("kind", ["file", "folder", "set"])
def test_a_failure_changes_nothing(kind: str, tmp_path: Path) -> None:
    write_all(tmp_path, "old")
    before = tree(tmp_path)
    full = OSError(errno.ENOSPC, "No space left on device")  # of a write: it names no file
    with (
        pytest.raises(OSError, match=r"No space left on device: .*/(file\.txt|a\.txt|models)'$"),
        writing(kind, tmp_path, "half"),
    ):
        raise full
    assert tree(tmp_path) == before


def test_what_a_killed_process_left_goes_and_what_a_running_one_has_stays(tmp_path: Path) -> None:
    code = """
import sys
from stages.common.files import atomic
with atomic(sys.argv[1]) as path:
    path.write_text("half")
    print("writing", flush=True)
    sys.stdin.read()
"""
    command = [sys.executable, "-c", code, str(tmp_path / "file.txt")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout and process.stdout.readline() == "writing\n"
        write_text(tmp_path / "file.txt", "mine")
        assert len(list(tmp_path.iterdir())) == 2
        os.kill(process.pid, signal.SIGKILL)
    assert len(list(tmp_path.iterdir())) == 2
    write_text(tmp_path / "file.txt", "whole")
    assert tree(tmp_path) == {"file.txt": b"whole"}


def test_writers_of_the_same_name_do_not_disturb_one_another(tmp_path: Path) -> None:
    code = """
import sys
from stages.common.files import atomic_folder, write_text
for k in range(500):
    write_text(f"{sys.argv[1]}/file.txt", sys.argv[2])
    with atomic_folder(f"{sys.argv[1]}/folder") as folder:
        (folder / sys.argv[2]).touch()
"""
    writers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name]) for name in "ab"]
    assert [writer.wait() for writer in writers] == [0, 0]
    found = tree(tmp_path)
    assert len(found) == 3 and found["file.txt"] in (b"a", b"b")
    assert {"folder/a", "folder/b"} & {*found}


def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    for name in ("replaced", "partial", "models"):
        for text in ("old", "new"):
            with atomic_folder(tmp_path / name) as path:
                (path / text).touch()
        assert tree(tmp_path / name) == {"new": b""}


def test_files_and_folders_get_the_usual_permissions(tmp_path: Path) -> None:
    write_all(tmp_path, "text")
    (tmp_path / "usual").mkdir()
    (tmp_path / "usual/file").touch()
    for made, usual in (("models", "usual"), ("models/text.txt", "usual/file")):
        assert (tmp_path / made).stat().st_mode == (tmp_path / usual).stat().st_mode


def test_text_is_utf_8_with_its_own_line_ends(tmp_path: Path) -> None:
    write_text(tmp_path / "text", "größer\r\nnext\n")
    assert (tmp_path / "text").read_bytes() == "größer\r\nnext\n".encode()


def test_numbers_have_six_digits() -> None:
    told = "0.333333 6.66667e-08 1.23457e+06 0.1"
    assert " ".join(map(number, (1 / 3, 2e-7 / 3, 1234567.0, 0.1))) == told
