"""What evaluate and references write, against the models and the images that they measured."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from stages import evaluate, references
from stages.common.settings import IMPLEMENTATIONS, WEIGHTS, Training, Variant
from stages.data import faces
from stages.measure import clarity, compute, fidelity
from stages.measure.measures import MEASURES, measurable
from stages.measure.records import Model, Record, Records, read
from stages.model import checkpoint
from stages.model.network import Autoencoder, state
from tests.conftest import ROOT, made_faces, model_settings, tree
from tests.model.test_on_dask import write

SIZE, LEVELS = 64, 6
TRAIN, TEST = 90, 18  # held-out images fill a batch and a part of one
DETECTED, NOISE, SAMPLE = 9, 3, 20


def variant(seeds: list[int], released_seeds: list[int], **changes: object) -> Variant:
    own = model_settings(size=SIZE, **changes).model_dump(exclude={"implementation"})
    return Variant.model_validate(own | {"seeds": seeds, "released_seeds": released_seeds})


VARIANTS = {
    "plain": variant([0, 3], [], norm="batch"),
    "drawing": variant([4], [2, 5], training="stacked", variational=True),
    "null": variant([1], []),
}
DIVERGED = {("drawing", "released", 2), ("null", "described", 1)}
MODELS = [
    (Model(name, implementation, weights), seed)
    for name, settings in VARIANTS.items()
    for implementation in IMPLEMENTATIONS
    for weights in WEIGHTS
    for seed in settings.seeds_of(implementation)
    if (name, implementation, seed) not in DIVERGED
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smooth coloured images, every sixth held out, and untrained models."""
    root = tmp_path_factory.mktemp("project")
    write(made_faces(TRAIN + TEST, SIZE), root / "data")
    (root / "configs/variants").mkdir(parents=True)
    (root / "configs/download.yaml").write_text("dataset: lfw\n", encoding="utf-8")
    for name, settings in VARIANTS.items():
        config = root / f"configs/variants/{name}.yaml"
        config.write_text(yaml.safe_dump(settings.model_dump()), encoding="utf-8")
        for implementation in settings.models():
            for seed in settings.seeds_of(implementation):
                train(root, name, implementation, seed)
    return root


def train(root: Path, name: str, implementation: str, seed: int) -> None:
    """What a training leaves, without the training."""
    folder = root / "models" / name / implementation / f"seed{seed}"
    folder.mkdir(parents=True)
    curve = "epoch,split,loss,value\n1,train,total,0.5\n1,test,error,300\n"
    (folder / "curve.csv").write_text(curve, encoding="utf-8")
    machine = {"processor": "some processor", "vectors": "AVX2", "torch": "2.0.0"}
    (folder / "machine.json").write_text(json.dumps(machine), encoding="utf-8")
    if (name, implementation, seed) in DIVERGED:
        (folder / "diverged.txt").write_text("level_3 became nan in epoch 2\n", encoding="utf-8")
        return
    settings = VARIANTS[name].models()[implementation]
    training = Training(settings=settings, seed=seed, faces=prepared(root).hash)
    for shift, weights in enumerate(WEIGHTS):
        torch.manual_seed(seed)
        model = Autoencoder(settings)
        with torch.no_grad():  # untrained models would all err alike
            model.decoder[0].bias += 0.5 * seed + 0.1 * shift
        checkpoint.save(state(model), folder / f"{weights}.safetensors", training, weights)


def prepared(root: Path) -> faces.Faces:
    return faces.load(root / "data/faces.npy", root / "data/faces.csv")


@pytest.fixture(scope="module")
def records(project: Path) -> Records:
    with pytest.MonkeyPatch.context() as patch:
        run(patch, project, references.main)
        for name in VARIANTS:
            run(patch, project, evaluate.main, name)
    return read(project)


