"""The faces that the project draws itself."""

import io

import numpy as np
from PIL import Image

from stages.data.sources.synthetic.drawn_faces import draw
from stages.measure import clarity


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
