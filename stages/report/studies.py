"""What studies beside the pipeline found on the same faces, for the report."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from stages.common.errors import PipelineError
from stages.common.settings import Weights
from stages.measure.records import Records
from stages.report.catalogue import PAPER, WEIGHTS_LABELS, label, without_seeds
from stages.report.statistics import CONFIDENCE, Compared, number, ratio, t_interval

FOLDER = Path("reports/studies")
KINDS = ("running", "of_batch", "population")  # of statistics
ERROR = "averaged_error"
# What tells detail from grain, by kind of weights.
DETAIL: dict[Weights, str] = {
    "last_step": "last_step_detail_explained",
    "averaged": "detail_explained",
}
# Which trainings of longer.csv ask a claim of detail: one, another, and after how many epochs.
CLEARER = {
    1: [
        ("recursive_constant", "stacked_constant", 10),
        ("recursive_20_epochs", "stacked_20_epochs", 20),
        ("recursive_cosine", "stacked_constant", 80),
    ],
    6: [("shared_norm", "stacked_constant", 10)],
}
DECODERS = ("own", "fresh", "gone_on")  # on encoders that stand still
EPOCHS = 10  # of the authors
# Trainings of longer.csv that are others on more seeds.
SAME = {
    "recursive_constant": "recursive",
    "stacked_constant": "stacked",
    "stacked_tuned_80_epochs": "stacked_tuned",
    "recursive_then_stacked_80_epochs": "recursive_then_stacked",
}
# What trainings whose losses reach through three levels at most are held against.
GOAL = "stacked_tuned"
LOCAL = ("recursive", "recursive_cosine", "reach_2_cosine", "reach_3_cosine")
# Which of them stand beside each other, by what the report calls that.
BESIDE = {
    "constant": ("recursive", "stacked"),
    "cosine": ("recursive_cosine", "stacked_cosine"),
    "falling_rate": ("stacked_cosine", "stacked"),
    "better_rates": ("recursive_cosine", "stacked"),
    "tuned": ("recursive_cosine", "stacked_tuned"),
    "greedy": ("recursive_cosine", "greedy_cosine"),
}
SEARCHED = "_searched"  # ends the name of what a search found
AS_RELEASED = "as released"  # without a further difference
TEXT = {"faces": str}  # a hash may look like a number
EMPTY = dict.fromkeys(("copies", "population", *DECODERS), "")  # columns that may be so
BY_DEPTH = ["size", "faces", "weights", "levels"]
DAMAGED = "{0} cannot be read; `git checkout {0}` brings it back"
Study = dict[str, Any]
Told = TypeVar("Told")


@dataclass(frozen=True)
class Studies:
    """What there is of each, None without. What a study has is told where it is read, below.

    depth: rows of `ratios_by_depth`. pace: seconds of a core that an epoch takes, by variant.
    """

    latents: Study | None = None
    norms: Study | None = None
    published: Study | None = None
    longer: Study | None = None
    frozen: Study | None = None
    noise: Study | None = None
    levels: Study | None = None
    depth: Sequence[Study] = ()
    reach: Study | None = None
    pace: Mapping[str, float] = field(default_factory=dict)

    @property
    def goal(self) -> list[tuple[int, float, float, str, int]]:
        """Epochs and mean error of GOAL; mean error, name and epochs of that of LOCAL whose error
        is lowest in the seconds that these take; empty where one is missing."""
        if not self.longer or GOAL not in self.pace:
            return []
        means = self.longer["means"]
        found = []
        for end in self.longer["epochs"]:
            near = [
                (error, name, epoch)
                for (name, epoch), error in means.items()
                if name in LOCAL and epoch * self.pace.get(name, np.inf) <= end * self.pace[GOAL]
            ]
            if near and (GOAL, end) in means:
                found.append((end, means[GOAL, end], *min(near)))
        return found


def short_hash(faces: str) -> str:
    """What tables of studies call faces by, of their content hash."""
    return faces[:12]


def read(faces: str, folder: Path = FOLDER) -> Studies:
    """What there is of faces with this content hash.

    Raises PipelineError where a table is damaged.
    """
    own = short_hash(faces)

    def of(name: str, told: Callable[[pd.DataFrame], Study], faces: object = own) -> Study | None:
        def of_faces(table: pd.DataFrame) -> Study | None:
            rows = table[(table["faces"] == faces) & (table["variant"] != "")]
            return told(rows) if len(rows) else None

        return _told(folder / f"{name}.csv", of_faces)

    depth = _told(folder / "depth.csv", lambda table: _depth(table, own)) or ()
    # Reaches may have been tried on pictures of another size than these faces have.
    reaches = (
        one | {"size": row["size"], "stacked_constant": row["stacked"]}
        for row in reversed(depth)  # the deepest
        if (one := of("reach", _reach, row["faces"]))
    )
    return Studies(
        latents=of("latents", _latents),
        norms=of("norms", _norms),
        published=of("published", _published),
        longer=of("longer", _longer),
        frozen=of("frozen", _frozen),
        noise=of("noise", _noise),
        levels=of("levels", _levels),
        depth=depth,
        reach=next(reaches, None),
        pace=pace(folder / "pace.csv"),
    )


def pace(path: Path) -> dict[str, float]:
    """Seconds of a core that an epoch takes, by variant; empty where nothing was measured. Raises
    PipelineError where the table is damaged."""

    def seconds(table: pd.DataFrame) -> dict[str, float]:
        pairs = zip(table["variant"], table["epoch_seconds"], strict=True)
        return {name: float(value) for name, value in pairs}

    return _told(path, seconds) or {}


def _told(path: Path, told: Callable[[pd.DataFrame], Told]) -> Told | None:
    """What `told` makes of a table; None where there is no table."""
    if not path.exists():
        return None
    try:
        # A variant may be called nan.
        return told(pd.read_csv(path, keep_default_na=False, na_values=EMPTY, dtype=TEXT))
    except (KeyError, ValueError, TypeError):
        raise PipelineError(DAMAGED.format(path)) from None


def _depth(table: pd.DataFrame, own: str) -> list[Study]:
    """The ratios by depth on averaged weights, of pictures of all sizes, where the faces with this
    short hash have been measured."""
    ratios = ratios_by_depth(table[table["weights"] == "averaged"])
    sizes = ratios[ratios["faces"] == own]["size"]
    # Beside these, faces of other sizes: not others of the same.
    shown = ratios[(ratios["faces"] == own) | ~ratios["size"].isin(sizes)]
    return shown.to_dict("records") if len(sizes) else []  # type: ignore[return-value]


def ratios_by_depth(measured: pd.DataFrame) -> pd.DataFrame:
    """The error of recursive over that of stacked: a row for each faces, size, weights and levels.

    Columns ratio (geometric mean over seeds), low and high (its interval over seeds), n, and the
    mean errors `recursive` and `stacked`.
    """
    paired = measured.pivot(index=[*BY_DEPTH, "seed"], columns="training", values="error").dropna()
    rows = []
    for what, seeds in paired.groupby(BY_DEPTH):
        logs = np.log(seeds["recursive"] / seeds["stacked"])
        ends = t_interval(logs, CONFIDENCE) or (np.nan, np.nan)
        means = seeds[["recursive", "stacked"]].mean()
        rows.append([*what, *np.exp([logs.mean(), *ends]), len(seeds), *means])
    return pd.DataFrame(
        rows, columns=[*BY_DEPTH, "ratio", "low", "high", "n", "recursive", "stacked"]
    )


def _latents(rows: pd.DataFrame) -> Study:
    """Densities; rows: model, seeds, and of each density the faces found and the high
    frequencies; fitted: the faces found of a Gaussian, by variant."""
    densities = [*dict.fromkeys(rows["density"])]
    table = []
    for variant, own in rows.groupby("variant", sort=False):
        means = own.groupby("density")[["faces_found", "high_frequency_ratio"]].mean()
        cells = [
            f"{means.faces_found[density]:.0%} ({means.high_frequency_ratio[density]:.2f})"
            if density in means.index
            else "-"
            for density in densities
        ]
        table.append([label(str(variant)), own["seed"].nunique(), *cells])
    found = rows[rows["density"] == "Gaussian"].groupby("variant")["faces_found"].mean().to_dict()
    return {"densities": densities, "rows": table, "fitted": found}


def _norms(rows: pd.DataFrame) -> Study:
    """Rows: model, weights, seeds, and the error with each of KINDS of statistics; errors: these, a
    row a model and seed; shared: by kind, the mean of n stacked models with a shared norm, averaged
    weights."""
    named = rows.assign(model=rows["variant"].map(label), told=rows["weights"].map(WEIGHTS_LABELS))
    table = [
        [*key, len(own), *(mean_sd(own[kind]) for kind in KINDS)]
        for key, own in named.groupby(["model", "told"], sort=False)
    ]
    shared = rows[(rows["variant"] == "stacked_shared_bn") & (rows["weights"] == "averaged")]
    known = shared[[*KINDS]].dropna()
    means = dict.fromkeys(KINDS) | known.mean().dropna().to_dict()
    return {"rows": table, "errors": rows, "shared": means | {"n": len(known)}}


def with_statistics(records: Records, norms: pd.DataFrame, kinds: Sequence[str]) -> Records:
    """The records, but of models with a norm the error with the best of these KINDS of statistics,
    by its mean over the seeds for which all of them were measured, and no other measure.

    norms: `Studies.norms["errors"]`. What it lacks is missing. The errors of single images were not
    kept: those with running statistics are scaled to the mean.
    """
    found, missing = {}, dict(records.missing)
    norms = norms.dropna(subset=[*kinds])
    for model, record in records.found.items():
        rows = norms[(norms["variant"] == model.variant) & (norms["weights"] == model.weights)]
        rows = rows.set_index("seed")
        own = replace(records, found={model: record})
        of = without_seeds(own, {*record.seeds} - {*rows.index}).found.get(model)
        if record.settings.norm == "none":
            found[model] = record
        elif model.implementation == "released" or record.diverged or not of:
            missing[model] = "not measured with these statistics"
        elif (best := min(kinds, key=lambda kind: rows[kind].mean())) == "running":
            found[model] = of
        else:
            ratio = (rows[best] / rows["running"]).reindex(of.seeds)
            error = of.per_seed("error")
            columns = ["value", "standard_error"]
            error = error.assign(**{name: error[name] * ratio for name in columns})
            found[model] = replace(
                of,
                measures=pd.concat({("test", "error"): error}, names=["split", "measure"]),
                test_error=of.test_error * ratio.to_numpy()[:, None],
            )
    return replace(records, found=found, missing=missing)


def _published(rows: pd.DataFrame) -> Study:
    """Differences; epochs, the authors', or as many as trainings with a difference have; rows:
    model, the error with each difference after these, that of what went on without one at its end,
    and the paper's numbers."""
    epochs = rows[rows["difference"] != AS_RELEASED]["epoch"].clip(upper=EPOCHS).max()
    epochs = EPOCHS if np.isnan(epochs) else epochs
    at_end = rows[rows["epoch"] == epochs].assign(told=rows["difference"])
    longer = rows[(rows["difference"] == AS_RELEASED) & (rows["epoch"] > epochs)]
    longer = longer[longer["epoch"] == longer["epoch"].max()]
    longer = longer.assign(told=longer["epoch"].map("{} epochs".format))
    cells = pd.concat([at_end, longer]).pivot(index="variant", columns="told", values="error")
    differences = [*dict.fromkeys([*rows["difference"], *longer["told"]])]
    numbers = cells.reindex(index=[*dict.fromkeys(rows["variant"])], columns=differences)
    table = [
        [label(str(name)), *(x if pd.isna(x) else round(x) for x in own), PAPER[str(name)].printed]
        for name, own in numbers.iterrows()
    ]
    return {"differences": differences, "epochs": int(epochs), "rows": table}