def run(patch: pytest.MonkeyPatch, root: Path, main: Callable[..., None], *words: str) -> None:
    patch.chdir(root)
    patch.setattr(compute, "DETECTED", DETECTED)
    patch.setattr(compute, "NOISE", NOISE)
    patch.setattr(compute, "TRAINING_SAMPLE", SAMPLE)
    few = dataclasses.replace(MEASURES["faces_found"], images=DETECTED)
    patch.setitem(MEASURES, "faces_found", few)
    main(*words)


def written(root: Path) -> dict[str, bytes]:
    return tree(root / "reports")


def held_out(root: Path) -> tuple[np.ndarray, torch.Tensor]:
    found = prepared(root)
    images = found.images[found.rows("test")]
    return images, faces.to_tensor(images)


def load(root: Path, model: Model, seed: int) -> Autoencoder:
    folder = root / "models" / model.variant / model.implementation / f"seed{seed}"
    return checkpoint.load(folder / f"{model.weights}.safetensors")[0]


@torch.inference_mode()
def reconstructed(
    root: Path, model: Model, seed: int, images: torch.Tensor, depth: int = LEVELS
) -> torch.Tensor:
    return load(root, model, seed).reconstruct(images, depth)


def value(record: Record, measure: str, seed: int, split: str = "test") -> float:
    return float(record.per_seed(measure, split).value[seed])


def test_it_writes_files_of_its_own_variant_and_nothing_else(
    project: Path, records: Records
) -> None:
    names = {name.split("/")[1].partition(".")[0] for name in written(project)}
    assert names == {*VARIANTS, "inputs", "measures", "spectrum", "contents"}
    folders = {path.name for path in (project / "reports").iterdir()}
    assert folders == {"grids", "metrics", "records", "references"}


def test_the_metrics_have_the_same_keys_for_every_variant_and_no_infinity(
    project: Path, records: Records
) -> None:
    files = {name: project / f"reports/metrics/{name}.json" for name in VARIANTS}
    rows = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in files.items()}
    averaged = records.found[Model("plain", "described", "averaged")]
    last = records.found[Model("plain", "described", "last_step")].per_seed("error").value
    assert rows["plain"] == {
        "averaged_error": pytest.approx(averaged.mean("error"), rel=1e-5),
        "averaged_sd": pytest.approx(averaged.per_seed("error").value.std(), rel=1e-5),
        "last_error": pytest.approx(last.mean(), rel=1e-5),
        "last_sd": pytest.approx(last.std(), rel=1e-5),
        "ssim": pytest.approx(averaged.mean("ssim"), rel=1e-5),
        "high_frequency": pytest.approx(averaged.mean("high_frequency_ratio"), rel=1e-5),
        "n": 2,
        "released_error": None,
    }
    assert rows["drawing"]["averaged_sd"] is None
    assert rows["drawing"]["released_error"] == "diverged"
    assert rows["null"]["averaged_error"] == rows["null"]["ssim"] == "diverged"
    assert all(list(row) == list(rows["plain"]) and "error" not in row for row in rows.values())


@pytest.mark.parametrize(("model", "seed"), MODELS)
def test_every_measure_of_the_table_is_there_once_a_seed(
    records: Records, model: Model, seed: int
) -> None:
    record = records.found[model]
    images = {"test": TEST, "train": SAMPLE}
    images |= {"samples": DETECTED} if record.settings.variational else {}
    wanted = {
        (split, measure.name): DETECTED if measure.name == "faces_found" else images[split]
        for measure in measurable(SIZE, LEVELS)
        for split in {*measure.splits} & {*images}
    }
    own = record.measures.xs(seed, level="seed")
    assert own.n.to_dict() == wanted and len(own) == len(wanted)
    assert np.isfinite(own.value).all()


@pytest.mark.parametrize(("model", "seed"), MODELS)
def test_the_error_is_the_squared_error_of_the_models_own_reconstructions(
    project: Path, records: Records, model: Model, seed: int
) -> None:
    _, images = held_out(project)
    difference = reconstructed(project, model, seed, images) - images
    expected = difference.double().square().sum((1, 2, 3)).numpy()
    record = records.found[model]
    found = record.test_error[record.seeds.index(seed)]
    assert found == pytest.approx(expected, rel=1e-3)  # half precision
    assert value(record, "error", seed) == pytest.approx(expected.mean(), rel=1e-5)
    mean = expected.mean() / (3 * SIZE**2)
    assert value(record, "mse", seed) == pytest.approx(mean, rel=1e-5)


