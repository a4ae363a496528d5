"""Where Labeled Faces in the Wild (LFW) comes from, and what it must contain."""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial as bind
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from stages.data.archives import (
    PARTIAL,
    UNREADABLE,
    Members,
    Pictures,
    content_hash,
    keep_pictures,
    read_pictures,
    tar_members,
)
from stages.common.errors import PipelineError

ATTEMPTS = 4  # at each HTTP source
PAUSE = 0.5  # seconds before the second attempt, doubled before each further one
TIMEOUT = (10, 60)  # seconds to connect, seconds without a byte


@dataclass(frozen=True)
class GitFolder:
    """One folder of a git repository at one commit; the rest of the repository is not fetched."""

    url: str
    commit: str
    folder: str

    def fetch(self, partial: Path) -> Pictures:
        clone = partial / "clone"
        shutil.rmtree(clone, ignore_errors=True)  # git does not resume, and may have left a lock
        clone.mkdir(parents=True)
        _git(clone, 60, "init", "--quiet")
        _git(clone, 60, "config", "remote.origin.url", self.url)
        _git(clone, 60, "sparse-checkout", "set", self.folder)
        _git(clone, 300, "fetch", "--depth=1", "--filter=blob:none", "origin", self.commit)
        _git(clone, 3600, "checkout", "--force", "--detach", self.commit)
        return read_pictures(clone / self.folder)


@dataclass(frozen=True)
class StreamedFolder:
    """One folder of a .tar.gz too big to keep, picked out while the archive streams past."""

    url: str
    folder: str

    def fetch(self, partial: Path) -> Pictures:
        return _with_retries(self._stream)

    def _stream(self) -> Pictures:
        with _get(self.url) as response:
            bar = tqdm.wrapattr(response.raw, "read", desc=self.url, disable=None)
            with bar as stream, tarfile.open(fileobj=stream, mode="r|gz") as tar:
                return keep_pictures(self._inside(tar_members(tar)))

    def _inside(self, members: Members) -> Members:
        found = False
        for name, read in members:
            if self.folder in PurePosixPath(name).parts:
                found = True
                yield name, read
            elif found:  # git writes a folder in one piece: the rest need not be downloaded
                return


@dataclass(frozen=True)
class Archive:
    """An archive of known checksum; an interrupted download of it is resumed."""

    url: str
    algorithm: str
    checksum: str

    def fetch(self, partial: Path) -> Pictures:
        path = partial / PurePosixPath(self.url).name
        path.parent.mkdir(parents=True, exist_ok=True)
        _with_retries(bind(self._download, path))
        return read_pictures(path)

    def _download(self, path: Path) -> None:
        have = path.stat().st_size if path.exists() else 0
        with _get(self.url, {"Range": f"bytes={have}-"} if have else {}) as response:
            span = response.headers.get("Content-Range", "")
            if not span.startswith(f"bytes {have}-"):
                have = 0  # the server sends the whole archive
            if response.status_code != 416:  # 416: there is nothing beyond what we have
                total = have + int(response.headers.get("Content-Length", 0)) or None
                bar = tqdm(
                    desc=self.url,
                    total=total,
                    initial=have,
                    unit="B",
                    unit_scale=True,
                    disable=None,
                )
                with path.open("ab" if have else "wb") as file, bar:
                    for block in response.iter_content(1 << 16):
                        bar.update(file.write(block))
        with path.open("rb") as file:
            found = hashlib.file_digest(file, self.algorithm).hexdigest()
        if found != self.checksum:
            path.unlink()
            raise OSError(f"{self.algorithm} {found}, {self.checksum} expected")


@dataclass(frozen=True)
class Dataset:
    """`content` is the `content_hash` of its `count` pictures, whichever source they come from."""

    name: str
    count: int
    content: str
    sources: tuple[GitFolder | StreamedFolder | Archive, ...]


SITE = "umass-vis-lfw/umass-vis-lfw.github.io"
COMMIT = "2a620cd8cceb10430f8c7012fe9fa5f0837759e9"
FOLDER = "images_deepfunneled"

