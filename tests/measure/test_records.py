"""What is written of evaluated models is what is read, and nothing damaged or foreign is."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from PIL import Image

from stages.common.errors import PipelineError
from stages.common.settings import IMPLEMENTATIONS, WEIGHTS
from stages.measure.records import Model, Records, read, write_references
from tests.made_records import Made, make, write

DESCRIBED = {
    "stacked_vae": Made(),
    "64": Made([300.0, float("inf")]),
    "nan": Made([float("inf")]),
    "recursive": Made([239.0, 240.0], [250.0, 260.0]),
    "recursive_then_stacked": Made([239.0, 240.0], settings={"stacked_epochs": 1}),
}
RELEASED = {"recursive": Made([500.0]), "stacked_vae": Made()}


def assert_same(one: Records, other: Records) -> None:
    """Numbers in tables to six digits, all else exactly."""
    assert list(one.found) == list(other.found)
    assert (one.missing, one.dataset, one.images) == (other.missing, other.dataset, other.images)
    pairs = [(one.found[model], other.found[model]) for model in one.found]
    for left, right in [*pairs, (one.references, other.references)]:
        for name, value in vars(left).items():
            again = getattr(right, name)
            if isinstance(value, pd.DataFrame):
                keys = [key for key in ("seed", "epoch", "split", "loss") if key in value.columns]
                frames = [
                    f.sort_values(keys, ignore_index=True) if keys else f for f in (value, again)
                ]
                assert_frame_equal(*frames, rtol=1e-5)
            elif isinstance(value, np.ndarray):
                assert value.dtype == again.dtype, name
                np.testing.assert_array_equal(value, again, name)
            else:
                assert value == again, name


def test_what_is_written_is_read(original: Path) -> None:
    assert_same(read(original), make(DESCRIBED, RELEASED))
    grids = {path.parent.name: path for path in original.rglob("described_averaged.png")}
    assert set(grids) == {*DESCRIBED}  # git keeps no empty folder
    assert Image.open(grids["stacked_vae"]).size == (8 * 128, 2 * 128)
    assert not np.asarray(Image.open(grids["nan"])).any()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("original"), DESCRIBED, RELEASED)


@pytest.fixture
def written(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "project"))


def refused(root: Path) -> str:
    """The one line with which the records under `root` are refused."""
    with pytest.raises(PipelineError) as error:
        read(root)
    message = str(error.value)
    assert "\n" not in message and len(message) < 250 and "run `dvc repro" in message
    return message


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def without_last_seed(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(line for line in lines if ",1," not in line), encoding="utf-8")


FAULTS: dict[str, Callable[[Path], object]] = {
    "a flipped bit": flip,
    "nothing": lambda path: path.write_bytes(b""),
    "no content": lambda path: path.write_text("[]", encoding="utf-8"),
    "missing": Path.unlink,
}
FILES = [
    "records/recursive/curve.csv",
    "records/recursive/described_last_step.csv",
    "records/recursive/described_last_step.npz",
    "grids/recursive/released_averaged.png",
    "references/contents.yaml",
    "references/measures.csv",
    "references/inputs.png",
]
CASES = [(file, fault) for file in FILES for fault in FAULTS.values()]
CASES += [("records/recursive/contents.yaml", fault) for fault in [*FAULTS.values()][:-1]]
CASES += [
    ("records/recursive/described_last_step.csv", without_last_seed),
    (
        "records/recursive/described_last_step.csv",
        lambda path: path.write_bytes(path.read_bytes().replace(b"250", b"nan")),
    ),
]


@pytest.mark.parametrize(("file", "fault"), CASES)
def test_a_damaged_file_is_refused(
    written: Path, file: str, fault: Callable[[Path], object]
) -> None:
    path = written / "reports" / file
    before = path.read_bytes()
    fault(path)
    assert not path.exists() or path.read_bytes() != before
    message = refused(written)
    stage = "references" if file.startswith("references") else "evaluate@recursive"
    assert f"run `dvc repro {stage}`" in message


def test_a_variant_without_records_is_missing(written: Path) -> None:
    shutil.rmtree(written / "reports/records/recursive")
    records = read(written)
    lacking = [Model("recursive", how, kind) for how in IMPLEMENTATIONS for kind in WEIGHTS]
    for model in lacking:
        assert records.missing[model] == "not evaluated: no reports/records/recursive"
    assert not {*lacking} & {*records.found}


def test_no_bit_of_the_contents_can_flip_unseen(written: Path) -> None:
    path = written / "reports/records/64/contents.yaml"
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        refused(written)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("lr: 0.001", "lr: 0.002", "lr 0.001, not 0.002"),
        ("norm: none", "norm: shared", "norm none, not shared"),
        ("- 1\n", "- 1\n- 2\n", "seeds [0, 1], not [0, 1, 2]"),
        ("released_seeds:\n- 0", "released_seeds: []", "released_seeds [0], not []"),
    ],
)
def test_a_record_of_other_settings_is_refused(
    written: Path, old: str, new: str, told: str
) -> None:
    config = written / "configs/variants/recursive.yaml"
    text = config.read_text(encoding="utf-8")
    assert old in text
    config.write_text(text.replace(old, new, 1), encoding="utf-8")
    message = refused(written)
    assert told in message and "run `dvc repro evaluate@recursive`" in message


def test_records_of_other_faces_are_refused(written: Path) -> None:
    images = {"train": 9600, "test": 60}
    write_references(make(DESCRIBED).references, "lfw-deepfunneled", "others", images, written)
    assert "other faces" in refused(written)
    (written / "configs/download.yaml").write_text("dataset: lfw\n", encoding="utf-8")
    assert "of dataset lfw-deepfunneled, not of lfw" in refused(written)


def test_a_variant_that_is_no_longer_configured_is_not_read(written: Path) -> None:
    (written / "configs/variants/64.yaml").unlink()
    flip(written / "reports/records/64/curve.csv")
    records = read(written)
    assert {model.variant for model in records.found} == {*DESCRIBED} - {"64"}
    for path in (written / "configs/variants").iterdir():
        path.unlink()
    assert "no variant of configs/ has been evaluated yet" in refused(written)


def test_reading_takes_no_torch() -> None:
    code = "import sys, stages.measure.records, stages.measure.measures as m; "
    code += "sys.exit('torch' in sys.modules or not m.MEASURES)"
    subprocess.run([sys.executable, "-c", code], check=True)