def _noise(rows: pd.DataFrame) -> Study:
    """Noises, and the errors with them."""
    return {"noises": [*rows["variant"]], "errors": [number(value) for value in rows["error"]]}


def _frozen(rows: pd.DataFrame) -> Study:
    """Rows: of whose encoders, the error with each of DECODERS, seeds; gone_on: by training, the
    error with its own decoders over that where they went on."""
    table = [
        [name, *(mean_sd(own[decoder]) for decoder in DECODERS), len(own)]
        for name, own in rows.groupby("variant", sort=False)
    ]
    of = {name: rows[rows["variant"] == name] for name in ("recursive_cosine", "stacked_cosine")}
    gone_on = {name: paired_ratio(own["own"], own["gone_on"]) for name, own in of.items()}
    return {"rows": table, "gone_on": gone_on}


def _levels(rows: pd.DataFrame) -> Study:
    """Rows: training, epochs, the error through the first level alone, what the last loses alone,
    the dimensions of its input, the error through all, seeds; drift: by level, the error at a
    constant rate over that at a falling one; packing: at a constant rate, after the
    fewest and the most epochs, these, the error through the first level and what the last loses."""
    table, packing = [], []
    rates = ("recursive_constant", "recursive_cosine")
    for key, own in rows.groupby(["variant", "epochs"], sort=False):
        name, epochs = str(key[0]), int(str(key[1]))
        depth = own["level"].max()
        mean = own.groupby("level")[["alone", "error", "dimensions"]].mean()
        cells = (
            number(mean.error[1]), f"{mean.alone[depth]:.1%}",
            number(mean.dimensions.get(depth - 1, np.nan)), number(mean.error[depth]),
        )  # fmt: skip
        table.append([name, epochs, *cells, own["seed"].nunique()])
        if name == rates[0]:
            packing.append((epochs, mean.error[1], mean.alone[depth]))
    last = min(rows["epochs"][rows["variant"] == name].max() for name in rates)
    by_level = [
        {level: own.set_index("seed")["error"] for level, own in rows[of].groupby("level")}
        for of in ((rows["variant"] == name) & (rows["epochs"] == last) for name in rates)
    ]
    drift = {k: paired_ratio(*(of[k] for of in by_level)) for k in by_level[0] if k in by_level[1]}
    ends = [min(packing), max(packing)] if packing else []
    return {"rows": table, "drift": drift, "packing": ends}


