"""The library: what the pipeline gives, with checked input, and nothing changed for who imports."""

import contextlib
import io
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import recursive_autoencoder as ra
from stages.common.settings import Training
from stages.data.faces import Faces
from stages.model import checkpoint
from stages.model.losses import losses
from stages.model.network import Autoencoder
from stages.model.training import Trainer
from tests.conftest import ROOT, made_faces, model_settings, python

NOTEBOOK = ROOT / "docs/library.ipynb"
UNDISTURBED = """
import os, sys
hook, environment = sys.excepthook, dict(os.environ)
import recursive_autoencoder as ra
assert not {"torch", "numba", "stages"} & {*sys.modules}
import torch
from PIL import Image
torch.set_num_threads(2)
images = torch.rand(20, 3, 32, 32)
before = torch.get_rng_state()
ra.load("stacked")
ra.train(images, epochs=1, batch_size=4)
try:
    ra.read("missing.jpg")
except ra.PipelineError:
    pass
assert sys.excepthook is hook and Image.MAX_IMAGE_PIXELS
assert dict(os.environ) | {"NUMBA_CACHE_DIR": 0} == environment | {"NUMBA_CACHE_DIR": 0}
assert torch.get_num_threads() == 2 and torch.get_rng_state().equal(before)
"""


@pytest.fixture(scope="module")
def model() -> Autoencoder:
    return ra.load("stacked")


@pytest.fixture(scope="module")
def small() -> Autoencoder:
    return Autoencoder(model_settings(size=32, levels=3)).eval()


def test_whoever_imports_it_finds_the_process_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NUMBA_CACHE_DIR", "NVIDIA_TF32_OVERRIDE"):
        monkeypatch.delenv(name, raising=False)
    python("-c", UNDISTURBED, OMP_PROC_BIND="false", RECURSIVE_AUTOENCODER_KERNELS="0")


@pytest.mark.slow
def test_the_installed_package_brings_models_along(tmp_path: Path) -> None:
    names = ("pyproject.toml", "README.md", "LICENSE", "recursive_autoencoder", "stages", "reports")
    subprocess.run(["cp", "-r", *names, tmp_path], cwd=ROOT, check=True)
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target=target")
    python("-m", "pip", "install", *options, ".", cwd=tmp_path)
    script = "import recursive_autoencoder as ra; print(ra.__file__, ra.load('stacked').size)"
    target = tmp_path / "target"
    said = python("-c", script, cwd=target, PYTHONPATH=str(target))
    assert said.split() == [str(target / "recursive_autoencoder/__init__.py"), "128"]


def test_a_model_is_loaded_by_name_or_path() -> None:
    path = ROOT / "reports/models/stacked.safetensors"
    expected = checkpoint.load(path)[0].state_dict()
    for loaded in (ra.load("stacked"), ra.load(path)):
        assert all(value.equal(expected[key]) for key, value in loaded.state_dict().items())
        assert not loaded.training


def test_pictures_of_every_kind_have_the_same_codes(model: Autoencoder, tmp_path: Path) -> None:
    pixels = made_faces(3, 128).images
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    codes = ra.encode(model, images)
    assert codes.shape == (3, 384) and not codes.requires_grad
    kinds: list[Any] = [pixels, images.numpy(), tmp_path, sorted(tmp_path.iterdir())]
    for kind in kinds:
        torch.testing.assert_close(ra.encode(model, kind), codes)
    torch.testing.assert_close(ra.decode(model, codes), model(images))


def test_codes_of_a_model_with_fewer_levels_are_rows_too(small: Autoencoder) -> None:
    images = torch.rand(300, 3, 32, 32)
    codes = ra.encode(small, images)
    assert codes.shape == (300, 24 * 4 * 4)
    torch.testing.assert_close(ra.decode(small, codes), small(images))


def test_interpolation_goes_from_one_picture_to_the_other(small: Autoencoder) -> None:
    codes = ra.encode(small, torch.rand(2, 3, 32, 32))
    between = ra.interpolate(small, codes[0], codes[1], 5)
    line = torch.stack([codes[0], codes.mean(0), codes[1]])
    torch.testing.assert_close(between[::2], ra.decode(small, line))


def test_a_training_is_that_of_the_pipeline() -> None:
    faces = made_faces(40, 32)
    faces = Faces(faces.images, faces.paths, faces.people, np.repeat(["train", "test"], [36, 4]))
    wanted: dict[str, Any] = {"epochs": 2, "batch_size": 8, "norm": "tied", "lr": 0.002}
    trained = ra.train(faces.images, seed=3, **wanted)
    identity = Training(settings=model_settings(size=32, **wanted), seed=3, faces="")
    trainer = Trainer(identity, faces)
    for _ in range(2):
        trainer.run_epoch()
    assert trained.curve == trainer.curve
    expected = trainer.average.model.state_dict()
    assert all(v.equal(expected[key]) for key, v in trained.model.state_dict().items())
    floats = torch.from_numpy(faces.images).permute(0, 3, 1, 2) / 255
    assert ra.train(floats, seed=3, **wanted).curve == trained.curve


