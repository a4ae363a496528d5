"""What every study is run on: a variant of drawn faces, in a folder of its own."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from stages.common.settings import ModelSettings
from stages.data.faces import Faces, load
from tests.conftest import made_faces
from tests.model.test_on_dask import write

Prepare = Callable[..., Faces]


@pytest.fixture
def prepare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_process: None) -> Prepare:
    """Writes the configurations of a variant with seed 0, and `count` faces of dataset own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.fspath(Path(__file__).parents[2]))

    def written(name: str, settings: ModelSettings, count: int = 48) -> Faces:
        own = settings.model_dump(exclude={"implementation"}) | {"seeds": [0], "released_seeds": []}
        variants = tmp_path / "configs/variants"
        variants.mkdir(parents=True, exist_ok=True)
        (variants / f"{name}.yaml").write_text(yaml.safe_dump(own), encoding="utf-8")
        (tmp_path / "configs/download.yaml").write_text("dataset: own\n", encoding="utf-8")
        if not (tmp_path / "data").exists():
            write(made_faces(count, settings.size or 128), tmp_path / "data")
        return load()

    return written
