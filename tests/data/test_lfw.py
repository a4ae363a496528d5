"""LFW from a copy that somebody has: the canonical tar, or one line that says what is wrong."""

import hashlib
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from stages import download
from stages.common.errors import PipelineError
from stages.data import lfw
from stages.data.archives import members
from stages.data.lfw import Dataset, obtain
from stages.data.pictures import content_hash, read_tar, store, write_tar
from tests.conftest import ROOT, flip
from tests.data.made_archives import CLUTTER, PICTURES, tar_bytes, under, write_copy, write_files

OTHER = {name: content[::-1] for name, content in PICTURES.items()}


def made(name: str, pictures: dict[str, bytes]) -> Dataset:
    return Dataset(name, len(pictures), content_hash(pictures), ())


@pytest.fixture(autouse=True)
def datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both versions of LFW, small."""
    both = {"lfw-deepfunneled": made("lfw-deepfunneled", PICTURES), "lfw": made("lfw", OTHER)}
    monkeypatch.setattr(lfw, "dataset", both.__getitem__)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project that is about to download lfw-deepfunneled."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LFW_ARCHIVE", raising=False)
    write_files(tmp_path, {"configs/download.yaml": b"dataset: lfw-deepfunneled"})
    return tmp_path


@pytest.mark.parametrize("kind", [".tgz", ".tar.gz", ".tar", ".zip", ""])
def test_a_copy_of_every_kind_gives_the_canonical_tar(
    kind: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = write_copy(kind, project, under("some-top/folder/", CLUTTER, PICTURES))
    monkeypatch.setenv("LFW_ARCHIVE", str(copy))
    download.main()
    written = project / "data/lfw-deepfunneled.tar"
    assert [path.name for path in (project / "data").iterdir()] == [written.name]

    with tarfile.open(written) as tar:
        stored = tar.getmembers()
    assert [member.name for member in stored] == sorted(PICTURES, key=str.encode)
    kinds = {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode, m.isreg()) for m in stored}
    assert kinds == {(0, 0, 0, "", "", 0o644, True)}
    assert written.read_bytes()[257:265] == b"ustar\x0000"
    assert dict(read_tar(written)) == PICTURES


def test_a_dataset_that_is_here_is_not_fetched_again(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = project / "data/lfw-deepfunneled.tar"
    write_tar(PICTURES, path)
    before = path.stat()
    download.main()
    assert "here already" in capsys.readouterr().out
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    flip(path)
    with pytest.raises(SystemExit):  # there is nothing to fetch it from
        download.main()


@pytest.mark.parametrize("change", ["missing", "other bytes", "renamed", "all"])
def test_wrong_content_is_refused_and_changes_nothing(
    change: str,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rest = dict(PICTURES)
    content = rest.pop("Zoe/Zoe_0001.jpg")
    wrong = {
        "missing": rest,
        "other bytes": rest | {"Zoe/Zoe_0001.jpg": content[:-1]},
        "renamed": rest | {"Zoe/Zoe_0003.jpg": content},
        "all": {},
    }[change]
    (project / "wrong.tgz").write_bytes(tar_bytes(wrong | CLUTTER))
    write_files(project, {"data/lfw-deepfunneled.tar": b"earlier"})
    monkeypatch.setenv("LFW_ARCHIVE", "wrong.tgz")
    with pytest.raises(SystemExit) as exit_:
        download.main()
    (said,) = capsys.readouterr().err.splitlines()
    assert exit_.value.code == 1
    assert f"{len(wrong)} pictures found, {len(PICTURES)} expected" in said
    assert ("looked for <Name>/<Name>_<0001>.jpg" in said) == (change == "all")
    assert content_hash(wrong) in said and content_hash(PICTURES) in said
    assert (project / "data/lfw-deepfunneled.tar").read_bytes() == b"earlier"


def test_both_versions_are_told_apart(tmp_path: Path) -> None:
    for wanted, given in (("lfw", PICTURES), ("lfw-deepfunneled", OTHER)):
        copy = write_copy(".tar", tmp_path, given)
        told = rf"holds lfw.*, not {wanted}; set download.dataset: lfw.* in params"
        with pytest.raises(PipelineError, match=told):
            obtain(lfw.dataset(wanted), str(copy), tmp_path)
    copy = write_copy(".tgz", tmp_path, under("lfw/", OTHER) | under("funneled/", PICTURES))
    with pytest.raises(PipelineError, match=r"LFW_ARCHIVE: there are two different .*/.*_0002.jpg"):
        obtain(made("lfw", PICTURES), str(copy), tmp_path)
    twice = write_copy(".zip", tmp_path, under("one/", PICTURES) | under("two/", PICTURES))
    assert obtain(made("lfw", PICTURES), str(twice), tmp_path) == PICTURES


def test_a_relative_path_that_is_not_there_may_be_of_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PipelineError, match=r"LFW_ARCHIVE: /.*/my.tgz does not exist; give an abs"):
        obtain(made("lfw", PICTURES), "my.tgz", tmp_path)
    with pytest.raises(PipelineError, match=r"LFW_ARCHIVE: /no/such.tgz does not exist$"):
        obtain(made("lfw", PICTURES), "/no/such.tgz", tmp_path)


def test_a_picture_or_all_of_them_may_be_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = write_copy(".zip", tmp_path, PICTURES)
    monkeypatch.setattr(lfw, "TOTAL_BYTES", 100_000)
    with pytest.raises(PipelineError, match="have more than 100,000 bytes in all"):
        obtain(made("lfw", PICTURES), str(copy), tmp_path)
    monkeypatch.setattr(lfw, "PICTURE_BYTES", 30_000)
    with pytest.raises(PipelineError, match=r"Zoe_0002.jpg has 40,000 bytes, 30,000 are allowed"):
        obtain(made("lfw", PICTURES), str(copy), tmp_path)


@pytest.mark.slow
def test_a_bomb_of_four_gigabytes_is_refused_at_once(project: Path) -> None:
    """A whole process, so that its memory can be measured."""
    bomb = project / "bomb.zip"
    with (
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("Zoe/Zoe_0001.jpg", "w", force_zip64=True) as file,
    ):
        for _ in range(256):
            file.write(bytes(2**24))
    code = (
        "import resource, stages.download as d; "
        "resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30)); d.main()"
    )
    environment = {"PYTHONPATH": str(ROOT), "LFW_ARCHIVE": str(bomb)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, timeout=60)
    assert "Zoe/Zoe_0001.jpg has 4,294,967,296 bytes, 67,108,864 are allowed" in done.stderr
    assert done.stderr.count("\n") == 1


def test_content_hash_is_that_of_the_sorted_listing() -> None:
    lines = [f"{hashlib.sha256(PICTURES[path]).hexdigest()}  {path}" for path in PICTURES]
    lines.sort(key=lambda line: line.split("  ")[1].encode())
    listing = "".join(f"{line}\n" for line in lines).encode()
    assert content_hash(PICTURES) == hashlib.sha256(listing).hexdigest()


def test_stored_pictures_are_read_back_from_both_files(tmp_path: Path) -> None:
    names = {"Ä/ä.png": b"1", "x" * 120 + "/b.jpg": b"22", "empty": b""}
    stored = store(names.items(), 100, tmp_path)
    assert dict(stored) == names
    assert list(tmp_path.iterdir()) == []  # the file has no name, and goes with its process
    write_tar(stored, tmp_path / "pictures.tar")
    assert dict(read_tar(tmp_path / "pictures.tar")) == names
    with pytest.raises(PipelineError, match=r"none.tar does not exist; run `dvc repro download`"):
        read_tar(tmp_path / "none.tar")
    whole = (tmp_path / "pictures.tar").read_bytes()
    for damaged in (b"x" * 3000, whole[:1030], whole[:1700] + b"x" + whole[1701:]):
        (tmp_path / "bad.tar").write_bytes(damaged)
        with pytest.raises(PipelineError, match=r"bad.tar cannot be read \(.*\); run `dvc repro d"):
            read_tar(tmp_path / "bad.tar")


def test_hostile_names_are_taken_for_what_their_end_says(tmp_path: Path) -> None:
    hostile = ("../../Up/Up_0001.jpg", "/Root/Root_0001.jpg", "../.._0001.jpg", "A/../B_0001.jpg")
    copy = write_copy(".tgz", tmp_path, dict.fromkeys(hostile, b"x"))
    assert set(lfw.keep(members(copy), tmp_path)) == {"Up/Up_0001.jpg", "Root/Root_0001.jpg"}
