"""Archives and folders of all kinds: read to their end, or refused in one line, in bounded time."""

import gzip
import io
import os
import resource
import socket
import struct
import tarfile
import zlib
from itertools import repeat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from stages.common.errors import PipelineError
from stages.data import archives
from stages.data.archives import members
from tests.data.made_archives import tar_bytes, under, write_copy, write_files, zip_bytes

FILES = under("top/", {"Zoe/Zoe_0001.jpg": b"one" * 500, "Abel/a.png": b"two" * 900, "empty": b""})
KINDS = (".tgz", ".tar.gz", ".tar", ".zip", "")


def contents(path: Path) -> dict[str, bytes]:
    return {member.name: member.read() for member in members(path)}


def below(top: str, files: dict[str, bytes]) -> dict[str, bytes]:
    return {name.removeprefix(f"{top}/"): content for name, content in files.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_archive_gives_its_files(kind: str, tmp_path: Path) -> None:
    path = write_copy(kind, tmp_path, FILES)
    found = contents(path)
    assert (found if kind else below("my-copy", found)) == FILES
    sizes = {name: len(content) for name, content in found.items()}
    assert {member.name: member.size for member in members(path)} == sizes


def test_the_oldest_tars_are_read(tmp_path: Path) -> None:
    """Every header ends behind the name of what it links to."""
    old = bytearray(SOUND)
    for start in range(0, len(old), 512):
        if old[start + 257 : start + 262] == b"ustar":
            old[start + 257 : start + 512] = bytes(255)
            old[start + 148 : start + 156] = b" " * 8
            old[start + 148 : start + 156] = b"%06o\0 " % sum(old[start : start + 512])
    for name, content in (("v7.tar", bytes(old)), ("v7.tgz", gzip.compress(old))):
        (tmp_path / name).write_bytes(content)
        assert contents(tmp_path / name) == FILES


def test_folders_are_read_in_the_natural_order_of_names(tmp_path: Path) -> None:
    names = ["a2.jpg", "a10.jpg", "A/1.jpg", "A/x/2.jpg", "B/3.jpg", "C/4.jpg", "C/y/5.jpg"]
    write_files(tmp_path / "top", {name: name.encode() for name in reversed(names)})
    assert [*below("top", contents(tmp_path / "top"))] == names


def test_links_in_folders_are_followed_once_and_nothing_but_files_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = write_files(tmp_path / "elsewhere", {"Zoe/b.jpg": b"b"})
    top = write_files(tmp_path / "top", {"Abel/a.jpg": b"a", "z.jpg": b"z"})
    (top / "Cleo").symlink_to(elsewhere / "Zoe")
    (top / "again").symlink_to(elsewhere)  # a second way to Zoe
    (top / "Abel/loop").symlink_to(top)
    (top / "AAbel").symlink_to(top / "Abel")  # comes first, but is not Abel's own place
    (top / "itself").symlink_to(top / "itself")
    (top / "broken.jpg").symlink_to(tmp_path / "nothing")
    (top / "endless.jpg").symlink_to("/dev/zero")
    (top / "linked.jpg").symlink_to(top / "z.jpg")
    os.mkfifo(top / "waiting.jpg")
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(top)  # the address has a hundred letters at most
        listening.bind("socket.jpg")
        assert contents(top) == {
            "top/Abel/a.jpg": b"a",
            "top/Cleo/b.jpg": b"b",
            "top/z.jpg": b"z",
            "top/linked.jpg": b"z",
        }
        assert contents(Path(".")) == contents(top)


@pytest.mark.parametrize("name", ["fifo", "/dev/zero", "page.tgz", "note.zip", "empty.tar", "none"])
def test_what_is_no_archive_is_named(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "page.tgz").write_text("\n<!DOCTYPE html>\n<html><body>Not found</body></html>")
    (tmp_path / "note.zip").write_text("not an archive")
    (tmp_path / "empty.tar").touch()
    expected = {"none": "does not exist", "page.tgz": "is a web page, neither a folder nor a .tar"}
    with pytest.raises(PipelineError, match=expected.get(name, "is neither a folder nor a .tar")):
        contents(tmp_path / name)


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def header(kind: bytes = tarfile.REGTYPE, size: int = 0) -> bytes:
    """A tar's header of a member of this kind that says `size`, with nothing behind it."""
    info = tarfile.TarInfo("top/a.jpg")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def sparse() -> bytes:
    info = tarfile.TarInfo("top/a.jpg")
    info.size = 2**20
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    return info.tobuf(tarfile.PAX_FORMAT)


SOUND, ZIPPED, ZEROS = tar_bytes(FILES, "w"), zip_bytes(FILES), bytes(2**26)
HOSTILE = {
    "two in one.tar": SOUND * 2,
    "two in one.tgz": tar_bytes(FILES) + tar_bytes({"b": b"b"}),
    "truncated.tgz": tar_bytes(FILES)[:-30],
    "truncated.tar": SOUND[:2000],
    "cut between members.tar": SOUND[: 512 + 1536],
    "no end.tgz": gzip.compress(SOUND[: 512 + 1536]),
    "flipped header.tar": flipped(SOUND, 2100),
    "wrong checksum.tgz": flipped(gzip.compress(SOUND), -8),
    "flipped.zip": flipped(ZIPPED, 60),
    "encrypted.zip": flipped(ZIPPED, ZIPPED.index(b"PK\1\2") + 8),
    "long name of 1 GB.tgz": gzip.compress(header(tarfile.GNUTYPE_LONGNAME, 2**30) + ZEROS, 1),
    "many headers.tgz": gzip.compress(header(tarfile.XHDTYPE) * 3000),
    "sparse map without end.tgz": gzip.compress(sparse() + ZEROS, 1),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_damaged_or_hostile_archive_is_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    path = tmp_path / kind
    path.write_bytes(HOSTILE[kind])
    with pytest.raises(PipelineError, match=f"{kind} cannot be read: .") as refused:
        contents(path)
    assert not any(part in str(refused.value) for part in (" at 0x", "\n"))


def test_sizes_that_an_archive_claims_are_told_before_anything_is_read(tmp_path: Path) -> None:
    claim = bytearray(header(tarfile.GNUTYPE_SPARSE))
    claim[386:410] = b"00000000000 00000000000 ".replace(b" ", b"\0")  # one piece, empty
    claim[483:495] = b"%011o\0" % (50 * 2**27)
    claim[148:156] = b"%06o\0 " % (sum(claim[:148]) + 256 + sum(claim[156:]))
    (tmp_path / "sparse.tar").write_bytes(bytes(claim) + bytes(1024))
    (found,) = members(tmp_path / "sparse.tar")
    assert (found.name, found.size) == ("top/a.jpg", 50 * 2**27)

    packed = bytearray(zip_bytes({"top/a.jpg": bytes(2**20)}))
    at = packed.index(b"PK\1\2")
    packed[at + 24 : at + 28] = struct.pack("<I", 1000)  # less than there is
    (tmp_path / "lie.zip").write_bytes(packed)
    for found in members(tmp_path / "lie.zip"):
        assert found.size == 1000
        with pytest.raises(PipelineError, match="CRC"):
            found.read()


def test_an_archive_ends_at_its_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders and links, which give no file, are entries, too."""
    links = (header(tarfile.SYMTYPE) + header(tarfile.DIRTYPE)) * 51 + bytes(1024)
    folders = zip_bytes({f"{index}/": b"" for index in range(101)})
    write_files(tmp_path, {"links.tar": links, "folders.zip": folders})
    for index in range(101):
        (tmp_path / f"folders/{index}").mkdir(parents=True)
    nothing = ["links.tar", "folders.zip", "folders"]
    for name in nothing:
        assert contents(tmp_path / name) == {}
    files = {f"{index}.jpg": b"" for index in range(101)}
    copies = [write_copy(kind, tmp_path, files).name for kind in KINDS]
    (tmp_path / "zeros.tgz").write_bytes(tar_bytes({"zeros": bytes(5_000_000)}))
    monkeypatch.setattr(archives, "TOTAL_BYTES", 4_000_000)
    monkeypatch.setattr(archives, "MEMBERS", 100)
    with pytest.raises(PipelineError, match="it has more than 4,000,000 bytes"):
        contents(tmp_path / "zeros.tgz")
    for name in nothing + copies:
        with pytest.raises(PipelineError, match="has more than 100 entries"):
            contents(tmp_path / name)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [".tgz", ".zip"])
def test_a_million_members_take_bounded_time_and_memory(kind: str, tmp_path: Path) -> None:
    path, million = tmp_path / f"million{kind}", 1_000_000
    if kind == ".tgz":
        with gzip.open(path, "wb", compresslevel=1) as file:
            file.writelines(repeat(header(), million))
    else:
        entry = bytearray(46)
        entry[:4], entry[28] = b"PK\1\2", 11
        entries = b"".join(bytes(entry) + b"%07d.jpg" % number for number in range(million))
        path.write_bytes(
            entries + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(entries), 0, 0)
        )
    before = resource.getrusage(resource.RUSAGE_SELF)
    with pytest.raises(PipelineError, match="more than 500,000 entries"):
        for _ in members(path):
            pass
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_utime - before.ru_utime < 60
    assert after.ru_maxrss - before.ru_maxrss < 1_000_000  # KB


SEEDS = (
    *(tar_bytes(FILES, "w"), zip_bytes(FILES)),
    *(zlib.compress(b"x"), tar_bytes(FILES), b"PK\5\6" + bytes(18)),
)
Edits = list[tuple[int, int, bytes]]


@settings(
    max_examples=300,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    seed=st.sampled_from(SEEDS),
    edits=st.lists(
        st.tuples(st.integers(0, 6000), st.integers(0, 600), st.binary(max_size=40)), max_size=6
    ),
    packed=st.booleans(),
)
@example(seed=SEEDS[0], edits=[(124, 12, b"\xff" * 12)], packed=True)  # a size below zero
@example(seed=SEEDS[0], edits=[(156, 1, b"x"), (512, 8, b"99 a=b\n\n")], packed=False)
def test_whatever_the_bytes_a_reader_ends_or_refuses(
    seed: bytes, edits: Edits, packed: bool, tmp_path: Path
) -> None:
    damaged = bytearray(seed)
    for start, length, new in edits:
        damaged[start : start + length] = new
    path = tmp_path / "damaged"
    path.write_bytes(gzip.compress(damaged, 1) if packed else damaged)
    try:
        found = list(map(len, contents(path).values()))
    except PipelineError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert sum(found) < 1_000_000


def test_hostile_names_stay_names_and_backslashes_of_windows_are_slashes(tmp_path: Path) -> None:
    names = ("../../Up/Up_0001.jpg", "/Root/Root_0001.jpg", r"A\..\../B_0001.jpg")
    buffer = io.BytesIO(tar_bytes(dict.fromkeys(names, b"x"), "w"))
    with tarfile.open(fileobj=buffer, mode="a") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            link = tarfile.TarInfo("Link/Link_0001.jpg")
            link.type, link.linkname = kind, "/etc/hostname"
            tar.addfile(link)
    inside = write_files(tmp_path / "a/b", {"hostile.tar": buffer.getvalue()})
    (inside / "hostile.zip").write_bytes(zip_bytes(dict.fromkeys(names, b"x")))
    for kind in ("tar", "zip"):
        found = list(members(inside / f"hostile.{kind}"))
        named = {member.name for member in found if not member.repeats}
        assert named == {name.replace("\\", "/") for name in names}
        links = [member for member in found if member.repeats]
        assert len(links) == (kind == "tar")
        for link in links:
            with pytest.raises(PipelineError, match="is a link to /etc/hostname"):
                link.read()
    assert {path.name for path in tmp_path.rglob("*")} == {"a", "b", "hostile.tar", "hostile.zip"}
