"""What studies share: which faces they take, how they train and measure, and write results."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
from torch import Tensor

from stages.common.files import atomic_set
from stages.common.processes import run_each
from stages.common.settings import ModelSettings, Training
from stages.data.faces import Faces, to_tensor
from stages.measure import compute
from stages.measure.measures import MEASURES
from stages.model.network import Autoencoder, device
from stages.model.side_by_side import obtain_all, room, share_no_lock

Result = TypeVar("Result")
BATCH = 32
CLARITY = ("high_frequency_ratio", "grid_ratio")
FOLDER = Path("reports/studies")
KILLED = "a training process was killed, most likely for lack of memory; run it again"


def spread(people: Faces, split: str, count: int) -> np.ndarray:
    """uint8 (count, size, size, 3): faces of a split, evenly spaced; all where there are fewer."""
    rows = people.rows(split)
    return people.images[rows[compute.evenly_spaced(len(rows), count)]]


def batches(images: np.ndarray, count: int = BATCH) -> Iterator[Tensor]:
    """uint8 (n, size, size, 3) -> float tensors of up to `count` images on the device."""
    for start in range(0, len(images), count):
        yield to_tensor(images[start : start + count]).to(device())


def obtained(
    settings: Iterable[ModelSettings], seeds: Iterable[int], people: Faces
) -> list[tuple[Training, Path]]:
    """A training for each of the settings and seeds, done now if it is not kept, and its folder."""
    planned = [
        Training(settings=one, seed=seed, faces=people.hash) for one in settings for seed in seeds
    ]
    return [*zip(planned, obtain_all(planned), strict=True)]


def side_by_side(tasks: Sequence[Callable[[], Result]]) -> Iterator[Result]:
    """What each task, a training, returns, as soon as it does."""
    return run_each(tasks, min(len(tasks), room()), share_no_lock, KILLED)


def measured(
    model: Autoencoder, images: np.ndarray, measures: Iterable[str] = CLARITY
) -> dict[str, float]:
    """Measures, by name, of a model's reconstructions of uint8 (n, size, size, 3)."""
    chosen = [MEASURES[name] for name in measures]
    with compute.threads() as pool:
        values = compute.in_batches(pool, partial(compute.look, model, chosen), images)
    return {one.name: one.statistic(values[one.name])[0] for one in chosen}


def with_others(measured: pd.DataFrame, study: str, key: Sequence[str]) -> pd.DataFrame:
    """These rows, after those of a study's table that have another key."""
    path, key = FOLDER / f"{study}.csv", [*key]
    if not path.exists():
        return measured
    before = pd.read_csv(path, dtype={"faces": str})
    again = pd.MultiIndex.from_frame(before[key]).isin(pd.MultiIndex.from_frame(measured[key]))
    return pd.concat([before[~again], measured])


def markdown(header: str, rows: Iterable[Sequence[object]]) -> list[str]:
    """The lines of a table. header: the names of its columns, with bars between them."""
    rule = ["---"] * (header.count("|") + 1)
    return [f"| {header} |", *(f"| {' | '.join(map(str, row))} |" for row in (rule, *rows))]


def write(
    study: str,
    table: pd.DataFrame,
    page: str = "",
    save_picture: Callable[[Path], object] | None = None,
) -> None:
    """Replace a study's table (.csv, floats with six digits), picture (.png) and page (.md)."""
    endings = ["csv", *["png"] * bool(save_picture), *["md"] * bool(page)]
    with atomic_set(*(FOLDER / f"{study}.{ending}" for ending in endings)) as places:
        table.to_csv(places[0], index=False, lineterminator="\n", float_format="%.6g")
        if save_picture:
            save_picture(places[1])
        if page:
            places[-1].write_text(page, encoding="utf-8")