def _longer(rows: pd.DataFrame) -> Study:
    """Epochs; models: name, error after each of the epochs, seeds; BESIDE: one training `_beside`
    another; noise: the error of the last step over that of averaged weights; clearer: by claim,
    after how many epochs, with which weights and how much more detail recursive pictures explain
    than stacked ones; means: the mean error, by name and epoch."""
    named = pooled(rows)
    errors = named[named["measure"] == ERROR]
    epochs = sorted({*rows[rows["measure"] == "high_frequency_ratio"]["epoch"]})
    told = []
    for name, own in errors.groupby("variant", sort=False):
        seeds = own.pivot(index="seed", columns="epoch", values="value").reindex(columns=epochs)
        told.append((label(str(name)), [mean_sd(seeds[n]) for n in epochs], len(seeds)))
    found: Study = {name: _beside(named, *trainings) for name, trainings in BESIDE.items()}
    constant = "recursive_constant", rows["epoch"][rows["variant"] == "recursive_constant"].max()
    found["noise"] = paired_ratio(*(_by_seed(rows, of, constant) for of in ("error", ERROR)))
    found["clearer"] = {
        claim: [
            (epochs, weights, one)
            for of, than, epochs in arms
            for weights, measure in DETAIL.items()
            if (one := _difference(rows, measure, (of, epochs), (than, epochs)))
        ]
        for claim, arms in CLEARER.items()
    }
    means = errors.groupby(["variant", "epoch"])["value"].mean().to_dict()
    return found | {"epochs": epochs, "models": told, "means": means}


