"""What evaluate writes, against the models it measured and the images it measured them on."""

import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from stages import evaluate
from stages.data import faces
from stages.measure import fidelity
from stages.model import network
from stages.model.losses import level_losses
from stages.model.network import Autoencoder
from tests.conftest import model_settings

TRAIN, TEST = 30, 18  # held-out images fill a batch and a part of one
DETECTED, NOISE, SAMPLE = 7, 3, 20
PLAIN = model_settings(name="plain", norm="batch", seeds=[0, 3])
DRAWING = model_settings(name="drawing", training="stacked", variational=True)
TWIN = DRAWING.model_copy(
    update={"name": "published_drawing", "wiring": "published", "seeds": [2, 5]}
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smooth coloured images, every third held out, and untrained models."""
    root = tmp_path_factory.mktemp("project")
    (root / "data").mkdir()
    coarse = np.random.default_rng(0).integers(0, 256, (TRAIN + TEST, 8, 8, 3), np.uint8)
    np.save(root / "data/faces.npy", coarse.repeat(16, axis=1).repeat(16, axis=2))
    held_out = np.linspace(0, TRAIN + TEST - 1, TEST).round().astype(int)
    splits = np.full(TRAIN + TEST, "train", dtype=object)
    splits[held_out] = "test"
    names = [f"P{i:02d}" for i in range(TRAIN + TEST)]
    paths = [f"{name}/{name}_0001.jpg" for name in names]
    table = pd.DataFrame({"path": paths, "person": names, "split": splits})
    table.to_csv(root / "data/faces.csv", index=False)
    (root / "configs").mkdir()
    for variant, models in {"plain": [PLAIN], "drawing": [DRAWING, TWIN]}.items():
        config = yaml.safe_dump([settings.model_dump() for settings in models])
        (root / f"configs/{variant}.yaml").write_text(config)
        folder = root / "models" / variant
        folder.mkdir(parents=True)
        for settings, seed in [(model, seed) for model in models for seed in model.seeds]:
            torch.manual_seed(seed)
            model = Autoencoder(settings)
            with torch.no_grad():  # untrained models would all err alike
                model.decoder[0].bias += 0.2 * seed
            network.save(model, folder / network.weights_file(settings, seed))
        (folder / "curve.csv").write_text("a training curve\n")
    return root


def weights(root: Path, name: str, seed: int) -> Path:
    return root / f"models/{name}/seed{seed}.safetensors"


@pytest.fixture(scope="module")
def evaluated(project: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        run(patch, project, "plain")
        run(patch, project, "drawing")
    return project


def run(patch: pytest.MonkeyPatch, root: Path, variant: str) -> None:
    patch.chdir(root)
    patch.setattr(evaluate, "DETECTED", DETECTED)
    patch.setattr(evaluate, "NOISE", NOISE)
    patch.setattr(evaluate, "TRAINING_SAMPLE", SAMPLE)
    evaluate.main(variant)


def written(root: Path) -> dict[str, bytes]:
    found = [*root.glob("reports/**/*"), *root.glob("data/evaluations/*/*")]
    return {str(path.relative_to(root)): path.read_bytes() for path in found if path.is_file()}


def table(root: Path, model: str) -> pd.DataFrame:
    """The rows of one model, without its name."""
    rows = pd.read_csv(root / f"reports/evaluations/{model.removeprefix('published_')}.csv")
    return rows[rows["model"] == model].drop(columns="model")


def value(rows: pd.DataFrame, measure: str, split: str = "test", seed: int = 0) -> float:
    (chosen,) = rows[(rows.measure == measure) & (rows.split == split) & (rows.seed == seed)].value
    return chosen


def arrays(root: Path, model: str) -> dict[str, np.ndarray]:
    variant = model.removeprefix("published_")
    with np.load(root / f"data/evaluations/{variant}/{model}.npz") as file:
        return dict(file)


def held_out(root: Path) -> tuple[np.ndarray, torch.Tensor]:
    found = faces.load(root / "data/faces.npy", root / "data/faces.csv")
    images = found.images[found.rows("test")]
    return images, faces.to_tensor(images)


@torch.inference_mode()
def reconstructed(root: Path, images: torch.Tensor, seed: int, depth: int = 7) -> torch.Tensor:
    model, _ = network.load(weights(root, "plain", seed))
    return model.reconstruct(images, depth)


def test_it_writes_a_variants_files_and_nothing_else(evaluated):
    names = [
        path
        for name in ("plain", "drawing")
        for path in (
            f"reports/metrics/{name}.json",
            f"reports/evaluations/{name}.csv",
            f"data/evaluations/{name}/{name}.npz",
            f"data/evaluations/{name}/curve.csv",
        )
    ]
    names.append("data/evaluations/drawing/published_drawing.npz")
    assert sorted(written(evaluated)) == sorted(names)


def test_the_headline_has_the_same_flat_keys_for_every_variant(evaluated):
    plain, drawing = (
        json.loads((evaluated / f"reports/metrics/{name}.json").read_text())
        for name in ("plain", "drawing")
    )
    keys = "test_error test_error_sd test_error_se mse psnr ssim train_error train_error_sd n "
    keys += "published_test_error published_test_error_sd published_train_error published_n"
    assert list(plain) == list(drawing) == keys.split()
    assert (plain["published_test_error"], plain["published_n"]) == (None, None)
    twin = table(evaluated, "published_drawing").query("measure == 'error'")
    by_split = twin.groupby("split").value
    assert drawing["published_test_error"] == pytest.approx(by_split.mean()["test"], rel=1e-5)
    assert drawing["published_test_error_sd"] == pytest.approx(by_split.std()["test"], rel=1e-3)
    assert drawing["published_train_error"] == pytest.approx(by_split.mean()["train"], rel=1e-5)
    assert drawing["published_n"] == 2
    assert (plain["n"], drawing["n"]) == (2, 1)
    assert drawing["test_error_sd"] is None and drawing["train_error_sd"] is None
    seeds = table(evaluated, "plain").query("measure == 'error' and split == 'test'")
    assert plain["test_error"] == pytest.approx(seeds.value.mean(), rel=1e-5)
    assert plain["test_error_sd"] == pytest.approx(seeds.value.std(), rel=1e-3)
    assert plain["test_error_se"] == pytest.approx(seeds.standard_error.mean(), rel=1e-5)
    sampled = table(evaluated, "plain").query("measure == 'error' and split == 'train'")
    assert plain["train_error"] == pytest.approx(sampled.value.mean(), rel=1e-5)
    assert plain["train_error_sd"] == pytest.approx(sampled.value.std(), rel=1e-3)


def test_the_table_has_every_measure_once_a_seed(evaluated):
    both = "error mse psnr ssim"
    depths = " ".join(f"level_mse_{k} depth_error_{k}" for k in range(1, 8))
    test = (
        f"{both} {depths} ms_ssim high_frequency_ratio grid_ratio colour_shift contrast_ratio "
        "faces_found input_faces_found noise_faces_found"
    )
    expected = {"train": both.split(), "test": test.split()}
    rows = table(evaluated, "plain")
    assert list(rows) == ["seed", "split", "measure", "value", "standard_error", "n"]
    found = {key: sorted(group.measure) for key, group in rows.groupby(["seed", "split"])}
    assert found == {
        (seed, split): sorted(measures) for seed in (0, 3) for split, measures in expected.items()
    }
    drawn = table(evaluated, "drawing").query("split == 'samples'")
    assert list(drawn.measure) == ["faces_found"]


def test_the_table_says_on_how_many_images_a_measure_rests(evaluated):
    rows = table(evaluated, "drawing").set_index(["split", "measure"]).n
    assert rows["train", "error"] == SAMPLE
    assert rows["test", "error"] == rows["test", "grid_ratio"] == TEST
    assert rows["test", "faces_found"] == rows["test", "input_faces_found"] == DETECTED
    assert rows["samples", "faces_found"] == DETECTED
    assert rows["test", "noise_faces_found"] == NOISE


@pytest.mark.parametrize("seed", [2, 5])
def test_a_model_with_the_authors_wiring_is_measured_from_its_own_weights(evaluated, seed):
    _, images = held_out(evaluated)
    model, settings = network.load(evaluated / f"models/drawing/published_seed{seed}.safetensors")
    assert settings.wiring == "published"
    with torch.inference_mode():
        expected = fidelity.squared_error(model.reconstruct(images), images).mean().item()
    rows = table(evaluated, "published_drawing")
    assert value(rows, "error", seed=seed) == pytest.approx(expected, rel=1e-5)
    assert set(rows.measure) == set(table(evaluated, "drawing").measure)


@pytest.mark.parametrize("seed", [0, 3])
def test_the_error_is_the_squared_error_of_the_models_own_reconstructions(evaluated, seed):
    _, images = held_out(evaluated)
    expected = (reconstructed(evaluated, images, seed) - images).double().square().sum((1, 2, 3))
    found = arrays(evaluated, "plain")["test_error"]
    assert found.shape == (2, TEST) and found.dtype == np.float32
    assert found[PLAIN.seeds.index(seed)] == pytest.approx(expected.numpy(), rel=1e-5)
    rows = table(evaluated, "plain")
    assert value(rows, "error", seed=seed) == pytest.approx(expected.mean().item(), rel=1e-5)
    assert value(rows, "error", seed=seed) == pytest.approx(
        49_152 * value(rows, "mse", seed=seed), rel=1e-5
    )


def test_the_training_sample_is_spread_over_the_training_images(evaluated):
    found = faces.load(evaluated / "data/faces.npy", evaluated / "data/faces.csv")
    rows = found.rows("train")[np.arange(SAMPLE) * TRAIN // SAMPLE]
    images = faces.to_tensor(found.images[rows])
    expected = fidelity.squared_error(reconstructed(evaluated, images, 0), images).mean().item()
    assert value(table(evaluated, "plain"), "error", "train") == pytest.approx(expected, rel=1e-5)


def test_every_depth_and_level_is_measured_on_all_images_alike(evaluated):
    _, images = held_out(evaluated)
    rows = table(evaluated, "plain")
    for depth in range(1, 8):
        through = reconstructed(evaluated, images, 0, depth)
        expected = fidelity.squared_error(through, images).mean().item()
        assert value(rows, f"depth_error_{depth}") == pytest.approx(expected, rel=1e-4)
    model, _ = network.load(weights(evaluated, "plain", 0))
    with torch.inference_mode():
        levels = level_losses(model, images)
    for k, level in enumerate(levels, start=1):
        assert value(rows, f"level_mse_{k}") == pytest.approx(level.item(), rel=1e-4)
    assert rows[rows.measure.str.startswith("level_mse")].standard_error.isna().all()


def test_the_pictures_are_the_same_faces_and_the_models_own_pixels(evaluated):
    images, tensors = held_out(evaluated)
    shown = np.arange(12) * TEST // 12
    plain, drawing = arrays(evaluated, "plain"), arrays(evaluated, "drawing")
    assert (plain["inputs"] == images[shown]).all() and (drawing["inputs"] == images[shown]).all()
    expected = reconstructed(evaluated, tensors[shown], 0).permute(0, 2, 3, 1).numpy() * 255
    assert plain["reconstructions"].dtype == np.uint8
    assert np.abs(plain["reconstructions"] - expected).max() <= 0.51


def test_only_variational_models_are_sampled_and_always_from_the_same_latents(evaluated):
    assert arrays(evaluated, "plain")["samples"].shape == (0, 128, 128, 3)
    samples = arrays(evaluated, "drawing")["samples"]
    assert samples.shape == (DETECTED, 128, 128, 3) and samples.dtype == np.uint8
    model, _ = network.load(weights(evaluated, "drawing", 0))
    with torch.inference_mode():
        expected = model.sample(evaluate.latents(DETECTED)).permute(0, 2, 3, 1).numpy() * 255
    assert np.abs(samples - expected).max() <= 0.51
    latents = evaluate.latents(500)
    assert latents.mean().item() == pytest.approx(0, abs=0.01)
    assert latents.std().item() == pytest.approx(1, abs=0.01)


def test_the_spectra_are_one_a_seed_and_one_of_the_inputs(evaluated):
    found = arrays(evaluated, "plain")
    assert found["spectrum"].shape == (2, 65) and found["input_spectrum"].shape == (65,)
    assert (found["input_spectrum"] == arrays(evaluated, "drawing")["input_spectrum"]).all()
    assert (found["spectrum"] > 0).all() and not (
        found["spectrum"][0] == found["spectrum"][1]
    ).all()


def test_once_more_gives_the_same_bytes(evaluated, monkeypatch):
    before = written(evaluated)
    run(monkeypatch, evaluated, "drawing")
    assert written(evaluated) == before


def test_the_numbers_do_not_depend_on_how_many_batches_run_at_a_time(evaluated):
    images, _ = held_out(evaluated)
    model, _ = network.load(weights(evaluated, "plain", 0))
    torch.set_num_threads(1)
    found = []
    for workers in (1, 3):
        with ThreadPoolExecutor(workers) as pool:
            found.append(evaluate.in_batches(pool, partial(evaluate.everything, model), images))
    for name, values in found[0].items():
        assert (values == found[1][name]).all(), name


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda root: weights(root, "plain", 3).unlink(), "models/plain/seed3.safetensors"),
        (lambda root: ruin(weights(root, "plain", 3)), "its training diverged"),
        (lambda root: hold_out_nothing(root / "data/faces.csv"), "0 test and 48 train rows"),
    ],
    ids=["a seed is missing", "a model diverged", "nothing is held out"],
)
def test_a_failure_is_one_line_and_leaves_what_was_there(
    project, tmp_path, monkeypatch, capsys, broken, message
):
    for name in ("data/faces.npy", "data/faces.csv", "configs/plain.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((project / name).read_bytes())
    (tmp_path / "models/plain").mkdir(parents=True)
    for seed in PLAIN.seeds:
        weights(tmp_path, "plain", seed).write_bytes(weights(project, "plain", seed).read_bytes())
    (tmp_path / "reports/metrics").mkdir(parents=True)
    (tmp_path / "reports/metrics/plain.json").write_text("earlier")
    broken(tmp_path)
    with pytest.raises(SystemExit) as exit:
        run(monkeypatch, tmp_path, "plain")
    assert exit.value.code == 1
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert written(tmp_path) == {"reports/metrics/plain.json": b"earlier"}


def test_an_interrupted_write_leaves_nothing_half_done(tmp_path):
    first, second = tmp_path / "a/first.json", tmp_path / "b/second.npz"
    first.parent.mkdir()
    first.write_text("earlier")

    def full(path: Path) -> None:
        path.write_text("half")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        evaluate.write_all({first: lambda path: path.write_text("new"), second: full})
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [first]
    assert first.read_text() == "earlier"


def ruin(path: Path) -> None:
    model, _ = network.load(path)
    with torch.no_grad():
        model.encoder[0].bias.fill_(torch.nan)
    network.save(model, path)


def hold_out_nothing(path: Path) -> None:
    path.write_text(path.read_text().replace(",test", ",train"))


@pytest.mark.parametrize(("total", "count"), [(1060, 500), (10, 12), (7, 3), (1, 1)])
def test_evenly_spaced_indices_are_distinct_and_as_far_apart_as_possible(total, count):
    found = evaluate.evenly_spaced(total, count)
    steps = np.diff(found)
    assert len(found) == min(total, count) and found[0] == 0 and found[-1] < total
    assert (steps >= 1).all() and (np.ptp(steps) <= 1 if len(steps) else True)
