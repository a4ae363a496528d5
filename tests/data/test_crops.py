"""The crops and the split by person, and the faces as the other stages see them."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from stages import preprocess
from stages.common.errors import PipelineError
from stages.data import drawn_faces, faces
from stages.data.archives import write_tar
from stages.preprocess import centre_crop, held_out_people, write_faces

OUTPUTS = ("faces.npy", "faces.csv")


def encoded(pixels: np.ndarray) -> bytes:
    """PNG, which keeps every pixel; what a picture is called does not matter to Pillow."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def people(number: int, start: int = 0) -> dict[str, bytes]:
    """One picture, unlike any other, of each of `number` people."""
    names = (f"Person_{index:05d}" for index in range(start, start + number))
    return {f"{name}/{name}_0001.jpg": name.encode() for name in names}


@pytest.fixture(scope="module")
def drawn() -> dict[str, bytes]:
    return drawn_faces.pictures(64)


def test_crop_is_rows_and_columns_61_to_188_of_250() -> None:
    pixels = noise(250, 250, 3)
    crop = centre_crop("A/A_0001.jpg", encoded(pixels))
    assert crop.dtype == np.uint8
    np.testing.assert_array_equal(crop, pixels[61:189, 61:189])


def test_crop_of_other_sizes_is_central() -> None:
    pixels = noise(128, 200, 3)
    np.testing.assert_array_equal(centre_crop("A", encoded(pixels)), pixels[:, 36:164])


def test_grey_pictures_become_rgb() -> None:
    pixels = noise(128, 128)
    np.testing.assert_array_equal(centre_crop("A", encoded(pixels)), np.stack([pixels] * 3, -1))


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (b"not a picture", "A/A_0001.jpg cannot be decoded"),
        (encoded(noise(250, 250, 3))[:90_000], "A/A_0001.jpg cannot be decoded"),
        (encoded(noise(127, 250, 3)), "A/A_0001.jpg is 250x127 pixels; at least 128x128"),
        (encoded(noise(250, 127, 3)), "A/A_0001.jpg is 127x250 pixels; at least 128x128"),
    ],
)
def test_bad_picture_is_named_and_both_outputs_stay(
    picture: bytes, message: str, drawn: dict[str, bytes], tmp_path: Path
) -> None:
    write_faces(drawn, 0.3, tmp_path, tmp_path / "partial")
    before = {name: (tmp_path / name).read_bytes() for name in OUTPUTS}
    with pytest.raises(PipelineError, match=message):
        write_faces(drawn | {"A/A_0001.jpg": picture}, 0.5, tmp_path, tmp_path / "partial")
    assert {name: (tmp_path / name).read_bytes() for name in OUTPUTS} == before
    assert list((tmp_path / "partial").iterdir()) == []


def test_held_out_is_about_the_share_of_people_asked_for() -> None:
    pictures = people(4000)
    for held_out in (0.08, 0.5):
        expected, deviation = 4000 * held_out, np.sqrt(4000 * held_out * (1 - held_out))
        assert abs(len(held_out_people(pictures, held_out)) - expected) < 4 * deviation
    assert held_out_people(pictures, 0.08) < held_out_people(pictures, 0.5)


def test_nobody_changes_sides_when_pictures_are_added() -> None:
    before = people(500)
    more = {f"{path[:-5]}2.jpg": content + b"2" for path, content in before.items()}
    after = people(500, start=500) | more | before
    old = {path.split("/")[0] for path in before}
    assert held_out_people(after, 0.3) & old == held_out_people(before, 0.3)
    assert held_out_people(dict(reversed(after.items())), 0.3) == held_out_people(after, 0.3)