def pooled(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of longer.csv, all seeds of a training under one name."""
    return rows.assign(variant=rows["variant"].replace(SAME))


def _beside(rows: pd.DataFrame, name: str, other: str, epochs: int | None = None) -> Study | None:
    """The error of one training over that of another after the same epochs, as many as both have
    where not told, and the detail that the other and it explain, None where not measured."""
    if epochs is None:
        both = set.intersection(*({*rows["epoch"][rows["variant"] == x]} for x in (name, other)))
        epochs = max(both, default=0)
    if error := compared(rows, (name, epochs), (other, epochs)):
        details = [_by_seed(rows, DETAIL["averaged"], (x, epochs)).mean() for x in (other, name)]
        known = None if np.isnan(details).any() else details
        return {"epochs": epochs, "error": error, "detail": known}
    return None


def _by_seed(rows: pd.DataFrame, measure: str, of: tuple[str, int]) -> pd.Series:
    """A measure of a training after so many epochs, by seed. rows: of longer.csv."""
    name, epoch = of
    own = rows[(rows["variant"] == name) & (rows["epoch"] == epoch) & (rows["measure"] == measure)]
    if not own["seed"].is_unique:
        raise ValueError("a seed twice")
    return own.set_index("seed")["value"]


def _difference(
    rows: pd.DataFrame, measure: str, first: tuple[str, int], second: tuple[str, int]
) -> Compared | None:
    """By how much a measure of one training lies above that of another, seed by seed."""
    values = (_by_seed(rows, measure, first) - _by_seed(rows, measure, second)).dropna()
    interval = t_interval(values, CONFIDENCE)
    return Compared(float(values.mean()), *interval, len(values)) if interval else None


def _reach(rows: pd.DataFrame) -> Study:
    """Epochs, that all trainings have; last, that some have; few: reach 3 `_beside` reach 1;
    winners: what a search found by levels beside what it found stacked; lasting, few_lasting: reach
    1 and 3 beside stacked; of each the cost, its seconds over the other's; stacked: the error
    of stacked training after ten epochs.

    `read` adds size, and stacked_constant: as stacked, at a constant rate.
    """
    ends = rows.groupby("variant")["epoch"].max()
    end, last = int(ends.min()), int(ends.max())
    cost = rows.groupby("variant", sort=False)["epoch_seconds"].first()
    winners = [name for name in map(str, cost.index) if name.endswith(SEARCHED)]  # stacked first
    found: Study = {"epochs": end, "last": last}
    for key, pair, epochs in (
        ("few", ("reach 3", "reach 1"), end),
        ("winners", winners[::-1], None),
        ("lasting", ("reach 1", "stacked"), None),
        ("few_lasting", ("reach 3", "stacked"), None),
    ):
        one = _beside(rows, *pair, epochs=epochs) if len(pair) == 2 else None
        found[key] = one and one | {"cost": cost[pair[0]] / cost[pair[1]]}
    found["stacked"] = _by_seed(rows, ERROR, ("stacked", EPOCHS)).mean()
    return found


def compared(
    rows: pd.DataFrame, first: tuple[str, int], second: tuple[str, int]
) -> Compared | None:
    """The averaged error of one training over that of another, each after its epochs.

    rows: of longer.csv. None where they share no two seeds, or where one of them diverged.
    """
    return paired_ratio(*(_by_seed(rows, ERROR, of) for of in (first, second)))


def paired_ratio(first: pd.Series, second: pd.Series) -> Compared | None:
    """Of what two trainings have, seed by seed: the geometric mean and its interval. None where
    they share no two seeds, or where one of them diverged."""
    logs = np.log(pd.concat([first, second], axis=1).dropna().to_numpy())
    if not np.isfinite(logs).all():
        return None
    differences = logs[:, 0] - logs[:, 1]
    interval = t_interval(differences, CONFIDENCE)
    return ratio(float(differences.mean()), interval, len(logs)) if interval else None


def mean_sd(by_seed: pd.Series, digits: int = 0) -> str:
    """Mean ± standard deviation over seeds, how many diverged, and how many were measured where not
    all (the others are missing)."""
    own = by_seed.dropna()
    finite = own[np.isfinite(own)]
    if finite.empty:
        return "-" if own.empty else "diverged"
    text = f"{finite.mean():.{digits}f}"
    text += f" ± {finite.std():.{digits}f}" if len(finite) > 1 else ""
    lost = len(own) - len(finite)
    text += f" but for {lost} that diverged" if lost else ""
    return text if len(own) == len(by_seed) else f"{text} (n = {len(own)})"
