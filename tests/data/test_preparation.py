"""data/faces.npy and faces.csv: written whole or not at all, and as the other stages see them."""

import io
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stages import download, preprocess
from stages.common.errors import PipelineError
from stages.data import faces
from stages.data.crops import centre_crop, fit
from stages.data.people import held_out_people
from stages.data.pictures import read_tar, store, tell_skipped
from stages.data.preparation import BATCH, prepare
from stages.data.sources.synthetic.drawn_faces import draw
from tests.data.made_archives import write_files

OUTPUTS = ("faces.npy", "faces.csv")


@pytest.fixture(scope="module")
def drawn() -> dict[str, bytes]:
    return dict(draw(BATCH + 6))


def loaded(folder: Path) -> faces.Faces:
    return faces.load(folder / "faces.npy", folder / "faces.csv")


def noise(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (128, 128, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def test_rows_are_in_bytewise_path_order_and_nobody_is_on_both_sides(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = {}
    for value, name in enumerate(("Zoe", "A_B", "A-B", "Ab", "AB", "A", "Al", "Alf", "Bo", "Bö")):
        for index in (2, 1):
            pictures[f"{name}/{name}_{index:04d}.jpg"] = noise(10 * value + index)
    assert prepare(pictures, centre_crop, 0.5, tmp_path) == []
    assert "only the case of letters differs: AB, Ab\n" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(OUTPUTS)
    written = loaded(tmp_path)
    assert written.paths.tolist() == sorted(pictures, key=str.encode)
    for row, path in enumerate(written.paths):
        np.testing.assert_array_equal(written.images[row], centre_crop(pictures[path]))
    assert written.people.tolist() == [path.split("/")[0] for path in written.paths]
    train, test = written.rows("train"), written.rows("test")
    assert not set(written.people[train]) & set(written.people[test])
    assert sorted([*train, *test]) == written.rows("all").tolist() == list(range(20))
    assert set(written.people[test]) == held_out_people(pictures, 0.5)


def test_a_bad_picture_is_named_and_both_outputs_stay(
    drawn: dict[str, bytes], tmp_path: Path
) -> None:
    prepare(drawn, centre_crop, 0.3, tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in OUTPUTS}
    bad = drawn | {"Zoe/Zoe_0001.jpg": b"not a picture"}
    with pytest.raises(PipelineError, match=r"^Zoe/Zoe_0001.jpg cannot be decoded: it is no JPEG"):
        prepare(bad, centre_crop, 0.5, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_bad_pictures_are_left_out_where_that_is_asked_for(
    drawn: dict[str, bytes], tmp_path: Path
) -> None:
    bad = {"Person_0002/a.jpg": b"", "A/a.jpg": b"x", "Zoe/Zoe_0001.jpg": b"not a picture"}
    skipped = prepare(drawn | bad, fit, 0.3, tmp_path / "with", skip=True)
    assert [name for name, _ in skipped] == sorted(bad)
    reason = "cannot be decoded: it is no JPEG or PNG or WEBP or BMP"
    assert tell_skipped(skipped) == f"3 files skipped: {reason} (3): {', '.join(sorted(bad))}"
    many = [*skipped * 100, ("a.gif", "ends in .gif")]
    assert len(tell_skipped(many)) < 3000
    assert tell_skipped(many).endswith("and 280 more; ends in .gif (1): a.gif")
    assert prepare(drawn, fit, 0.3, tmp_path / "without", skip=True) == []
    for name in OUTPUTS:
        one, other = ((tmp_path / kind / name).read_bytes() for kind in ("with", "without"))
        assert one == other


def test_a_split_without_people_is_refused(drawn: dict[str, bytes], tmp_path: Path) -> None:
    for held_out in (1e-9, 1 - 1e-9):
        with pytest.raises(PipelineError, match=r"held_out \S+ puts \d+ of \d+ people into"):
            prepare(drawn, centre_crop, held_out, tmp_path)
    with pytest.raises(PipelineError, match=r"puts 0 of 0 people.*cannot be decoded.*: a\.jpg"):
        prepare({"a.jpg": b""}, fit, 0.5, tmp_path, skip=True)
    assert list(tmp_path.iterdir()) == []


def test_drawn_faces_need_no_network_and_are_prepared(
    drawn: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    download_config = f"dataset: synthetic\ncount: {len(drawn)}".encode()
    configs = {"download": download_config, "preprocess": b"held_out: 0.4"}
    write_files(tmp_path, {f"configs/{name}.yaml": text for name, text in configs.items()})
    download.main()
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["synthetic.tar"]
    assert dict(read_tar(tmp_path / "data/synthetic.tar")) == drawn
    preprocess.main()
    written = faces.load()
    assert written.images.shape == (len(drawn), 128, 128, 3)
    assert set(written.people[written.rows("test")]) == held_out_people(drawn, 0.4)
    table = (tmp_path / "data/faces.csv").read_text(encoding="utf-8")
    assert table.startswith("path,person,split\n")
    with pytest.raises(ValueError, match="read-only"):
        written.images[0] = 0
    with pytest.raises(ValueError, match="'validation'"):
        written.rows("validation")
    (tmp_path / "data/synthetic.tar").unlink()
    with pytest.raises(SystemExit):
        preprocess.main()


def test_a_store_that_fails_keeps_no_file_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From 3.14 on Python itself tells of a file that is dropped with what the disk cannot hold."""
    file = tempfile.TemporaryFile(dir=tmp_path)  # noqa: SIM115  # as in store
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **options: file)
    with pytest.raises(PipelineError, match="more than 2 bytes in all"):
        store([("A/A_0001.jpg", b"12"), ("A/A_0002.jpg", b"3")], 2, tmp_path)
    assert file.closed


def test_missing_or_mismatched_faces_are_explained(tmp_path: Path) -> None:
    pixels, table = tmp_path / "faces.npy", tmp_path / "faces.csv"
    with pytest.raises(PipelineError, match=r"faces.npy is missing; run `dvc repro preprocess`"):
        faces.load(pixels, table)
    np.save(pixels, np.zeros((2, 128, 128, 3), np.uint8))
    table.write_text("path,person,split\nA/A_0001.jpg,A,train\n", encoding="utf-8")
    with pytest.raises(PipelineError, match="1 rows; run `dvc repro -f -s preprocess`"):
        faces.load(pixels, table)
    for damage in (b"damage", b"\x93NUMPY\1\0v\0{", np.array([object()], object).dumps()):
        pixels.write_bytes(damage)
        with pytest.raises(PipelineError, match="cannot be read"):
            faces.load(pixels, table)


def test_the_hash_is_of_all_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faces, "HASHED", 10)
    images = np.random.default_rng(0).integers(0, 256, (25, 128, 128, 3), np.uint8)
    names = np.array([f"{index}/a.jpg" for index in range(25)])
    splits = np.array(["train"] * 20 + ["test"] * 5)
    first = faces.Faces(images, names, names, splits)
    assert first.hash == faces.Faces(images.copy(), names, names, splits).hash
    assert len(first.hash) == 64
    for row in (0, 9, 10, 24):
        changed = images.copy()
        changed[row, 127, 127, 2] ^= 1
        assert faces.Faces(changed, names, names, splits).hash != first.hash
    other = splits.copy()
    other[19] = "test"
    assert faces.Faces(images, names, names, other).hash != first.hash
    assert faces.Faces(images[:-1], names[:-1], names[:-1], splits[:-1]).hash != first.hash


def test_to_tensor_moves_channels_first_and_scales_to_one() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), np.uint8)
    images.flags.writeable = False  # as mapped from disk
    tensor = faces.to_tensor(images)
    assert tensor.dtype == torch.float32 and tensor.is_contiguous()
    np.testing.assert_array_equal(tensor, images.transpose(0, 3, 1, 2) / np.float32(255))
