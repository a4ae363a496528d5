"""Downloads: a folder of a git repository, a folder of a streamed archive, or an archive."""

import hashlib
import io
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial as bind
from itertools import dropwhile, takewhile
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import requests
import urllib3
from requests.adapters import HTTPAdapter
from tqdm import tqdm

from stages.common.errors import PipelineError
from stages.data import archives
from stages.data.archives import UNREADABLE, Member
from stages.data.pictures import Pictures

ATTEMPTS = 4  # at each HTTP source
PAUSE = 0.5  # seconds, doubled before each further attempt
LONGEST_PAUSE = 30  # seconds, whatever the server asks for
TIMEOUT = (10, 60)  # seconds to connect, seconds without a byte
SLOWEST = 1000  # bytes a second, over the latter of them
BLOCK = 1 << 16
PASSING = (408, 429, *range(500, 600))  # statuses for which a server is asked again
REASONS: dict[type[Exception] | tuple[type[Exception], ...], str] = {
    requests.exceptions.SSLError: "its certificate is not accepted",
    requests.TooManyRedirects: "it redirects without end",
    (requests.Timeout, urllib3.exceptions.TimeoutError): "timed out",
    (requests.RequestException, urllib3.exceptions.HTTPError): "connection failed",
}

Result = TypeVar("Result")
Keep = Callable[[Iterable[Member]], Pictures]  # what chooses and stores the pictures among files


@dataclass(frozen=True)
class GitFolder:
    """A folder of a git repository at a commit. The rest of the repository is not fetched."""

    url: str
    commit: str
    folder: str

    def fetch(self, partial: Path, keep: Keep) -> Pictures:
        clone = partial / "clone"
        shutil.rmtree(clone, ignore_errors=True)  # git does not resume, and may have left a lock
        clone.mkdir(parents=True)
        _git(clone, 60, "init", "--quiet")
        _git(clone, 60, "config", "remote.origin.url", self.url)
        _git(clone, 60, "sparse-checkout", "set", self.folder)
        _git(clone, 300, "fetch", "--depth=1", "--filter=blob:none", "origin", self.commit)
        _git(clone, 3600, "checkout", "--force", "--detach", self.commit)
        return keep(archives.members(clone / self.folder))


@dataclass(frozen=True)
class StreamedFolder:
    """A folder of a .tar.gz too big to keep, read while the archive is downloaded."""

    url: str
    folder: str

    def fetch(self, partial: Path, keep: Keep) -> Pictures:
        return _with_retries(bind(self._stream, keep))

    def _stream(self, keep: Keep) -> Pictures:
        with _get(self.url) as response, _Body(response, self.url) as body:
            whole = io.BufferedReader(body)  # gzip does not like to get less than it asks for
            files = filter(None, archives.gzipped_tar_members(whole))
            # git writes a folder in one piece: what follows it need not be downloaded.
            rest = dropwhile(lambda member: not self._holds(member), files)
            return keep(takewhile(self._holds, rest))

    def _holds(self, member: Member) -> bool:
        return self.folder in PurePosixPath(member.name).parts


@dataclass(frozen=True)
class Archive:
    """An archive of known checksum; an interrupted download of it is resumed."""

    url: str
    algorithm: str
    checksum: str

    def fetch(self, partial: Path, keep: Keep) -> Pictures:
        path = partial / PurePosixPath(self.url).name
        path.parent.mkdir(parents=True, exist_ok=True)
        _with_retries(bind(self._download, path))
        return keep(archives.members(path))

    def _download(self, path: Path) -> None:
        have = path.stat().st_size if path.exists() else 0
        with _get(self.url, have) as response:
            span = response.headers.get("Content-Range", "")
            if not span.startswith(f"bytes {have}-"):
                have = 0  # the server sends the whole archive
            if response.status_code != 416:  # 416: there is nothing beyond what we have
                mode = "ab" if have else "wb"
                with path.open(mode) as file, _Body(response, self.url, have) as body:
                    while block := body.read(BLOCK):
                        file.write(block)
        with path.open("rb") as file:
            checksum = hashlib.file_digest(file, self.algorithm).hexdigest()
        if checksum != self.checksum:
            path.unlink()
            raise OSError(f"{self.algorithm} {checksum}, {self.checksum} expected")


class _Body(io.RawIOBase):
    """The bytes of a response, as they come. Raises TimeoutError where they come too slowly.

    have: the number of bytes from an earlier attempt.
    """

    def __init__(self, response: requests.Response, url: str, have: int = 0) -> None:
        length = response.headers.get("Content-Length", "")
        total = have + int(length) if length.isdecimal() else None
        self._raw = response.raw
        self._bar = tqdm(
            desc=url, total=total, initial=have, unit="B", unit_scale=True, disable=None
        )
        self._since, self._came = time.monotonic(), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        place = memoryview(buffer)
        content: bytes = self._raw.read1(len(place))
        place[: len(content)] = content
        self._bar.update(len(content))
        self._came += len(content)
        passed = time.monotonic() - self._since
        if passed > TIMEOUT[1]:
            if self._came < SLOWEST * passed:
                raise TimeoutError(f"slower than {SLOWEST} bytes a second")
            self._since, self._came = time.monotonic(), 0
        return len(content)

    def close(self) -> None:
        self._bar.close()
        super().close()


def _git(clone: Path, seconds: int, *arguments: str) -> None:
    # Inside a git hook GIT_DIR is set and would send these commands to another repository.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    stalled = ("-c", f"http.lowSpeedLimit={SLOWEST}", "-c", f"http.lowSpeedTime={TIMEOUT[1]}")
    try:
        subprocess.run(
            ["git", "-C", str(clone), *stalled, *arguments],
            check=True,
            timeout=seconds,
            env=environment | {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stderr=None if sys.stderr.isatty() else subprocess.PIPE,  # a terminal sees progress
            encoding="utf-8",
            errors="replace",
        )
    except FileNotFoundError:
        raise PipelineError("git is not installed") from None
    except subprocess.TimeoutExpired:
        raise PipelineError(f"git {arguments[0]} took more than {seconds} s") from None
    except subprocess.CalledProcessError as error:
        said = (error.stderr or "").strip().splitlines() or [f"exit status {error.returncode}"]
        raise PipelineError(f"git {arguments[0]}: {said[-1]}") from None


def _get(url: str, first: int = 0) -> requests.Response:
    """A response from byte `first` on, if the server can; tried again where the fault may pass."""
    again = urllib3.Retry(
        ATTEMPTS - 1,
        other=0,
        status_forcelist=PASSING,
        backoff_factor=PAUSE,
        retry_after_max=LONGEST_PAUSE,
        raise_on_status=False,
    )
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={first}-"} if first else {})
    with requests.Session() as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=again))
        response = session.get(url, headers=headers, stream=True, timeout=TIMEOUT)
    if response.status_code != 416:  # a range beyond the end is for the caller to judge
        response.raise_for_status()
    return response


def _with_retries(action: Callable[[], Result]) -> Result:
    """What `action` returns, once it succeeds. Raises PipelineError with the reason if it fails."""
    failed = Exception()
    for _ in range(ATTEMPTS):
        try:
            return action()
        except requests.HTTPError as error:
            raise PipelineError(f"HTTP {error.response.status_code}") from None
        except requests.RequestException as error:  # tried again already
            failed = error
            break
        except (urllib3.exceptions.HTTPError, *UNREADABLE) as error:
            failed = error
    reasons = (reason for kind, reason in REASONS.items() if isinstance(failed, kind))
    raise PipelineError(next(reasons, str(failed) or type(failed).__name__))
