"""Archives as people have them."""

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

PEOPLE = ("Zoe", "Abel_Aguilar", "Jean-Luc_Bideau")
PICTURES = {
    f"{name}/{name}_{index:04d}.jpg": hashlib.shake_256(f"{name}{index}".encode()).digest(40_000)
    for name in PEOPLE
    for index in (2, 1)
}
CLUTTER = dict.fromkeys(
    (".DS_Store", "README.txt", "Zoe/._Zoe_0001.jpg", "Zoe/Abel_0001.jpg"), b"x"
)


def tar_bytes(files: dict[str, bytes], mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for number, (name, content) in enumerate(files.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.uid, member.mode = len(content), number, 501, 0o600
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def zip_bytes(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return buffer.getvalue()


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def under(folder: str, *parts: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{folder}{name}": content for part in parts for name, content in part.items()}


def write_copy(kind: str, folder: Path, files: dict[str, bytes]) -> Path:
    """A folder, or an archive whose name ends in `kind`, that holds `files`."""
    path = folder / f"my-copy{kind}"
    if not kind:
        return write_files(path, files)
    tar = "w" if kind == ".tar" else "w:gz"
    path.write_bytes(zip_bytes(files) if kind == ".zip" else tar_bytes(files, tar))
    return path