def random(*shape: int) -> Tensor:
    return torch.rand(shape)


BAD: list[tuple[Callable[[Autoencoder], Any], str]] = [
    (lambda m: ra.load("none"), "none is no file and none of rec"),
    (lambda m: ra.read("none.jpg"), "none.jpg does not exist"),
    (lambda m: ra.read("x.jpg", "top"), "crop is 'top'"),  # type: ignore[arg-type]
    (lambda m: ra.encode(m, random(2, 3, 64, 64)), "have 64 pixels a side, the model takes 32"),
    (lambda m: ra.encode(m, 255 * random(2, 3, 32, 32)), "scale them to 0 to 1"),
    (lambda m: ra.encode(m, random(2, 3, 32, 32) / 0), "scale them to 0 to 1"),
    (lambda m: ra.encode(m, random(2, 32, 32, 3)), r"they should be \(n, 3, size, size\)"),
    (lambda m: ra.encode(m, random(2, 32, 32, 3).numpy()), r"should be \(n, 3, size, size\)"),
    (lambda m: ra.encode(m, np.zeros((2, 3, 32, 32), np.uint8)), r"be \(n, size, size, 3\)"),
    (lambda m: ra.encode(m, random(2, 3, 32, 32).int()), "are torch.int32"),
    (lambda m: ra.encode(m, random(3, 32, 32)), r"are \(3, 32, 32\)"),
    (lambda m: ra.encode(m, random(0, 3, 32, 32)), r"are \(0, 3, 32, 32\)"),
    (lambda m: ra.decode(m, random(2, 384, 1)), r"codes are \(2, 384, 1\): .* be \(n, 384\)"),
    (lambda m: ra.decode(m, random(2, 384).to("meta")), "codes are on meta, the model on cpu"),
    (
        lambda m: ra.encode(Autoencoder(m.settings).to("meta"), random(2, 3, 32, 32)),
        "the images are on cpu, the model on meta",
    ),
    (lambda m: ra.interpolate(m, random(1, 384), random(1, 384)), r"as codes\[0\]"),
    (lambda m: ra.train(random(20, 3, 32, 32)), "18 pictures to train on are less than a batch"),
    (lambda m: ra.train(random(40, 3, 32, 32), held_out=0), "held_out is 0"),
    (lambda m: ra.train(random(40, 3, 32, 32), norms="tied"), "norms is 'tied': Extra inputs"),
    (lambda m: ra.train(random(40, 3, 32, 32), epochs=0), "epochs is 0: Input should be greater"),
    (lambda m: ra.train(random(40, 3, 32, 32), reach=9), "reach is 9: there are 5 levels"),
    (
        lambda m: ra.train(random(40, 3, 100, 100)),
        r"have 100 pixels a side; \(32, 64, 128, 256\) are allowed",
    ),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message for _, message in BAD])
def test_wrong_input_is_one_line(
    small: Autoencoder, call: Callable[[Autoencoder], Any], message: str
) -> None:
    with pytest.raises(ra.PipelineError, match=message) as caught:
        call(small)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("batch", [16, 4], ids=["compiled", "plain"])
def test_the_recursive_loss_is_that_of_the_models(batch: int) -> None:
    torch.manual_seed(0)
    model, images = Autoencoder(model_settings(size=32)), torch.rand(batch, 3, 32, 32)
    theirs = [*losses(model, images).values()]
    ours = ra.recursive_losses(zip(model.encoder, model.decoder, strict=True), images)
    torch.testing.assert_close(ours, theirs)
    weights = [*model.encoder.parameters(), *model.decoder.parameters()]
    for our, their in zip(ours, theirs, strict=True):
        found, expected = (torch.autograd.grad(x, weights, allow_unused=True) for x in (our, their))
        assert [x is None for x in found] == [x is None for x in expected]
        for x, y in zip(found, expected, strict=True):
            torch.testing.assert_close(x, y) if x is not None else None


def test_a_decoder_that_does_not_undo_its_encoder_is_named() -> None:
    pairs = [(nn.Linear(6, 4), nn.Linear(4, 6)), (nn.Linear(4, 2), nn.Linear(2, 1))]
    with pytest.raises(ValueError, match=r"level 2 gives \(5, 1\), its encoder takes \(5, 4\)"):
        ra.recursive_losses(pairs, random(5, 6))


@pytest.mark.slow
def test_the_notebook_prints_what_it_shows() -> None:
    """What docs/library.ipynb prints is the same everywhere, its pictures and times are not."""
    assert NOTEBOOK.stat().st_size < 300_000
    names: dict[str, object] = {}
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    for cell in (cell for cell in cells if cell["cell_type"] == "code"):
        shown = [output for output in cell["outputs"] if output.get("name") == "stdout"]
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec("".join(cell["source"]), names)
        assert printed.getvalue() == "".join("".join(output["text"]) for output in shown)
