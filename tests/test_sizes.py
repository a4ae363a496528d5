"""The whole pipeline on pictures of other sizes, with a variant of fewer levels and a VAE."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages import (
    configure,
    download,
    evaluate,
    plot,
    preprocess,
    publish,
    reconstruct,
    references,
    train_variant,
)
from stages.common.errors import PipelineError
from stages.common.settings import Training
from stages.common.yaml_files import to_yaml
from stages.data import faces
from stages.data.crops import centre_crop, fit
from stages.measure import compute
from stages.measure.measures import MEASURES
from stages.measure.records import read
from stages.model import checkpoint
from stages.model.network import Autoencoder
from stages.model.training import Trainer
from tests.conftest import made_faces, model_settings

FEW = 2  # levels
VARIANTS = {
    "stacked": {"training": "stacked"},
    "few": {"levels": FEW},
    "stacked_vae": {"training": "stacked", "variational": True},
}
EVALUATED = {name for name, measure in MEASURES.items() if measure.splits}
TOO_SMALL = {32: {"ms_ssim", "grid_ratio", "faces_found"}, 64: {"ms_ssim"}, 256: set[str]()}


@pytest.fixture(scope="module", params=[32, 64])
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every stage on drawn faces, in a folder that has their size as its name."""
    size = request.param
    root = tmp_path_factory.mktemp("project") / str(size)
    root.mkdir()
    params = {
        "download": {"dataset": "synthetic", "count": 70},
        "preprocess": {"held_out": 0.3, "size": size},
        "train": {"epochs": 1, "batch_size": 16, "lr": 1e-3, "seeds": 1, "released_seeds": 0},
        "publish": ["stacked", "few"],
        "variants": VARIANTS,
    }
    (root / "params.yaml").write_text(to_yaml(params), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(compute, "DETECTED", 8)
        for stage in (configure, download, preprocess, references):
            stage.main()
        for name in VARIANTS:
            train_variant.main(name)
            evaluate.main(name)
        publish.main()
        plot.main()
    return root


def test_a_report_has_what_exists_at_its_size(project: Path) -> None:
    size, records = int(project.name), read(project)
    written = faces.load(project / "data/faces.npy", project / "data/faces.csv")
    assert written.images.shape == (70, size, size, 3)
    deepest = size.bit_length() - 1
    deep = {f"depth_error_{k}" for k in range(1, deepest + 1)}
    wanted = {name for name in EVALUATED if "depth" not in name} - TOO_SMALL[size]
    for model, record in records.found.items():
        measured = {name for split, name in record.measures.index.droplevel("seed")}
        few = {f"depth_error_{k}" for k in range(1, FEW + 1)}
        assert measured == wanted | (few if model.variant == "few" else deep)
        assert record.spectrum.shape == (1, size // 2 + 1)
        last = record.mean(f"depth_error_{record.settings.depth}")
        assert last == pytest.approx(record.mean("error"), rel=1e-5)
        assert record.mean("error") == pytest.approx(record.mean("mse") * 3 * size**2, rel=1e-3)
    assert records.references.inputs.shape == (8, size, size, 3)

    reports = project / "reports"
    columns = {*pd.read_csv(reports / "table1.csv").columns}
    assert not TOO_SMALL[size] & columns
    assert ("sample_faces_found" in columns) == (size == 64)
    page = (reports / "index.html").read_text(encoding="utf-8")
    for text in ((reports / "README.md").read_text(encoding="utf-8"), page):
        assert f"{3 * size**2:,} values" in text
        assert "nan" not in re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    labels = [MEASURES[name].label for name in MEASURES if name in TOO_SMALL[size]]
    told = f"Pictures of {size} pixels are too small for {', '.join(labels)}"
    report = " ".join((reports / "README.md").read_text(encoding="utf-8").split())
    assert f"{told}." in report
    for text in (report, " ".join(page.split())):  # both hold the rule of verdicts
        assert f"{told}: questions about these stay unclear." in text
        plain = re.findall(r"two values, or for ([\w, -]+) their plain difference", text)
        assert plain and not {*labels} & {*plain[0].split(", ")}
    data = json.loads(re.findall(r'id="data">(.*?)</script>', page)[0])
    assert data["faces"]["size"] == size
    assert Image.open(reports / "figures/hero.png").height > 2 * 256  # two faces, enlarged


def test_models_reconstruct_pictures_of_their_size(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    size = int(project.name)
    monkeypatch.chdir(project)
    Image.new("RGB", (size, size + 9), "red").save("red.png")
    words = ("red.png", "--variants", "few", "--crop", "centre", "--latents", "codes.npy")
    reconstruct.main(*words)
    assert np.load("codes.npy").shape == (1, 12 * (size // 4) ** 2)
    capsys.readouterr()
    other = Training(settings=model_settings(), seed=0, faces="")
    checkpoint.save(
        Autoencoder(other.settings).state_dict(), Path("o.safetensors"), other, "averaged"
    )
    for words in (("red.png",), ("--sample", "1")):
        with pytest.raises(SystemExit):
            reconstruct.main(*words, "--variants", "few", "o.safetensors")
        told = f"differ in pixels a side (few {size}, o.safetensors 128); name those of one size"
        assert told in capsys.readouterr().err.replace("\n", " ")
    shutil.copy("o.safetensors", "models/few/described/seed0/averaged.safetensors")
    with pytest.raises(SystemExit):
        evaluate.main("few")
    assert f"size 128, not {size}" in capsys.readouterr().err


def test_pictures_of_256_pixels_are_trained_on_and_have_every_measure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compute, "DETECTED", 2)
    people = made_faces(4, 256)
    images = people.images
    settings = model_settings(size=256, variational=True, epochs=1, batch_size=2)
    trainer = Trainer(Training(settings=settings, seed=0, faces=people.hash), people)
    trainer.run_epoch()
    assert {point.loss for point in trainer.curve} >= {"kl", "averaged_error"}
    model = trainer.model.eval()
    with compute.threads() as pool:
        found = compute.measure(pool, model, images[:2], images[2:])
    assert {name for split, name, *_ in found.rows if split == "test"} == EVALUATED
    assert found.spectrum.shape == (1, 129)
    assert found.samples.shape == (2, 256, 256, 3)


@pytest.mark.parametrize("size", [32, 64])
def test_a_smaller_crop_is_the_large_one_resized(size: int, tmp_path: Path) -> None:
    rows, columns = np.indices((256, 300))
    smooth = np.stack([rows * 0.9, columns * 0.8, (rows + columns) * 0.4], 2).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=100)
    picture = (tmp_path / "a.jpg").read_bytes()
    middle = smooth[64:192, 86:214].reshape(size, 128 // size, size, 128 // size, 3)
    found = centre_crop(picture, size)
    assert found.shape == (size, size, 3)
    assert np.abs(found - middle.mean((1, 3)))[2:-2, 2:-2].max() < 6
    assert fit(picture, 256).shape == (256, 256, 3)
    with pytest.raises(PipelineError, match="is 300x256 pixels; at least 257x257 needed"):
        fit(picture, 257)
