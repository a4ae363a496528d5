"""Labeled Faces in the Wild: its layout, its sources, and its content, which every download must
have: sources/<name>/dataset.yaml has the hash of each version."""

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from stages.common.errors import PipelineError
from stages.data import archives
from stages.data.archives import PICTURE_BYTES, Member
from stages.data.fetch import Archive, GitFolder, StreamedFolder
from stages.data.pictures import PARTIAL, Pictures, content_hash, read_tar, store

SOURCES = Path(__file__).parent / "sources"
NAMES = ("lfw-deepfunneled", "lfw")
KINDS = {"archive": Archive, "git": GitFolder, "stream": StreamedFolder}
PICTURE = re.compile(r"(?:^|/)(([A-Za-z][\w-]*)/\2_\d{4}\.jpg)$", re.ASCII)
LAYOUT = "<Name>/<Name>_<0001>.jpg, in whatever folder"
TOTAL_BYTES = 2**30  # of all pictures; each version has 115 MB


@dataclass(frozen=True)
class Dataset:
    """`content` is the `content_hash` of its `count` pictures, whichever source they come from."""

    name: str
    count: int
    content: str
    sources: tuple[GitFolder | StreamedFolder | Archive, ...]


def dataset(name: str) -> Dataset:
    """One of NAMES."""
    facts = yaml.safe_load((SOURCES / name / "dataset.yaml").read_text(encoding="utf-8"))
    sources = tuple(KINDS[source.pop("kind")](**source) for source in facts["sources"])
    return Dataset(name, facts["count"], facts["content"], sources)


def obtain(wanted: Dataset, archive: str | None = None, partial: Path = PARTIAL) -> Pictures:
    """The dataset's pictures, their content verified. Raises PipelineError.

    They come from `archive` (.tar, .tgz, .zip or a folder) if given, else from the first source
    that has them. partial: the folder of unfinished downloads.
    """
    if archive:
        path = Path(archive).expanduser()
        try:
            return _verified(wanted, keep(archives.members(path), partial), archive)
        except PipelineError as error:
            advice = "; give an absolute path, as experiments with --temp run in another folder"
            advice *= not path.is_absolute()
            raise PipelineError(f"LFW_ARCHIVE: {error}{advice}") from None
    tried = []
    for source in wanted.sources:
        print(f"{wanted.name}: trying {source.url}", file=sys.stderr, flush=True)
        try:
            pictures = source.fetch(partial, lambda members: keep(members, partial))
            return _verified(wanted, pictures, "it")
        except PipelineError as error:
            tried.append(f"{source.url} ({error})")
    raise PipelineError(
        f"{wanted.name} could not be downloaded; tried {', '.join(tried)}. Set LFW_ARCHIVE="
        "/path/to/archive-or-folder to use a copy you have, or run `make demo`, which needs none"
    )


def keep(members: Iterable[Member], partial: Path) -> Pictures:
    """The members laid out as LFW's pictures, by the last two parts of their paths. Raises
    PipelineError where two pictures of the same name differ, or where they are too large."""

    def pictures() -> Iterator[tuple[str, bytes]]:
        for member in members:
            if picture := PICTURE.search(member.name):
                if (size := member.size) > PICTURE_BYTES:
                    limit = f"{PICTURE_BYTES:,} are allowed"
                    raise PipelineError(f"{picture[1]} has {size:,} bytes, {limit}")
                yield picture[1], member.read()

    return store(pictures(), TOTAL_BYTES, partial)


def _verified(wanted: Dataset, pictures: Pictures, where: str) -> Pictures:
    content = content_hash(pictures)
    if content == wanted.content:
        return pictures
    for other in map(dataset, NAMES):
        if content == other.content:
            raise PipelineError(
                f"{where} holds {other.name}, not {wanted.name}; set download.dataset: "
                f"{other.name} in params.yaml, or give {wanted.name}"
            )
    looked = "" if pictures else f"; looked for {LAYOUT}"
    raise PipelineError(
        f"{where} does not hold {wanted.name}: {len(pictures):,} pictures found, "
        f"{wanted.count:,} expected{looked}; content hash {content}, {wanted.content} expected"
    )


def holds(path: Path, wanted: Dataset) -> bool:
    """Whether the canonical tar at `path` is whole and has the dataset's content."""
    try:
        return content_hash(read_tar(path)) == wanted.content
    except PipelineError:
        return False
