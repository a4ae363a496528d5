"""The faces that the project draws itself."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages import download
from stages.data.pictures import read_tar
from stages.data.sources.synthetic.drawn_faces import draw
from stages.measure import clarity
from tests.data.made_archives import write_files


def test_drawn_faces_are_reproducible_and_grow_with_the_count() -> None:
    few, more = dict(draw(12)), dict(draw(20))
    assert len(few) == 12
    assert list(more.items())[:12] == list(few.items())
    assert len(set(more.values())) == 20
    assert dict(draw(1, seed=1)) != dict(draw(1))
    assert 1 < len({name.split("/")[0] for name in more}) < 20


def test_drawn_faces_pass_for_faces() -> None:
    crops = []
    for _, picture in draw(60):
        image = Image.open(io.BytesIO(picture))
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (250, 250))
        crops.append(np.asarray(image)[61:189, 61:189])
    assert clarity.detect(np.stack(crops)).mean() > 0.9


def test_they_need_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path, {"configs/download.yaml": b"dataset: synthetic\ncount: 64"})
    download.main()
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["synthetic.tar"]
    assert dict(read_tar(tmp_path / "data/synthetic.tar")) == dict(draw(64))
