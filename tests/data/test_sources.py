"""The pictures: from every source the same bytes, or one clear error and nothing written."""

import hashlib
import io
import os
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import yaml
from PIL import Image

from stages import download
from stages.common.errors import PipelineError
from stages.common.settings import DownloadSettings
from stages.data import drawn_faces, sources
from stages.data.archives import content_hash, read_pictures, write_tar
from stages.data.sources import Archive, Dataset, GitFolder, StreamedFolder, obtain
from stages.measure import clarity

PEOPLE = ("Zoe", "Abel_Aguilar", "Jean-Luc_Bideau")
PICTURES = {
    f"{name}/{name}_{index:04d}.jpg": hashlib.shake_256(f"{name}{index}".encode()).digest(40_000)
    for name in PEOPLE
    for index in (2, 1)
}
CLUTTER = {
    ".DS_Store": b"x",
    "README.txt": b"x",
    "Zoe/._Zoe_0001.jpg": b"x",
    "Zoe/Abel_0001.jpg": b"x",
}


def tar_bytes(files: dict[str, bytes], mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for number, (name, content) in enumerate(files.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.uid, member.mode = len(content), number, 501, 0o600
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def under(folder: str, *parts: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{folder}{name}": content for part in parts for name, content in part.items()}


def archive_at(url: str, content: bytes) -> Archive:
    return Archive(url, "sha256", hashlib.sha256(content).hexdigest())


def faces(*sources: GitFolder | StreamedFolder | Archive) -> Dataset:
    return Dataset("faces", len(PICTURES), content_hash(PICTURES), sources)


class Server:
    """Serves `files` on this machine, badly where told to, and records what it was asked."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str | None]] = []  # path, Range header
        self.fail = 0  # how many requests to answer with 503
        self.cuts: list[int] = []  # after how many bytes to drop the next connections
        self.ranges = True
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *arguments: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        span = request.headers.get("Range")
        self.asked.append((request.path, span))
        content = self.files.get(request.path)
        if self.fail:
            self.fail -= 1
            return request.send_error(503)
        if content is None:
            return request.send_error(404)
        start = int(span.removeprefix("bytes=").rstrip("-")) if span and self.ranges else 0
        if start >= len(content):
            return request.send_error(416)
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        request.send_header("Content-Length", str(len(content) - start))
        request.end_headers()
        request.wfile.write(content[start : start + self.cuts.pop(0) if self.cuts else None])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(sources, "PAUSE", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project that is about to download lfw-deepfunneled, which here is PICTURES."""
    params = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
    params["download"] = {"dataset": "lfw-deepfunneled", "count": 64}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LFW_ARCHIVE", raising=False)
    monkeypatch.setitem(sources.DATASETS, "lfw-deepfunneled", faces())
    return tmp_path


def make_copy(kind: str, folder: Path) -> Path:
    """A user's copy of the pictures, in another order and with clutter."""
    path = folder / f"my-copy{kind}"
    files = under("some-top/folder/", CLUTTER, PICTURES)
    if kind in (".tgz", ".tar.gz", ".tar"):
        path.write_bytes(tar_bytes(files, "w" if kind == ".tar" else "w:gz"))
    elif kind == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, content in files.items():
                file.writestr(name, content)
    else:
        for name, content in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    return path


@pytest.mark.parametrize("kind", [".tgz", ".tar.gz", ".tar", ".zip", ""])
def test_lfw_archive_of_every_kind_gives_the_canonical_tar(
    kind: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LFW_ARCHIVE", str(make_copy(kind, project)))
    download.main()
    written = project / "data/lfw-deepfunneled.tar"
    assert [path.name for path in (project / "data").iterdir()] == [written.name]

    with tarfile.open(written) as tar:
        members = tar.getmembers()
    assert [member.name for member in members] == sorted(PICTURES, key=str.encode)
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode, m.isreg()) for m in members} == {
        (0, 0, 0, "", "", 0o644, True)
    }
    assert written.read_bytes()[257:265] == b"ustar\x0000"
    expected = project / "expected.tar"
    write_tar(dict(sorted(PICTURES.items())), expected, project)
    assert written.read_bytes() == expected.read_bytes()


def test_content_hash_is_that_of_the_sorted_listing() -> None:
    lines = [f"{hashlib.sha256(PICTURES[path]).hexdigest()}  {path}" for path in PICTURES]
    lines.sort(key=lambda line: line.split("  ")[1].encode())
    listing = "".join(f"{line}\n" for line in lines).encode()
    assert content_hash(PICTURES) == hashlib.sha256(listing).hexdigest()


@pytest.mark.parametrize("change", ["missing", "other bytes", "renamed"])
def test_wrong_content_is_refused_and_changes_nothing(
    change: str,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wrong = dict(PICTURES)
    content = wrong.pop("Zoe/Zoe_0001.jpg")
    if change != "missing":
        name = "Zoe/Zoe_0003.jpg" if change == "renamed" else "Zoe/Zoe_0001.jpg"
        wrong[name] = content[:-1] + (b"" if change == "other bytes" else content[-1:])
    (project / "wrong.tgz").write_bytes(tar_bytes(wrong))
    (project / "data").mkdir()
    (project / "data/lfw-deepfunneled.tar").write_text("earlier")
    monkeypatch.setenv("LFW_ARCHIVE", "wrong.tgz")
    with pytest.raises(SystemExit) as exit_:
        download.main()
    said = capsys.readouterr().err
    assert exit_.value.code == 1
    assert said.count("\n") == 1
    assert f"{len(wrong)} pictures found, {len(PICTURES)} expected" in said
    assert content_hash(wrong) in said
    assert content_hash(PICTURES) in said
    assert (project / "data/lfw-deepfunneled.tar").read_text() == "earlier"
    assert len(list((project / "data").iterdir())) == 1


def test_unusable_lfw_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"LFW_ARCHIVE: /no/such.tgz does not exist"):
        obtain(faces(), "/no/such.tgz")
    (tmp_path / "note.zip").write_text("not an archive")
    with pytest.raises(PipelineError, match=r"LFW_ARCHIVE: \S+note.zip is neither a folder nor"):
        obtain(faces(), str(tmp_path / "note.zip"))
    whole = make_copy(".tgz", tmp_path).read_bytes()
    (tmp_path / "half.tgz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PipelineError, match=r"LFW_ARCHIVE: \S+half.tgz cannot be read"):
        obtain(faces(), str(tmp_path / "half.tgz"))


def test_hostile_archives_write_nothing_outside(tmp_path: Path) -> None:
    hostile = (
        "../../Up/Up_0001.jpg",
        "/Root/Root_0001.jpg",
        "../.._0001.jpg",
        "A/../../B_0001.jpg",
    )
    buffer = io.BytesIO(tar_bytes(dict.fromkeys(hostile, b"x"), "w"))
    with tarfile.open(fileobj=buffer, mode="a") as tar:
        link = tarfile.TarInfo("Link/Link_0001.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link)
    inside = tmp_path / "a/b"
    inside.mkdir(parents=True)
    (inside / "hostile.tar").write_bytes(buffer.getvalue())
    with zipfile.ZipFile(inside / "hostile.zip", "w") as file:
        for name in hostile:
            file.writestr(name, b"x")
    for kind in ("tar", "zip"):
        pictures = read_pictures(inside / f"hostile.{kind}")
        assert set(pictures) == {"Up/Up_0001.jpg", "Root/Root_0001.jpg"}
        with pytest.raises(PipelineError, match="2 pictures found, 6 expected"):
            obtain(faces(), str(inside / f"hostile.{kind}"))
    assert {path.name for path in tmp_path.rglob("*")} == {"a", "b", "hostile.tar", "hostile.zip"}


def test_sources_are_tried_in_order_until_one_serves(server: Server, tmp_path: Path) -> None:
    right, wrong = tar_bytes(PICTURES), tar_bytes({"Zoe/Zoe_0001.jpg": b"another"})
    server.files = {"/right.tgz": right, "/wrong.tgz": wrong, "/spare.tgz": right}
    sources = [
        archive_at(f"{server.url}/gone.tgz", right),
        archive_at(f"{server.url}/wrong.tgz", wrong),
        archive_at(f"{server.url}/right.tgz", right),
        archive_at(f"{server.url}/spare.tgz", right),
    ]
    assert obtain(faces(*sources), partial=tmp_path) == PICTURES
    assert [path for path, _ in server.asked] == ["/gone.tgz", "/wrong.tgz", "/right.tgz"]


def test_offline_error_lists_what_was_tried_and_the_ways_out(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sources, "PAUSE", 0)
    closed = Server()
    closed.http.shutdown()
    closed.http.server_close()
    sources = (
        GitFolder(f"{closed.url}/site.git", "0" * 40, "pictures"),
        StreamedFolder(f"{closed.url}/site.tar.gz", "pictures"),
        archive_at(f"{closed.url}/faces.tgz", b""),
    )
    monkeypatch.setitem(sources.DATASETS, "lfw-deepfunneled", faces(*sources))
    with pytest.raises(SystemExit):
        download.main()
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(errors) == 1
    for words in (*(source.url for source in sources), "LFW_ARCHIVE=", "make demo"):
        assert words in errors[0]
    assert errors[0].count("connection failed") == 2
    assert list((project / "data").rglob("*.tar")) == []


def test_server_errors_and_dropped_connections_are_retried(server: Server, tmp_path: Path) -> None:
    archive = tar_bytes(PICTURES)
    server.files = {"/faces.tgz": archive}
    server.fail, server.cuts = 1, [100_000, 80_000]
    source = archive_at(f"{server.url}/faces.tgz", archive)
    assert obtain(faces(source), partial=tmp_path) == PICTURES
    starts = [int(span[6:-1]) if span else 0 for _, span in server.asked]
    assert starts[:2] == [0, 0]
    assert 0 < starts[2] <= 100_000 < starts[3] <= 180_000


@pytest.mark.parametrize("ranges", [True, False])
def test_a_rerun_resumes_where_the_server_allows_it(
    ranges: bool, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tar_bytes(PICTURES)
    server.files, server.cuts, server.ranges = {"/faces.tgz": archive}, [100_000], ranges
    source = archive_at(f"{server.url}/faces.tgz", archive)
    monkeypatch.setattr(sources, "ATTEMPTS", 1)
    with pytest.raises(PipelineError, match="connection failed"):
        obtain(faces(source), partial=tmp_path)
    have = (tmp_path / "faces.tgz").stat().st_size
    assert have > 0
    assert obtain(faces(source), partial=tmp_path) == PICTURES
    assert server.asked[1:] == [("/faces.tgz", f"bytes={have}-")]


def test_a_damaged_or_complete_partial_download_is_dealt_with(
    server: Server, tmp_path: Path
) -> None:
    archive = tar_bytes(PICTURES)
    server.files = {"/faces.tgz": archive}
    source = archive_at(f"{server.url}/faces.tgz", archive)
    (tmp_path / "faces.tgz").write_bytes(b"damage")
    assert obtain(faces(source), partial=tmp_path) == PICTURES
    assert [span for _, span in server.asked] == ["bytes=6-", None]
    assert obtain(faces(source), partial=tmp_path) == PICTURES
    assert server.asked[2:] == [("/faces.tgz", f"bytes={len(archive)}-")]


def test_a_changed_archive_is_refused(server: Server, tmp_path: Path) -> None:
    server.files = {"/faces.tgz": tar_bytes(PICTURES)}
    with pytest.raises(PipelineError, match=r"sha256 [0-9a-f]{64}, [0-9a-f]{64} expected"):
        obtain(faces(archive_at(f"{server.url}/faces.tgz", b"other")), partial=tmp_path)
    assert len(server.asked) == sources.ATTEMPTS
    assert list(tmp_path.iterdir()) == []


def test_streaming_keeps_one_folder_and_stops_behind_it(server: Server, tmp_path: Path) -> None:
    others = {name: content[::-1] for name, content in PICTURES.items()}
    before, wanted = under("site-1/images/", others), under("site-1/pictures/", CLUTTER, PICTURES)
    rest = {"site-1/zzz.bin": np.random.default_rng(0).bytes(3_000_000)}
    server.files = {"/site.tar.gz": tar_bytes(before | wanted | rest)}
    needed = len(tar_bytes(before | wanted))
    server.cuts = [needed // 2, needed + 500_000]
    source = StreamedFolder(f"{server.url}/site.tar.gz", "pictures")
    assert obtain(faces(source), partial=tmp_path) == PICTURES
    assert len(server.asked) == 2


def test_git_fetches_one_folder_of_one_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str, at: str = "site") -> str:
        who = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(tmp_path / at), *who, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    site = tmp_path / "site"
    files = under("pictures/", CLUTTER, PICTURES) | {"images/big.bin": bytes(1_000_000)}
    for name, content in files.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_bytes(content)
    git("init", "--quiet")
    git("config", "uploadpack.allowFilter", "true")
    git("config", "uploadpack.allowAnySHA1InWant", "true")
    git("add", "--all")
    git("commit", "--quiet", "--message", "pictures")
    commit, unwanted = git("rev-parse", "HEAD", "HEAD:images/big.bin").split()
    (site / "pictures/Zoe/Zoe_0001.jpg").write_bytes(b"replaced later")
    git("commit", "--quiet", "--all", "--message", "later")

    source = GitFolder(site.as_uri(), commit, "pictures")
    partial = tmp_path / "partial"
    for _ in range(2):  # a clone left behind does not disturb
        assert obtain(faces(source), partial=partial) == PICTURES
        objects = git("rev-list", "--objects", "--missing=print", commit, at="partial/clone")
        assert f"?{unwanted}" in objects.split()
    missing = GitFolder(site.as_uri(), "1" * 40, "pictures")
    with pytest.raises(PipelineError, match=r"site \(git fetch: .*not our ref"):
        obtain(faces(missing), partial=partial)
    monkeypatch.setenv("PATH", str(partial))
    with pytest.raises(PipelineError, match="git is not installed"):
        obtain(faces(source), partial=partial)


def test_every_dataset_of_params_yaml_has_sources() -> None:
    allowed = get_args(DownloadSettings.model_fields["dataset"].annotation)
    assert {*sources.DATASETS, "synthetic"} == set(allowed)
    assert all(dataset.sources for dataset in sources.DATASETS.values())


def test_drawn_faces_are_reproducible_and_grow_with_the_count() -> None:
    few, more = drawn_faces.pictures(12), drawn_faces.pictures(20)
    assert len(few) == 12
    assert list(more.items())[:12] == list(few.items())
    assert len(set(more.values())) == 20
    assert drawn_faces.pictures(1, seed=1) != drawn_faces.pictures(1)
    assert 1 < len({name.split("/")[0] for name in more}) < 20


def test_drawn_faces_pass_for_faces() -> None:
    crops = []
    for picture in drawn_faces.pictures(60).values():
        image = Image.open(io.BytesIO(picture))
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (250, 250))
        crops.append(np.asarray(image)[61:189, 61:189])
    assert clarity.detect(np.stack(crops)).mean() > 0.5


def test_synthetic_needs_no_network(project: Path) -> None:
    params = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(params.replace("lfw-deepfunneled", "synthetic"))
    download.main()
    assert [path.name for path in (project / "data").iterdir()] == ["synthetic.tar"]
    assert read_pictures(project / "data/synthetic.tar") == drawn_faces.pictures(64)
