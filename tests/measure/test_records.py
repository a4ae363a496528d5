"""What is written of evaluated models is what is read, and nothing damaged or foreign is."""

from pathlib import Path

import numpy as np
import pandas as pd
from pandas.testing import assert_frame_equal

from stages.measure.records import Records, read
from tests.made_records import Made, make, write

DESCRIBED = {
    "stacked_vae": Made(),
    "64": Made([300.0, float("inf")]),
    "nan": Made([float("inf")]),
    "recursive": Made([239.0, 240.0], [250.0, 260.0]),
}
RELEASED = {"recursive": Made([500.0]), "stacked_vae": Made()}


def assert_same(one: Records, other: Records) -> None:
    """Numbers in tables to six digits, all else exactly."""
    assert list(one.found) == list(other.found)
    assert (one.missing, one.dataset, one.images) == (other.missing, other.dataset, other.images)
    pairs = [(one.found[model], other.found[model]) for model in one.found]
    for left, right in [*pairs, (one.references, other.references)]:
        for name, value in vars(left).items():
            again = getattr(right, name)
            if isinstance(value, pd.DataFrame):
                keys = [key for key in ("seed", "epoch", "split", "loss") if key in value.columns]
                frames = [
                    f.sort_values(keys, ignore_index=True) if keys else f for f in (value, again)
                ]
                assert_frame_equal(*frames, rtol=1e-5)
            elif isinstance(value, np.ndarray):
                assert value.dtype == again.dtype, name
                np.testing.assert_array_equal(value, again, name)
            else:
                assert value == again, name


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert_same(read(write(tmp_path, DESCRIBED, RELEASED)), make(DESCRIBED, RELEASED))
