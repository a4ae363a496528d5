"""Anybody's pictures: any layout, and what is no use told and left out."""

import os
import tarfile
from pathlib import Path

import pytest

from stages import download, preprocess
from stages.common.errors import PipelineError
from stages.data import faces
from stages.data.sources.own import own_pictures
from stages.data.sources.synthetic.drawn_faces import draw
from tests.data.made_archives import tar_bytes, write_copy, write_files

LAYOUT = {
    "Ann/one.jpg": b"1",
    "Ann/2019/summer/two.JPEG": b"2",
    "Bö/three.png": b"3",
    "four.webp": b"4",
    "five five.bmp": b"5",
    "six.jfif": b"6",
}
CLUTTER = dict.fromkeys(("README.md", ".hidden.jpg", "Ann/._one.jpg", "__MACOSX/Ann/one.jpg"), b"")


@pytest.mark.parametrize("kind", [".tgz", ""])
@pytest.mark.parametrize("top", ["", "my pictures/", "a/b/"])
def test_names_are_paths_below_the_folders_that_all_share(
    kind: str, top: str, tmp_path: Path
) -> None:
    files = {f"{top}{name}": content for name, content in (LAYOUT | CLUTTER).items()}
    pictures, skipped = own_pictures.read(write_copy(kind, tmp_path, files), tmp_path)
    assert dict(pictures) == LAYOUT
    assert skipped == []


def test_one_person_s_pictures_are_each_on_their_own(tmp_path: Path) -> None:
    alone = {"Ann/a.jpg": b"1", "Ann/b.jpg": b"2"}
    top = write_files(tmp_path / "top", alone)
    assert dict(own_pictures.read(top, tmp_path)[0]) == {"a.jpg": b"1", "b.jpg": b"2"}
    write_files(top, {"Bob/a.jpg": b"3"})
    assert {*own_pictures.read(top, tmp_path)[0]} == {*alone, "Bob/a.jpg"}


def test_what_is_left_out_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = {
        "/etc/a.jpg": "has a path that leads out of the archive",
        "../../b.jpg": "has a path that leads out of the archive",
        "c\n.jpg": "has characters in its path that are no text",
        "d\udc80.jpg": "has characters in its path that are no text",
        "large.png": "has 60 bytes, 50 are allowed",
        "e.heic": "ends in .heic",
        "e": "has no ending",
    }
    files = dict.fromkeys(["fine.png", *bad], b"x") | {"large.png": b"x" * 60}
    (tmp_path / "some.tar").write_bytes(tar_bytes(files, "w"))
    monkeypatch.setattr(own_pictures, "PICTURE_BYTES", 50)
    pictures, skipped = own_pictures.read(tmp_path / "some.tar", tmp_path)
    assert dict(pictures) == {"fine.png": b"x"}
    told = [(name if name.isprintable() else ascii(name), why) for name, why in bad.items()]
    assert skipped == told


def test_a_tar_s_second_name_of_a_picture_is_told(tmp_path: Path) -> None:
    write_files(tmp_path / "in", {"A/a.jpg": b"a", "C/c.jpg": b"c"})
    (tmp_path / "in/B").mkdir()
    os.link(tmp_path / "in/A/a.jpg", tmp_path / "in/B/b.jpg")
    with tarfile.open(tmp_path / "in.tar", "w") as tar:
        tar.add(tmp_path / "in", "in")
    pictures, skipped = own_pictures.read(tmp_path / "in.tar", tmp_path)
    ((name, reason),) = skipped
    names = {"in/A/a.jpg", "in/B/b.jpg"}
    assert name in names and reason == f"is a link to {(names - {name}).pop()!r} in the archive"
    assert len(pictures) == 2
    assert len(own_pictures.read(tmp_path / "in", tmp_path)[0]) == 3


def test_no_picture_at_all_names_what_was_looked_for(tmp_path: Path) -> None:
    write_files(tmp_path / "top", CLUTTER)
    (tmp_path / "up.tar").write_bytes(tar_bytes({"../a.jpg": b"x"}, "w"))
    for name, told in (
        ("top", r"download.pictures: .*/top has no picture.*\.bmp, \.j"),
        ("up.tar", r"up\.tar has no picture.*has a path that .*: \.\./a\.jpg"),
        ("none", "none does not exist"),
    ):
        with pytest.raises(PipelineError, match=told):
            own_pictures.read(tmp_path / name, tmp_path)


def test_from_a_folder_to_faces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    drawn = dict(draw(40))
    junk = {"Ann/text.jpg": b"no picture", "Zoe/small.png": b""}
    twins = {"Zoe/twin.jpg": next(iter(drawn.values()))}
    write_files(tmp_path / "photos", drawn | junk | twins)
    os.mkfifo(tmp_path / "photos/fifo.jpg")
    configs = {"download": b"dataset: own\npictures: photos", "preprocess": b"held_out: 0.4"}
    write_files(tmp_path, {f"configs/{name}.yaml": text for name, text in configs.items()})
    download.main()
    assert "own: 43 pictures\n" in capsys.readouterr().out
    first = (tmp_path / "data/own.tar").read_bytes()
    preprocess.main()
    said = capsys.readouterr().out
    assert said.startswith("2 files skipped: cannot be decoded: it is no JPEG or ")
    assert said.endswith("41 faces\n")
    written = faces.load()
    assert written.paths.tolist() == sorted(drawn | twins)
    split = dict(zip(written.people, written.splits, strict=True))
    assert split["Zoe"] == split["Person_0001"]

    download.main()
    assert (tmp_path / "data/own.tar").read_bytes() == first
    write_files(tmp_path / "photos", {"New/new.jpg": drawn.popitem()[1]})
    download.main()
    assert "own: 44 pictures\n" in capsys.readouterr().out
