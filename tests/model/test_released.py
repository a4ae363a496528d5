"""Which accidents of the authors' code which model has."""

from dataclasses import fields

import pytest

from stages.model.released import Accidents, accidents
from tests.conftest import model_settings

ALL = {"every_face_in_file_order"}
NORMED = ALL | {"last_kernel_3"}


@pytest.mark.parametrize(
    ("training", "norm", "variational", "expected"),
    [
        ("stacked", "none", False, ALL),
        ("recursive", "none", False, ALL),
        ("stacked", "none", True, ALL),
        ("recursive", "none", True, ALL | {"without_mean"}),
        ("stacked", "batch", False, NORMED | {"frozen_encoder"}),
        ("stacked", "shared", False, NORMED | {"frozen_encoder"}),
        ("recursive", "batch", False, NORMED | {"untrained_decoder_norms", "inference_norms"}),
        ("recursive", "shared", False, NORMED | {"untrained_decoder_norms", "inference_norms"}),
    ],
)
def test_the_accidents_of_every_released_model(
    training: str, norm: str, variational: bool, expected: set[str]
) -> None:
    settings = {"training": training, "norm": norm, "variational": variational}
    released = accidents(model_settings(**settings, implementation="released"))
    assert {field.name for field in fields(released) if getattr(released, field.name)} == expected
    assert accidents(model_settings(**settings)) == Accidents()
