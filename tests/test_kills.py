"""Every stage that writes much: killed, at a limit and on a full disk, it leaves whole files, and
then makes the same bytes."""

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests import faults
from tests.conftest import python, small

pytestmark = pytest.mark.slow


class Stage(NamedTuple):
    """place: the folder of `outputs`, all that the stage makes of nothing. blocks: a limit of kB
    that its largest file exceeds. free: bytes on the full disk. late: modules that it imports late.
    """

    place: str
    outputs: tuple[str, ...]
    blocks: int
    free: tuple[int, ...]
    late: tuple[str, ...] = ()
    words: tuple[str, ...] = ("stacked",)


REPORT = ("README.md", "index.html", "table1.csv", "curves.csv", "figures")
STAGES = {
    "download": Stage("data", ("data/synthetic.tar",), 64, (2**16,), words=()),
    "preprocess": Stage("data", ("data/faces.npy", "data/faces.csv"), 128, (2**17,), words=()),
    "train_variant": Stage("models", ("models", ".dvc"), 1000, (2**20,)),
    "evaluate": Stage(
        "reports",
        tuple(f"reports/{name}/stacked" for name in ("records", "grids", "metrics")),
        1,
        (0, 2**13, 2**15),
        ("stages.measure.evaluation", "stages.measure.headline"),
    ),
    "publish": Stage(
        "reports", ("reports/models",), 100, (0, 2**17), ("stages.model.store",), words=()
    ),
    "plot": Stage(
        "reports", tuple(f"reports/{name}" for name in REPORT), 8, (0, 100_000), words=()
    ),
}


ALL_STAGES = """
from stages import download, evaluate, plot, preprocess, publish, references, train_variant
download.main(), preprocess.main(), train_variant.main("stacked"), references.main()
evaluate.main("stacked"), publish.main(), plot.main()
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of drawn faces of 32 pixels and one variant, all of whose stages have run."""
    folder = tmp_path_factory.mktemp("whole")
    settings = small(training="stacked", epochs=3).model_dump(exclude={"implementation"})
    configs: dict[str, Any] = {
        "download": {"dataset": "synthetic", "count": 64},
        "preprocess": {"held_out": 0.4, "size": 32},
        "variants/stacked": settings | {"seeds": [0, 1], "released_seeds": []},
        "publish": ["stacked"],
    }
    for name, values in configs.items():
        path = folder / f"configs/{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(values), encoding="utf-8")
    python("-c", ALL_STAGES, cwd=folder)
    return folder


@pytest.fixture
def project(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "project"))


def without(project: Path, outputs: tuple[str, ...]) -> None:
    for path in (project / output for output in outputs):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def one_line(errors: str, what: str, name: str) -> bool:
    """Whether an error is one line that names a file or, of pictures that arrive, their folder."""
    # train_variant: of what is kept, or of models/
    file = ": " if name == "train_variant" else f": {STAGES[name].place}/"
    return errors.startswith(f"error: {what}{file}") and errors.count("\n") == 1


@pytest.mark.parametrize("name", STAGES)
def test_killed_at_any_moment_it_ends_with_the_same_bytes(name: str, project: Path) -> None:
    place, outputs, *_, late, words = STAGES[name]
    kills = faults.kill(project, name, *words, place=place, outputs=[*outputs], modules=[*late])
    assert kills > 5
    assert not [*(project / place).rglob(".partial-*")]


@pytest.mark.parametrize("name", STAGES)
def test_where_a_file_can_grow_no_further_one_line_says_so(name: str, project: Path) -> None:
    """As on a full disk, but that the limit is of the processes."""
    place, outputs, blocks, *_, words = STAGES[name]
    without(project, outputs)
    before = faults.hashes(project, place)
    status, errors = faults.run(project, name, *words, blocks=blocks)
    assert status == 1
    assert one_line(errors, "File too large", name)
    assert faults.hashes(project, place) == before


@pytest.mark.parametrize(
    ("name", "free"), [(name, free) for name, stage in STAGES.items() for free in stage.free]
)
def test_on_a_full_disk_one_line_says_so_and_with_space_it_works(
    name: str, free: int, whole: Path, project: Path
) -> None:
    place, outputs, *_, words = STAGES[name]
    without(project, outputs)
    before = faults.hashes(project, place)
    errors, first, second = faults.fill(project, name, *words, place=place, free=free)
    assert one_line(errors, "No space left on device", name)
    written = faults.hashes(first, place).items() - before.items()
    assert name == "plot" or not written  # it writes file by file, each of them whole
    assert written <= faults.hashes(whole, place).items()
    assert faults.hashes(second, place) == faults.hashes(whole, place)