def test_the_training_sample_is_spread_over_the_training_images(
    project: Path, records: Records
) -> None:
    model = Model("plain", "described", "averaged")
    found = prepared(project)
    images = faces.to_tensor(found.images[found.rows("train")[np.arange(SAMPLE) * TRAIN // SAMPLE]])
    expected = fidelity.squared_error(reconstructed(project, model, 0, images), images).mean()
    error = value(records.found[model], "error", 0, "train")
    assert error == pytest.approx(expected.item(), rel=1e-5)


def test_every_depth_is_measured_through_as_many_levels(project: Path, records: Records) -> None:
    model = Model("drawing", "described", "averaged")
    _, images = held_out(project)
    for depth in range(1, LEVELS + 1):
        through = reconstructed(project, model, 4, images, depth)
        expected = fidelity.squared_error(through, images).mean().item()
        error = value(records.found[model], f"depth_error_{depth}", 4)
        assert error == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("model", "seed"), dict(MODELS[::-1]).items())
def test_the_pictures_are_the_same_faces_and_the_models_own_pixels(
    project: Path, records: Records, model: Model, seed: int
) -> None:
    """Those of the first seed that did not diverge."""
    images, tensors = held_out(project)
    record, loaded = records.found[model], load(project, model, seed)
    count = 8 if model[1:] == ("described", "averaged") else 1
    shown = np.arange(8) * TEST // 8
    assert (records.references.inputs == images[shown]).all()
    with torch.inference_mode():
        outputs = [(record.reconstructions, loaded.reconstruct(tensors[shown[:count]], LEVELS))]
        if record.settings.variational:
            latents = compute.latents(DETECTED, loaded.latent)[:count]
            outputs.append((record.samples, loaded.sample(latents)))
        else:
            assert record.samples.shape == (0, SIZE, SIZE, 3)
    for kept, output in outputs:
        assert kept.shape == (count, SIZE, SIZE, 3)
        assert np.abs(kept - 255 * output.permute(0, 2, 3, 1).numpy()).max() <= 0.51


def test_latents_are_standard_normal() -> None:
    latents = compute.latents(500, 384)
    assert latents.mean().item() == pytest.approx(0, abs=0.01)
    assert latents.std().item() == pytest.approx(1, abs=0.01)


def test_a_diverged_seed_counts_as_an_infinite_error_beside_the_others(records: Records) -> None:
    for weights in WEIGHTS:
        record = records.found[Model("drawing", "released", weights)]
        assert record.diverged == {2: "level_3 became nan in epoch 2"}
        assert np.isinf(record.test_error[0]).all() and np.isfinite(record.test_error[1]).all()
        assert list(record.per_seed("error").value.map(np.isinf)) == [True, False]
        assert list(record.per_seed("ssim").index) == [5]
        assert len(record.spectrum) == 1
        alone = records.found[Model("null", "described", weights)]
        assert alone.mean("error") == np.inf and np.isnan(alone.mean("ssim"))
        assert not len(alone.reconstructions) and not len(alone.spectrum)
        assert alone.curve.value.tolist() == [300, 0.5]


def test_references_are_inputs_noise_and_the_mean_picture(project: Path, records: Records) -> None:
    _, tensors = held_out(project)
    found = records.references
    spectrum = clarity.radial(clarity.power_of(clarity.spectrum(tensors))).mean(0)
    assert found.input_spectrum == pytest.approx(spectrum.numpy(), rel=1e-4)
    assert found.measures.n.to_dict() == {
        ("input", "faces_found"): DETECTED,
        ("noise", "faces_found"): NOISE,
        ("mean", "error"): TEST,
    }
    assert found.measures.value["noise", "faces_found"] == 0
    assert records.images == {"train": TRAIN, "test": TEST} and records.dataset == "lfw"
    assert records.people == TEST


def test_once_more_gives_the_same_bytes(
    project: Path, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = written(project)
    run(monkeypatch, project, references.main)
    run(monkeypatch, project, evaluate.main, "drawing")
    assert written(project) == before


def test_the_numbers_do_not_depend_on_how_many_batches_run_at_a_time(project: Path) -> None:
    images, _ = held_out(project)
    model = load(project, Model("plain", "described", "averaged"), 0)
    of_all = [m for m in measurable(SIZE, LEVELS) if m.images is None and "test" in m.splits]
    found = []
    for workers in (1, 3):
        torch.set_num_threads(workers)
        with compute.threads() as pool:
            look = partial(compute.look, model, of_all, pictures=True)
            found.append(compute.in_batches(pool, look, images))
    for name, values in found[0].items():
        assert (values == found[1][name]).all(), name


def rewrite(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


@pytest.fixture
def copy(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What evaluate reads, where it is run."""
    for name in ("configs", "data", "models"):
        shutil.copytree(project / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


SEED = Path("models/plain/described/seed3")
LAST, AVERAGED = (SEED / f"{weights}.safetensors" for weights in ("last_step", "averaged"))
CURVE, MACHINE = SEED / "curve.csv", SEED / "machine.json"
CONFIG, FACES = Path("configs/variants/plain.yaml"), Path("data/faces.csv")
BROKEN: dict[str, tuple[Callable[[], object], str]] = {
    "no weights": (AVERAGED.unlink, "does not exist"),
    "half a file": (lambda: os.truncate(AVERAGED, 100), "is damaged"),
    "another seed": (
        lambda: shutil.copy(SEED.with_name("seed0") / LAST.name, LAST),
        "comes from another training (seed 0, not 3)",
    ),
    "other settings": (
        lambda: rewrite(CONFIG, "lr: 0.001", "lr: 0.002"),
        "comes from another training (lr 0.001, not 0.002)",
    ),
    "no curve": (CURVE.unlink, "does not exist"),
    "no machine": (MACHINE.unlink, "machine.json does not exist"),
    "no numbers": (lambda: rewrite(CURVE, "300", "much"), "is damaged"),
    "nothing held out": (lambda: rewrite(FACES, ",test", ",train"), "0 test and 108 train rows"),
}


@pytest.mark.parametrize(("breaks", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_a_failure_is_one_line_and_leaves_what_was_there(
    copy: Path, capsys: pytest.CaptureFixture[str], breaks: Callable[[], object], message: str
) -> None:
    (copy / "reports/metrics").mkdir(parents=True)
    (copy / "reports/metrics/plain.json").write_text("earlier", encoding="utf-8")
    breaks()
    with pytest.raises(SystemExit) as exit:
        evaluate.main("plain")
    assert exit.value.code == 1
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert written(copy) == {"metrics/plain.json": b"earlier"}


@pytest.mark.parametrize(("total", "count"), [(1060, 500), (10, 12), (7, 3), (1, 1)])
def test_evenly_spaced_indices_are_distinct_and_as_far_apart_as_possible(
    total: int, count: int
) -> None:
    found = compute.evenly_spaced(total, count)
    steps = np.diff(found)
    assert len(found) == min(total, count) and found[0] == 0 and found[-1] < total
    assert (steps >= 1).all() and (np.ptp(steps) <= 1 if len(steps) else True)


def test_side_by_side_they_write_the_same_bytes(copy: Path) -> None:
    evaluate.main("plain")
    alone = written(copy)
    shutil.rmtree(copy / "reports")
    command = [sys.executable, "-m", "stages.evaluate", "--all"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "drawing, released, seed 2 diverged: level_3 became nan in epoch 2" in done.stdout
    together = written(copy)
    assert alone.items() <= together.items()
    assert {name.split("/")[1].partition(".")[0] for name in together} == {*VARIANTS}
