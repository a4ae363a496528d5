"""`python -m stages.reconstruct`: what it shows, says and refuses."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stages import reconstruct
from stages.model.network import Autoencoder
from tests.model.test_store import keep


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Autoencoder:
    monkeypatch.chdir(tmp_path)
    keep(Path("models/stacked"), training="stacked")
    return keep(Path("models/best"), variational=True)


def picture(path: str, width: int, height: int, seed: int = 0, **how: object) -> None:
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 40, width // 40, 3), np.uint8)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(coarse).resize((width, height)).save(path, **how)  # type: ignore[arg-type]


def test_pictures_stand_beside_their_reconstructions(
    model: Autoencoder, capsys: pytest.CaptureFixture[str]
) -> None:
    picture("photo.jpg", 4000, 3000, quality=95)  # 12 megapixels
    picture("folder/deep/turned.png", 128, 128, seed=1)
    Path("folder/notes.txt").write_text("no picture", encoding="utf-8")
    Path("folder/broken.jpg").write_bytes(b"no picture")
    reconstruct.main("photo.jpg", "folder", "--variants", "stacked", "best", "-o", "to/out.png")
    told = capsys.readouterr().out
    assert "1 pictures skipped: folder/broken.jpg cannot be decoded" in told
    errors = dict(re.findall(r"^(\S+, \S+): error ([\d.]+), mean", told, re.M))
    names = ("photo.jpg", "folder/deep/turned.png")
    assert [*errors] == [f"{name}, {variant}" for name in names for variant in ("stacked", "best")]

    shown = np.asarray(Image.open("to/out.png"))
    faces = tiles(shown, rows=2, columns=3)
    pixels = np.asarray(Image.open("folder/deep/turned.png"))
    np.testing.assert_array_equal(faces[1][0], pixels)
    images = torch.from_numpy(pixels / np.float32(255)).permute(2, 0, 1)[None]
    with torch.inference_mode():
        output = model(images)
    np.testing.assert_allclose(faces[1][2], output[0].permute(1, 2, 0) * 255, atol=1)
    expected = (output - images).square().sum()
    assert float(errors["folder/deep/turned.png, best"]) == pytest.approx(float(expected), rel=1e-3)


def test_any_name_is_shown(model: Autoencoder, capsys: pytest.CaptureFixture[str]) -> None:
    picture("a\nb\t.png", 128, 128)
    reconstruct.main("a\nb\t.png", "--variants", "stacked")
    assert capsys.readouterr().out.startswith(r"'a\nb\t.png', stacked: error")


def test_the_picture_is_there_whoever_reads_what_is_printed(
    model: Autoencoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture("a.png", 128, 128)

    def closed(*words: object, **how: object) -> None:
        if "file" not in how:
            raise BrokenPipeError("Broken pipe")

    monkeypatch.setattr("builtins.print", closed)
    with pytest.raises(SystemExit):
        reconstruct.main("a.png", "--variants", "stacked")
    assert Path("reconstructions.png").exists()


def tiles(sheet: np.ndarray, rows: int, columns: int) -> list[list[np.ndarray]]:
    """The faces in a sheet: at the lower right of equal parts, two pixels for one."""
    height, width = sheet.shape[0] // rows, (sheet.shape[1] - 12) // columns
    return [
        [
            sheet[(r + 1) * height - 268 : (r + 1) * height - 12, 12 + c * width :][::2, :256:2]
            for c in range(columns)
        ]
        for r in range(rows)
    ]


def test_samples_are_drawn_anew_for_another_seed(model: Autoencoder) -> None:
    sheets = []
    for seed in ("0", "0", "1"):
        reconstruct.main("--sample", "5", "--variants", "best", "--seed", seed, "-o", "sheet.png")
        sheets.append(np.asarray(Image.open("sheet.png")))
    one, again, other = sheets
    np.testing.assert_array_equal(one, again)
    assert one.shape == other.shape and (one != other).any()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("", "give one of pictures"),
        ("lacking.jpg --variants best", "lacking.jpg does not exist"),
        ("small.png --variants best", "small.png is 90x90 pixels"),
        ("empty --variants best", "there is no picture in empty"),
        ("few --variants best", "no picture in few (1 pictures skipped: few/b.png is 60x60 pixels"),
        ("a.png", "reports/models has no models"),
        ("a.png --variants lacking", "no trained model 'lacking'; here are best, stacked"),
        ("a.png --sample 3", "give one of pictures"),
        ("a.png -o out.gif", "out.gif should end in .png"),
        ("--sample 3 --variants stacked", "only a variational model draws"),
        ("--sample 0 --variants best", "1 to 1000"),
        ("--sample 3 --variants best --seed -1", "--seed -1 is not 0 to 9223372036854775807"),
        ("--sample 3 --variants best --seed 18446744073709551616", "is not 0 to"),
        ("--sample many", "invalid int value: 'many'"),
        ("--export model.onnx", "--export takes one of --variants"),
        ("a.png --zoom 3", "unrecognized arguments: --zoom"),
    ],
)
def test_what_is_wrong_is_told_in_a_line_and_nothing_written(
    model: Autoencoder, capsys: pytest.CaptureFixture[str], words: str, told: str
) -> None:
    picture("a.png", 200, 200)
    picture("small.png", 90, 90)
    picture("few/b.png", 60, 60)
    Path("empty").mkdir()
    before = set(Path().rglob("*"))
    with pytest.raises(SystemExit) as ended:
        reconstruct.main(*words.split())
    assert ended.value.code == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert told in lines[0]
    assert set(Path().rglob("*")) == before
