"""A user's pictures, in a folder or an archive, in folders of any depth."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from unicodedata import category, normalize

from stages.common.errors import PipelineError
from stages.data.archives import PICTURE_BYTES, TOTAL_BYTES, members
from stages.data.pictures import PARTIAL, Pictures, Skipped, because_of, store

ENDINGS = {".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp"}
NO_PICTURES = {"__MACOSX", "README.md"}  # left out without a word, as hidden files are


def read(path: Path, partial: Path = PARTIAL) -> tuple[Pictures, Skipped]:
    """The pictures in a folder or archive, and the files that were left out. Decodes no picture.

    The name of a picture is its path below the folders that all of them share. Raises PipelineError
    where there is no picture, or the archive cannot be read.
    """
    skipped = Skipped()
    try:
        pictures = store(encoded(path, skipped), TOTAL_BYTES, partial)
    except PipelineError as error:
        raise PipelineError(f"download.pictures: {error}") from None
    if not pictures:
        raise PipelineError(
            f"download.pictures: {path} has no picture in it; looked for files that end in "
            f"{', '.join(sorted(ENDINGS))}, in folders of whatever depth. For clones and for "
            "experiments with --temp, `dvc add` the folder, or give an absolute path"
            + because_of(skipped)
        )
    return pictures.renamed(_without_shared_folders(list(pictures))), skipped


def encoded(path: Path, skipped: Skipped) -> Iterator[tuple[str, bytes]]:
    """Names and bytes; what is left out is added to `skipped`."""
    for member in members(path):
        path_inside = PurePosixPath(member.name)
        inner, parts = str(path_inside), path_inside.parts
        ending = path_inside.suffix.lower()
        if path_inside.name.startswith(".") or NO_PICTURES.intersection(parts):
            continue
        if ".." in parts or path_inside.is_absolute():
            skipped.append((inner, "has a path that leads out of the archive"))
        elif any(category(letter) in ("Cc", "Cs") for letter in inner):
            skipped.append((ascii(inner), "has characters in its path that are no text"))
        elif ending not in ENDINGS:
            skipped.append((inner, f"ends in {ending}" if ending else "has no ending"))
        elif member.repeats:
            skipped.append((inner, f"is a link to {member.repeats!r} in the archive"))
        elif member.size > PICTURE_BYTES:
            skipped.append((inner, f"has {member.size:,} bytes, {PICTURE_BYTES:,} are allowed"))
        else:
            yield inner, member.read()


def _without_shared_folders(names: list[str]) -> dict[str, str]:
    """By name: the same without the folders that all names share."""
    parts = [normalize("NFC", name).split("/") for name in names]
    shared = 0
    while all(len(path) > shared + 1 and path[shared] == parts[0][shared] for path in parts):
        shared += 1
    return {name: name.split("/", shared)[-1] for name in names}
