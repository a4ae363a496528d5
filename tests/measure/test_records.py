"""What is written of evaluated models is what is read, and nothing damaged or foreign is."""

import hashlib
import io
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from itertools import product, starmap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from PIL import Image

from stages.common.errors import PipelineError
from stages.common.settings import IMPLEMENTATIONS, WEIGHTS
from stages.measure.records import Model, Records, read, write_references
from tests.conftest import flip
from tests.made_records import DATASET, SPLITS, Made, make, write

DESCRIBED = {
    "stacked_vae": Made(),
    "64": Made([300.0, float("inf")]),
    "nan": Made([float("inf")]),
    "recursive": Made([239.0, 240.0], [250.0, 260.0]),
    "recursive_then_stacked": Made([239.0, 240.0], settings={"stacked_epochs": 1}),
}
SEAL = b"# SHA-256 of all above: "
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
                if keys:
                    value, again = (f.sort_values(keys, ignore_index=True) for f in (value, again))
                assert_frame_equal(value, again, rtol=1e-5)
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


FAULTS: list[Callable[[Path], object]] = [flip, lambda path: path.write_bytes(b""), Path.unlink]
FILES = [
    "records/recursive/curve.csv",
    "records/recursive/described_last_step.csv",
    "records/recursive/described_last_step.npz",
    "grids/recursive/released_averaged.png",
    "references/contents.yaml",
    "references/measures.csv",
    "references/inputs.png",
]
CASES = [*product(FILES, FAULTS), *product(["records/recursive/contents.yaml"], FAULTS[:-1])]


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


def packed(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def png(width: int, height: int) -> bytes:
    """A picture of so many pixels, of which the file has none."""
    made = b"\x89PNG\r\n\x1a\n"
    for chunk in (b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT"):
        made += struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return made


def reseal(root: Path, old: bytes, new: bytes) -> None:
    """Change the contents of a record, and seal them again."""
    contents = root / "reports" / CONTENTS
    text = contents.read_bytes().partition(SEAL)[0].replace(old, new)
    contents.write_bytes(text + SEAL + hashlib.sha256(text).hexdigest().encode() + b"\n")


def replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    return lambda data: data.replace(old, new, 1)


NAMES = ("curve.csv", "described_last_step.csv", "described_last_step.npz", "contents.yaml")
CURVE, CSV, NPZ, CONTENTS = (f"records/recursive/{name}" for name in NAMES)
GRID = "grids/recursive/described_last_step.png"
SPARSE = np.zeros(2**26 + 1, np.int8)  # 64 MB, packed to 64 kB
ZEROS = {"test_error": np.zeros((2, 60), np.float16), "spectrum": np.zeros((2, 65), np.float32)}
MADE_BY_OTHERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "text for numbers": (CSV, replaced(b",250,", b",much,")),
    "text in a curve": (CURVE, replaced(b"described,0,1", b"described,zero,1")),
    "no column": (CSV, replaced(b"standard_error", b"error")),
    "the same row twice": (CSV, lambda data: data + data.splitlines(keepends=True)[-1]),
    "another seed": (CSV, replaced(b"error,1,", b"error,7,")),
    "a packed array of 64 MB": (NPZ, lambda _: packed(**ZEROS | {"more": SPARSE})),
    "other images": (NPZ, lambda _: packed(**ZEROS | {"test_error": np.zeros((2, 59))})),
    "objects": (NPZ, lambda _: packed(**ZEROS | {"spectrum": np.array([[None] * 65] * 2)})),
    "whole numbers": (NPZ, lambda _: packed(**ZEROS | {"spectrum": np.zeros((2, 65), int)})),
    "no array": (NPZ, lambda _: packed(spectrum=ZEROS["spectrum"])),
    "30,000 x 30,000 pixels": (GRID, lambda _: png(30_000, 30_000)),
    "10,000 x 10,000 pixels": (GRID, lambda _: png(10_000, 10_000)),
    "no pixels": (GRID, lambda _: png(128, 128)),
    "no square faces": (GRID, lambda _: png(128, 100)),
    "a large file": (GRID, lambda _: bytes(2**26 + 1)),
    "a mapping in a file name": (CONTENTS, replaced(b"files:\n", b"files:\n  ? [a]\n  : b\n")),
    "no YAML": (CONTENTS, lambda _: b"a: [\n"),
    "nested lists": (CONTENTS, lambda _: b"[" * 3000),
    "no text": (CONTENTS, lambda _: b"\xff\n"),
}


@pytest.mark.parametrize(("file", "change"), MADE_BY_OTHERS.values(), ids=MADE_BY_OTHERS.keys())
def test_a_record_of_others_making_is_refused_in_one_line(
    written: Path, file: str, change: Callable[[bytes], bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    """Its hashes are right, its content is not."""
    path = written / "reports" / file
    before = path.read_bytes()
    after = change(before.partition(SEAL)[0])
    path.write_bytes(after)
    reseal(written, *(hashlib.sha256(x).hexdigest().encode() for x in (before, after)))
    assert after != before
    assert "evaluate@recursive" in refused(written)
    assert capfd.readouterr() == ("", "")


def test_a_file_elsewhere_is_never_read(written: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "waits")  # who opens it, hangs
    reseal(written, b"files:\n", b"files:\n  ../../../waits: abc\n")
    assert_same(read(written), make(DESCRIBED, RELEASED))


def test_a_variant_without_records_is_missing(written: Path) -> None:
    shutil.rmtree(written / "reports/records/recursive")
    records = read(written)
    for model in starmap(Model, product(["recursive"], IMPLEMENTATIONS, WEIGHTS)):
        assert records.missing[model] == "not evaluated: no reports/records/recursive"
        assert model not in records.found


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
        ("norm: none", "norm: shared", "norm 'none', not 'shared'"),
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
    write_references(make(DESCRIBED).references, DATASET, "others", SPLITS, written)
    assert "other faces" in refused(written)
    (written / "configs/download.yaml").write_text("dataset: lfw\n", encoding="utf-8")
    assert f"of dataset {DATASET}, not of lfw" in refused(written)


def test_a_variant_that_is_no_longer_configured_is_not_read(written: Path) -> None:
    (written / "configs/variants/64.yaml").unlink()
    flip(written / "reports/records/64/curve.csv")
    records = read(written)
    assert {model.variant for model in records.found} == {*DESCRIBED} - {"64"}
    for path in (written / "configs/variants").iterdir():
        path.unlink()
    assert "no variant of configs/ has been evaluated yet" in refused(written)


def test_what_was_not_measured_is_an_empty_table(original: Path) -> None:
    records = read(original)
    record = records.found[Model("recursive", "described", "averaged")]
    for measure, split in (("coherence", "test"), ("error", "samples"), ("nothing", "test")):
        found = record.per_seed(measure, split)
        assert not len(found) and list(found) == ["value", "standard_error", "n"]
        assert found.index.name == "seed" and np.isnan(record.mean(measure, split))
    assert "ssim" in records.measures and "coherence" not in records.measures
