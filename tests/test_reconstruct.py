"""`python -m stages.reconstruct`: what it shows, says and refuses."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stages import reconstruct
from stages.data import given
from stages.data.pictures import tell_skipped
from stages.data.sources.synthetic.drawn_faces import draw
from stages.measure import clarity
from stages.model.network import Autoencoder
from tests.model.test_store import keep


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Autoencoder]:
    """A folder with two models, and the second of them."""
    models = tmp_path_factory.mktemp("kept") / "models"
    keep(models / "stacked", training="stacked", size=None)
    return models, keep(models / "best", variational=True, size=None)


@pytest.fixture
def model(
    kept: tuple[Path, Autoencoder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Autoencoder:
    monkeypatch.chdir(tmp_path)
    Path("models").symlink_to(kept[0])
    return kept[1]


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
    assert "2 files skipped: cannot be decoded: it is no JPEG or" in told
    assert "ends in .txt (1): folder/notes.txt" in told
    errors = dict(re.findall(r"^(\S+ \(centre\), \S+): error ([\d.]+), mean", told, re.M))
    names = ("photo.jpg", "folder/deep/turned.png")
    assert [*errors] == [
        f"{name} (centre), {variant}" for name in names for variant in ("stacked", "best")
    ]

    pixels, output, _, error = shown_to(model, "folder/deep/turned.png")
    # Faces stand at the lower right of equal parts of the sheet, two pixels for one.
    sheet = np.asarray(Image.open("to/out.png"))
    below, width = sheet[-268:-12, 12:][::2, ::2], (sheet.shape[1] - 12) // 6
    np.testing.assert_array_equal(below[:, :128], pixels)
    np.testing.assert_allclose(below[:, 2 * width :][:, :128], output, atol=1)
    told = float(errors["folder/deep/turned.png (centre), best"])
    assert told == pytest.approx(error, rel=1e-3)


def shown_to(model: Autoencoder, path: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """The pixels of a picture, what the model makes of them, its code, and the error."""
    pixels = np.asarray(Image.open(path))
    image = torch.from_numpy(pixels / np.float32(255)).permute(2, 0, 1)[None]
    with torch.inference_mode():
        code, output = model.encode(image).flatten(1), model(image)
    error = float((output - image).square().sum())
    return pixels, output[0].permute(1, 2, 0).numpy() * 255, code.numpy(), error


def test_any_name_is_shown(model: Autoencoder, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("a\nb\t.png", "\u540d.png")  # the sheet's font lacks the latter
    for name in names:
        picture(name, 128, 128)
    reconstruct.main(*names, "--variants", "stacked")
    first, second, _ = capsys.readouterr().out.splitlines()
    assert first.startswith(r"'a\nb\t.png' (centre), stacked: error")
    assert second.startswith("picture 2, \u540d.png (centre), stacked: error")


def test_the_largest_face_is_shown_wherever_it_is(model: Autoencoder) -> None:
    faces = [Image.open(io.BytesIO(content)) for _, content in draw(8)]
    face = next(face for face in faces if clarity.detect(np.asarray(face)[None, 61:189, 61:189])[0])
    scene = Image.new("RGB", (1600, 1200), "darkgreen")
    scene.paste(face.resize((700, 700)), (850, 300))
    scene.save("scene.png")
    Image.new("RGB", (300, 300)).save("without.png")
    (_, where, pixels, _) = given.read(["scene.png", "without.png"], 10, "face", 128)
    assert where == ["face", "centre"]
    expected = np.asarray(face.resize((128, 128), box=(61, 61, 189, 189))).astype(float)
    shown = pixels[0].astype(float)
    assert np.corrcoef(shown.ravel(), expected.ravel())[0, 1] > 0.7
    assert given.read(["scene.png"], 10, "centre", 128).crops == ["centre"]


def test_the_first_pictures_are_shown_and_the_rest_counted(tmp_path: Path) -> None:
    for number in range(12):
        picture(f"{tmp_path}/few/photo{number}.png", 128, 128, seed=number)
    few = given.read([f"{tmp_path}/few"], 5, "face", 128)
    assert few.names == [f"few/photo{number}.png" for number in range(5)]
    assert "7 files skipped: beyond the first 5 pictures (7): " in tell_skipped(few.skipped)


def test_numbers_are_for_programs_too(
    model: Autoencoder, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("reports/metrics").mkdir(parents=True)
    Path("reports/metrics/best.json").write_text('{"averaged_error": 12.34}', encoding="utf-8")
    picture("a.png", 128, 128)
    reconstruct.main("a.png", "--variants", "best")
    assert ", held out 12.3 on average, mean squared" in capsys.readouterr().out
    reconstruct.main("a.png", "--json", "--latents", "codes.npy", "--variants", "best")
    told = json.loads(capsys.readouterr().out)
    *_, codes, error = shown_to(model, "a.png")
    errors = {"best": pytest.approx(error, rel=1e-3)}
    assert told == {
        "pictures": [{"name": "a.png", "crop": "centre", "errors": errors}],
        "held_out": {"best": 12.34},
        "skipped": [],
    }
    np.testing.assert_allclose(np.load("codes.npy"), codes, atol=1e-5)


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
        ("few --variants best", "no picture in few (1 files skipped: is 60x60 pixels; at least"),
        ("a.png", "reports/models has no models"),
        ("a.png --variants lacking", "no trained model 'lacking'; here are best, stacked"),
        ("a.png --sample 3", "give one of pictures"),
        ("a.png -o out.gif", "out.gif should end in .png"),
        ("a.png --variants best -o few/../a.png", "few/../a.png is one of the pictures"),
        ("few --variants best -o few/b.png", "few/b.png is one of the pictures"),
        ("a.png --variants best --latents codes", "codes should end in .npy"),
        ("a.png --latents codes.npy", "--latents takes one of --variants"),
        ("--sample 3 --variants best --json", "--latents and --json are for pictures"),
        ("a.png --crop left", "invalid choice: 'left'"),
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
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert set(Path().rglob("*")) == before