DEEPFUNNELED = Dataset(
    name="lfw-deepfunneled",
    count=13_233,
    content="d74b84a8b052eb400a6d69dcce66460240bf4cd659d924c13bc90ce1fced9bce",
    sources=(
        GitFolder(f"https://github.com/{SITE}.git", COMMIT, FOLDER),
        StreamedFolder(f"https://codeload.github.com/{SITE}/tar.gz/{COMMIT}", FOLDER),
        Archive(
            "http://vis-www.cs.umass.edu/lfw/lfw-deepfunneled.tgz",
            "md5",
            "68331da3eb755a505a502b5aacb3c201",
        ),
    ),
)
ORIGINAL = Dataset(
    name="lfw",
    count=13_233,
    content="e13533c132ec8cf0016e182f29ad868f40895abf320db2beb23860fb4cb461c7",
    sources=(
        Archive(
            "https://ndownloader.figshare.com/files/5976018",
            "sha256",
            "055f7d9c632d7370e6fb4afc7468d40f970c34a80d4c6f50ffec63f5a8d536c0",
        ),
    ),
)
DATASETS = {dataset.name: dataset for dataset in (DEEPFUNNELED, ORIGINAL)}


def obtain(dataset: Dataset, archive: str | None = None, partial: Path = PARTIAL) -> Pictures:
    """The dataset's pictures, their content verified.

    They come from `archive` (.tar, .tgz, .zip or a folder, whatever its top folder is called) if
    given, else from the first of the sources to have them; `partial` keeps unfinished downloads.
    Raises PipelineError.
    """
    if archive:
        try:
            return _verified(dataset, read_pictures(Path(archive).expanduser()), archive)
        except PipelineError as error:
            raise PipelineError(f"LFW_ARCHIVE: {error}") from None
    tried = []
    for source in dataset.sources:
        print(f"{dataset.name}: trying {source.url}", file=sys.stderr, flush=True)
        try:
            return _verified(dataset, source.fetch(partial), "it")
        except PipelineError as error:
            tried.append(f"{source.url} ({error})")
    raise PipelineError(
        f"{dataset.name} could not be downloaded; tried {', '.join(tried)}. Set LFW_ARCHIVE="
        "/path/to/archive-or-folder to use a copy you have, or run `make demo`, which needs none"
    )


def _verified(dataset: Dataset, pictures: Pictures, where: str) -> Pictures:
    content = content_hash(pictures)
    if content != dataset.content:
        raise PipelineError(
            f"{where} does not hold {dataset.name}: {len(pictures):,} pictures found, "
            f"{dataset.count:,} expected; content hash {content}, {dataset.content} expected"
        )
    return pictures


def _git(clone: Path, seconds: int, *arguments: str) -> None:
    # Inside a git hook GIT_DIR is set and would send these commands to another repository.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    stalled = ("-c", "http.lowSpeedLimit=1000", "-c", f"http.lowSpeedTime={TIMEOUT[1]}")
    try:
        subprocess.run(
            ["git", "-C", str(clone), *stalled, *arguments],
            check=True,
            timeout=seconds,
            env=environment | {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stderr=None if sys.stderr.isatty() else subprocess.PIPE,  # a terminal sees progress
            text=True,
        )
    except FileNotFoundError:
        raise PipelineError("git is not installed") from None
    except subprocess.TimeoutExpired:
        raise PipelineError(f"git {arguments[0]} took more than {seconds} s") from None
    except subprocess.CalledProcessError as error:
        said = (error.stderr or "").strip().splitlines() or [f"exit status {error.returncode}"]
        raise PipelineError(f"git {arguments[0]}: {said[-1]}") from None


def _get(url: str, headers: dict[str, str] | None = None) -> Any:
    import requests  # here, as drawn faces and a copy from LFW_ARCHIVE need no network

    headers = {"Accept-Encoding": "identity"} | (headers or {})
    response = requests.get(url, headers=headers, stream=True, timeout=TIMEOUT)
    if response.status_code != 416:  # a range beyond the end is for the caller to judge
        response.raise_for_status()
    return response


def _with_retries(action: Callable[[], Any]) -> Any:
    import requests
    import urllib3

    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE * 2 ** (attempt - 1))
        try:
            return action()
        except requests.HTTPError as error:
            reason = f"HTTP {error.response.status_code}"
            if error.response.status_code < 500:
                break
        except requests.Timeout:
            reason = "timed out"
        except (requests.RequestException, urllib3.exceptions.HTTPError):
            reason = "connection failed"
        except UNREADABLE as error:
            reason = str(error)
    raise PipelineError(reason)
