"""The network, from a real server on this machine: from every source the same pictures, or one
line that says what was tried."""

import hashlib
import os
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from stages import download
from stages.common.errors import PipelineError
from stages.data import fetch, lfw
from stages.data.fetch import Archive, GitFolder, StreamedFolder
from stages.data.lfw import Dataset, obtain
from stages.data.pictures import content_hash
from tests.data.made_archives import CLUTTER, PICTURES, tar_bytes, under, write_files

ARCHIVE = tar_bytes(PICTURES)


def archive_at(url: str, content: bytes = ARCHIVE) -> Archive:
    return Archive(url, "sha256", hashlib.sha256(content).hexdigest())


def faces(*sources: GitFolder | StreamedFolder | Archive) -> Dataset:
    return Dataset("faces", len(PICTURES), content_hash(PICTURES), sources)


class Server:
    """Serves `files` on this machine, badly where told to, and records what it was asked."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.asked: list[tuple[str, str | None]] = []  # path, Range header
        self.statuses: list[int] = []  # to answer the next requests with
        self.retry_after = "0"
        self.cuts: list[int] = []  # after how many bytes to drop the next connections
        self.length: Callable[[int], int] = lambda length: length  # what to say it is
        self.trickle = 0.0  # seconds before each further byte
        self.ranges = True
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *arguments: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.socket.close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        def reply(status: int, **headers: object) -> None:
            request.send_response(status)
            for name, value in headers.items():
                request.send_header(name.replace("_", "-"), str(value))
            request.end_headers()

        span = request.headers.get("Range")
        self.asked.append((request.path, span))
        if request.path in self.redirects:
            return reply(302, Location=self.redirects[request.path])
        if self.statuses:
            return reply(self.statuses.pop(0), Retry_After=self.retry_after)
        content = self.files.get(request.path)
        if content is None:
            return reply(404)
        start = int(span.removeprefix("bytes=").rstrip("-")) if span and self.ranges else 0
        if start >= len(content):
            return reply(416)
        end = f"{len(content) - 1}/{len(content)}"
        partial = {"Content_Range": f"bytes {start}-{end}"} if start else {}
        reply(206 if start else 200, Content_Length=self.length(len(content) - start), **partial)
        body = content[start : start + self.cuts.pop(0) if self.cuts else None]
        try:
            for at in range(0, len(body), 1 if self.trickle else len(body)):
                request.wfile.write(body[at : at + 1] if self.trickle else body)
                time.sleep(self.trickle)
        except OSError:  # whom we serve has had enough
            pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(fetch, "PAUSE", 0.001)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server()
    yield server
    server.close()


@pytest.fixture
def served(server: Server) -> Dataset:
    """The pictures from one archive of the server."""
    server.files = {"/faces.tgz": ARCHIVE}
    return faces(archive_at(f"{server.url}/faces.tgz"))


def test_sources_are_tried_in_order_until_one_serves(server: Server, tmp_path: Path) -> None:
    wrong = tar_bytes({"Zoe/Zoe_0001.jpg": b"another"})
    server.files = {"/wrong.tgz": wrong, "/right.tgz": ARCHIVE, "/spare.tgz": ARCHIVE}
    names = ["/gone.tgz", *server.files]
    sources = [archive_at(server.url + name, server.files.get(name, ARCHIVE)) for name in names]
    assert obtain(faces(*sources), partial=tmp_path) == PICTURES
    assert [path for path, _ in server.asked] == names[:3]


def test_offline_one_line_lists_what_was_tried_and_the_ways_out(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LFW_ARCHIVE", raising=False)
    write_files(tmp_path, {"configs/download.yaml": b"dataset: lfw"})
    server.close()
    tried = (
        GitFolder(f"{server.url}/site.git", "0" * 40, "pictures"),
        StreamedFolder(f"{server.url}/site.tar.gz", "pictures"),
        archive_at(f"{server.url}/faces.tgz"),
    )
    monkeypatch.setattr(lfw, "dataset", lambda name: faces(*tried))
    with pytest.raises(SystemExit):
        download.main()
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(errors) == 1
    for words in (*(source.url for source in tried), "LFW_ARCHIVE=", "make demo"):
        assert words in errors[0]
    assert errors[0].count("connection failed") == 2
    assert list((tmp_path / "data").rglob("*.tar")) == []


def test_what_may_pass_is_asked_for_again_and_nothing_else(
    server: Server, served: Dataset, tmp_path: Path
) -> None:
    server.statuses = [429, 408, 500]
    assert obtain(served, partial=tmp_path / "500") == PICTURES
    assert len(server.asked) == fetch.ATTEMPTS
    for number, status in enumerate((401, 404, 410), fetch.ATTEMPTS + 1):
        server.statuses = [status]
        with pytest.raises(PipelineError, match=f"HTTP {status}"):
            obtain(served, partial=tmp_path / str(status))
        assert len(server.asked) == number


@pytest.mark.parametrize(("asked", "pause"), [("7", 7), ("4000", 20)])
def test_a_server_says_how_long_to_wait(
    asked: str,
    pause: int,
    served: Dataset,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    monkeypatch.setattr(fetch, "LONGEST_PAUSE", 20)
    server.statuses, server.retry_after = [429, 503], asked
    assert obtain(served, partial=tmp_path) == PICTURES
    # Other threads sleep, too, but not as long.
    assert [seconds for seconds in waited if seconds >= 1] == [pause, pause]


def test_dropped_connections_are_taken_up_where_they_ended(
    server: Server, served: Dataset, tmp_path: Path
) -> None:
    server.statuses, server.cuts = [503], [100_000, 80_000]
    assert obtain(served, partial=tmp_path) == PICTURES
    starts = [int(span[6:-1]) if span else 0 for _, span in server.asked]
    assert starts == [0, 0, 100_000, 180_000]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_rerun_resumes_where_the_server_allows_it(
    ranges: bool, server: Server, served: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.cuts, server.ranges = [100_000], ranges
    monkeypatch.setattr(fetch, "ATTEMPTS", 1)
    with pytest.raises(PipelineError, match="connection failed"):
        obtain(served, partial=tmp_path)
    assert (tmp_path / "faces.tgz").stat().st_size == 100_000
    assert obtain(served, partial=tmp_path) == PICTURES
    assert server.asked[1:] == [("/faces.tgz", "bytes=100000-")]


def test_a_damaged_or_complete_partial_download_is_dealt_with(
    server: Server, served: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "faces.tgz").write_bytes(b"damage")
    assert obtain(served, partial=tmp_path) == PICTURES
    assert [span for _, span in server.asked] == ["bytes=6-", None]
    assert obtain(served, partial=tmp_path) == PICTURES
    assert server.asked[2:] == [("/faces.tgz", f"bytes={len(ARCHIVE)}-")]


def test_a_wrong_length_is_found_out(server: Server, served: Dataset, tmp_path: Path) -> None:
    server.length = lambda length: length - 1000
    with pytest.raises(PipelineError, match=r"sha256 \w+, \w+ expected"):
        obtain(served, partial=tmp_path)
    server.length = lambda length: length + 1000
    assert obtain(served, partial=tmp_path) == PICTURES  # asked again, it has nothing more to send
    assert server.asked[-1] == ("/faces.tgz", f"bytes={len(ARCHIVE)}-")


def test_redirects_are_followed_but_not_round_and_round(
    server: Server, served: Dataset, tmp_path: Path
) -> None:
    server.redirects = {"/moved.tgz": "/faces.tgz", "/round.tgz": "/round.tgz"}
    assert obtain(faces(archive_at(f"{server.url}/moved.tgz")), partial=tmp_path) == PICTURES
    with pytest.raises(PipelineError, match="it redirects without end"):
        obtain(faces(archive_at(f"{server.url}/round.tgz")), partial=tmp_path)


Source = Callable[[str], Dataset]
SOURCES = {
    "archive": lambda url: faces(archive_at(url)),
    "stream": lambda url: faces(StreamedFolder(url, "pictures")),
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_a_server_that_is_silent_or_trickles_is_given_up(
    source: Source, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files = {"/faces.tgz": ARCHIVE}
    monkeypatch.setattr(fetch, "ATTEMPTS", 1)
    monkeypatch.setattr(fetch, "TIMEOUT", (10, 0.3))
    # All of it would take hours.
    for pause, told in ((5.0, "timed out"), (0.02, "slower than 1000 bytes a second|timed out")):
        server.trickle = pause
        with pytest.raises(PipelineError, match=told):
            obtain(source(f"{server.url}/faces.tgz"), partial=tmp_path)


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_other_content_is_refused(source: Source, server: Server, tmp_path: Path) -> None:
    server.files = {"/site.tar.gz": b"<!DOCTYPE html><html>Come back later</html>"}
    told = r"sha256 [0-9a-f]{64}, [0-9a-f]{64} expected|Not a gzipped file"
    with pytest.raises(PipelineError, match=told):
        obtain(source(f"{server.url}/site.tar.gz"), partial=tmp_path)
    assert len(server.asked) == fetch.ATTEMPTS
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


def test_a_certificate_that_nobody_vouches_for_is_not_accepted(
    server: Server, tmp_path: Path
) -> None:
    names = ("-keyout", "key.pem", "-out", "certificate.pem", "-subj", "/CN=127.0.0.1")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *names]
    try:
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    server.http.socket = context.wrap_socket(server.http.socket, server_side=True)
    url = server.url.replace("http:", "https:")
    with pytest.raises(PipelineError, match="its certificate is not accepted"):
        obtain(faces(archive_at(f"{url}/faces.tgz")), partial=tmp_path / "partial")


def test_git_fetches_one_folder_of_one_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str, at: str = "site") -> str:
        who = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(tmp_path / at), *who, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    files = under("pictures/", CLUTTER, PICTURES) | {"images/big.bin": bytes(1_000_000)}
    site = write_files(tmp_path / "site", files)
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


def test_every_version_of_lfw_says_where_it_comes_from() -> None:
    for name in lfw.NAMES:
        facts = lfw.dataset(name)
        assert (facts.name, facts.count, len(facts.content)) == (name, 13_233, 64)
        assert facts.sources