def test_people_with_identical_pictures_follow_the_first_of_them() -> None:
    pictures = people(300)
    alone = held_out_people(pictures, 0.5)
    names = sorted(path.split("/")[0] for path in pictures)
    # Chains of three: the first shares a picture with the last, the last with the middle one.
    for first, middle, last in zip(names[::3], names[1::3], names[2::3], strict=True):
        pictures |= {f"{first}/{first}_0002.jpg": f"one {first}".encode()}
        pictures |= {f"{last}/{last}_0002.jpg": f"one {first}".encode()}
        pictures |= {f"{last}/{last}_0003.jpg": f"two {first}".encode()}
        pictures |= {f"{middle}/{middle}_0002.jpg": f"two {first}".encode()}
    linked = held_out_people(pictures, 0.5)
    for index, name in enumerate(names):
        assert (name in linked) == (names[index - index % 3] in alone)
    assert linked != alone
    assert held_out_people(dict(reversed(pictures.items())), 0.5) == linked


def test_rows_are_in_bytewise_path_order_and_nobody_is_on_both_sides(tmp_path: Path) -> None:
    pictures = {}
    for value, name in enumerate(("Zoe", "A_B", "A-B", "Ab", "AB", "A", "Al", "Alf", "Bo", "Cy")):
        for index in (2, 1):
            pixels = np.full((128, 128, 3), 10 * value + index, np.uint8)
            pictures[f"{name}/{name}_{index:04d}.jpg"] = encoded(pixels)
    write_faces(pictures, 0.5, tmp_path, tmp_path / "partial")
    written = faces.load(tmp_path / "faces.npy", tmp_path / "faces.csv")
    assert written.paths.tolist() == sorted(pictures, key=str.encode)
    for row, path in enumerate(written.paths):
        np.testing.assert_array_equal(written.images[row], centre_crop(path, pictures[path]))
    assert written.people.tolist() == [path.split("/")[0] for path in written.paths]
    train, test = written.rows("train"), written.rows("test")
    assert not set(written.people[train]) & set(written.people[test])
    assert sorted([*train, *test]) == written.rows("all").tolist() == list(range(20))
    assert set(written.people[test]) == held_out_people(pictures, 0.5)


def test_a_split_without_people_is_refused(drawn: dict[str, bytes], tmp_path: Path) -> None:
    for held_out in (1e-9, 1 - 1e-9):
        with pytest.raises(PipelineError, match=r"held_out \S+ puts \d+ of \d+ people into"):
            write_faces(drawn, held_out, tmp_path, tmp_path / "partial")
    assert not any((tmp_path / name).exists() for name in OUTPUTS)


def test_the_stage_reads_the_dataset_that_params_names(
    drawn: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
    params["download"]["dataset"] = "synthetic"
    params["preprocess"]["held_out"] = 0.4
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    write_tar(drawn, tmp_path / "data/synthetic.tar")
    preprocess.main()
    written = faces.load()
    assert written.images.shape == (64, 128, 128, 3)
    assert set(written.people[written.rows("test")]) == held_out_people(drawn, 0.4)
    with (tmp_path / "data/faces.csv").open(newline="") as file:
        assert next(csv.reader(file)) == ["path", "person", "split"]
    with pytest.raises(ValueError, match="read-only"):
        written.images[0] = 0
    with pytest.raises(ValueError, match="'validation'"):
        written.rows("validation")

    (tmp_path / "data/synthetic.tar").unlink()
    with pytest.raises(SystemExit):
        preprocess.main()


def test_missing_or_mismatched_faces_are_explained(tmp_path: Path) -> None:
    pixels, table = tmp_path / "faces.npy", tmp_path / "faces.csv"
    with pytest.raises(PipelineError, match=r"faces.npy is missing; run `dvc repro preprocess`"):
        faces.load(pixels, table)
    np.save(pixels, noise(2, 128, 128, 3))
    table.write_text("path,person,split\nA/A_0001.jpg,A,train\n")
    with pytest.raises(PipelineError, match="1 rows"):
        faces.load(pixels, table)
    pixels.write_bytes(b"damage")
    with pytest.raises(PipelineError, match="cannot be read"):
        faces.load(pixels, table)


def test_to_tensor_moves_channels_first_and_scales_to_one() -> None:
    import torch

    images = noise(3, 128, 128, 3)
    images.flags.writeable = False  # as mapped from disk
    tensor = faces.to_tensor(images)
    assert tensor.dtype == torch.float32
    assert tensor.is_contiguous()
    np.testing.assert_array_equal(
        tensor.numpy(), images.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    )
