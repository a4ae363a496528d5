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
    ],
    6: [("shared_norm", "stacked_constant", 10)],
}
DECODERS = ("own", "fresh", "gone_on")  # on encoders that stand still
EPOCHS = 10  # of the authors
# What trainings whose losses reach through three levels at most are held against.
GOAL = "stacked_tuned"
LOCAL = ("recursive", "recursive_constant", "recursive_cosine", "reach_2_cosine", "reach_3_cosine")
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
    """What there is of each, None without.

    latents: densities; rows: model, seeds, and of each density the faces found and the high
    frequencies; fitted: the faces found of a Gaussian, by variant. norms: rows: model, weights,
    seeds, and the error with each of KINDS of statistics; errors: these, a row a model and seed.
    shared: by kind, the mean of n stacked models with a shared norm, averaged weights. published:
    differences; epochs; rows: model, the error with each difference after as many epochs, the
    paper's numbers. longer: epochs; models: name, error after each of the epochs, seeds; ratios:
    errors `compared`, by name; explained: the detail, by name, after the last epoch; greedy_epochs:
    after which greedy training is compared; clearer: by claim, after how many epochs, with which
    weights and how much more detail recursive pictures explain than stacked ones; means: the mean
    error, by name and epoch. frozen: rows: of whose encoders, the error with each of DECODERS,
    seeds; gone_on: by training, the error with its own decoders over that where they went on.
    noise: noises, and the errors with them. levels: rows: training, epochs, the error through the
    first level alone, what the last loses alone, the dimensions of its input, the error through
    all, seeds; drift: the error at a constant rate over that at a falling one after `epochs`, by
    level. depth: rows of `ratios_by_depth`. reach: epochs; size; few: reach 3 beside reach 1;
    winners: what a search found by levels beside what it found stacked; lasting, few_lasting: reach
    1 and 3 beside stacked after `last` epochs, not `epochs`; of each the error over the other's,
    the detail that the other and it explain, and the cost, its seconds over the other's; half: the
    error of reach 3 after half the epochs over that of reach 1 after all; levels: as those above;
    stacked, stacked_constant: the error of stacked training after ten epochs at a falling and at a
    constant rate.
    pace: seconds of a core that an epoch takes, by variant.
    """

    latents: Study | None = None
    norms: Study | None = None
    published: Study | None = None
    longer: Study | None = None
    frozen: Study | None = None
    noise: Study | None = None
    levels: Study | None = None
    depth: Sequence[Mapping[str, object]] = ()
    reach: Study | None = None
    pace: Mapping[str, float] = field(default_factory=dict)

    @property
    def goal(self) -> list[tuple[str, int, float]]:
        """Name, epochs and mean error of the longest training of GOAL, and of that of LOCAL whose
        error is lowest in the seconds that it takes; empty where one is missing."""
        means = self.longer["means"] if self.longer and GOAL in self.pace else {}
        end = max((epoch for name, epoch in means if name == GOAL), default=0)
        near = [
            (error, name, epoch)
            for (name, epoch), error in means.items()
            if name in LOCAL and epoch * self.pace.get(name, np.inf) <= end * self.pace[GOAL]
        ]
        error, name, epoch = min(near, default=(np.inf, "", 0))
        return [(GOAL, end, means[GOAL, end]), (name, epoch, error)] if near else []


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
        one
        | {"size": row["size"], "stacked_constant": row["stacked"]}
        | {"levels": of("levels", _levels, row["faces"])}
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


def _depth(table: pd.DataFrame, own: str) -> list[dict[str, object]]:
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
    named = rows.assign(model=rows["variant"].map(label), told=rows["weights"].map(WEIGHTS_LABELS))
    table = [
        [*key, len(own), *(_of_measured(own[kind]) for kind in KINDS)]
        for key, own in named.groupby(["model", "told"], sort=False)
    ]
    shared = rows[(rows["variant"] == "stacked_shared_bn") & (rows["weights"] == "averaged")]
    known = shared[[*KINDS]].dropna()
    means = dict.fromkeys(KINDS) | known.mean().dropna().to_dict()
    return {"rows": table, "errors": rows, "shared": means | {"n": len(known)}}


def _of_measured(values: pd.Series) -> str:
    """What the seeds have for which it was measured, and how many these are where not all."""
    own = values.dropna()
    return _of_finished(own) + (f" (n = {len(own)})" if 0 < len(own) < len(values) else "")


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
    """Each error after the authors' epochs, or as many as those with a difference have; of what
    went on without one, at its end, too."""
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
    return {"noises": [*rows["variant"]], "errors": [number(value) for value in rows["error"]]}


def _frozen(rows: pd.DataFrame) -> Study:
    table = [
        [name, *(_of_finished(own[decoder].dropna()) for decoder in DECODERS), len(own)]
        for name, own in rows.groupby("variant", sort=False)
    ]
    of = {name: rows[rows["variant"] == name] for name in ("recursive_cosine", "stacked_cosine")}
    gone_on = {name: paired_ratio(own["own"], own["gone_on"]) for name, own in of.items()}
    return {"rows": table, "gone_on": gone_on}


def _levels(rows: pd.DataFrame) -> Study:
    table = []
    for key, own in rows.groupby(["variant", "epochs"], sort=False):
        name, epochs = str(key[0]), int(str(key[1]))
        depth = own["level"].max()
        mean = own.groupby("level")[["alone", "error", "dimensions"]].mean()
        cells = (
            number(mean.error[1]), f"{mean.alone[depth]:.1%}",
            number(mean.dimensions.get(depth - 1, np.nan)), number(mean.error[depth]),
        )  # fmt: skip
        table.append([name, epochs, *cells, own["seed"].nunique()])
    rates = ("recursive_constant", "recursive_cosine")
    last = min(rows["epochs"][rows["variant"] == name].max() for name in rates)
    by_level = [
        {level: own.set_index("seed")["error"] for level, own in rows[of].groupby("level")}
        for of in ((rows["variant"] == name) & (rows["epochs"] == last) for name in rates)
    ]
    drift = {k: paired_ratio(*(of[k] for of in by_level)) for k in by_level[0] if k in by_level[1]}
    return {"rows": table, "epochs": last, "drift": drift}


def _longer(rows: pd.DataFrame) -> Study:
    errors = rows[rows["measure"] == "averaged_error"]
    epochs = sorted({*rows[rows["measure"] == "high_frequency_ratio"]["epoch"]})
    told = []
    for name, own in errors.groupby("variant", sort=False):
        by_epoch = [own[own["epoch"] == epoch]["value"] for epoch in epochs]
        told.append((label(str(name)), [*map(_of_finished, by_epoch)], own["seed"].nunique()))
    last = max(epochs, default=0)
    ratios = {
        "constant": compared(rows, ("recursive", last), ("stacked", last)),
        "cosine": compared(rows, ("recursive_cosine", last), ("stacked_cosine", last)),
    }
    constant = ("recursive_constant", last)
    ratios["noise"] = paired_ratio(
        *(_by_seed(rows, measure, constant) for measure in ("error", "averaged_error"))
    )
    clearer = {
        claim: [
            (epochs, weights, one)
            for of, than, epochs in arms
            for weights, measure in DETAIL.items()
            if (one := _difference(rows, measure, (of, epochs), (than, epochs)))
        ]
        for claim, arms in CLEARER.items()
    }
    greedy = rows[rows["variant"] == "greedy_cosine"]["epoch"].max()
    ratios["greedy"] = compared(rows, ("recursive_cosine", greedy), ("greedy_cosine", greedy))
    detail = rows[(rows["measure"] == "detail_explained") & (rows["epoch"] == last)]
    explained = detail.groupby("variant")["value"].mean().to_dict()
    found = {"epochs": epochs, "models": told, "ratios": ratios, "explained": explained}
    means = errors.groupby(["variant", "epoch"])["value"].mean().to_dict()
    return found | {"greedy_epochs": greedy, "clearer": clearer, "means": means}


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
    ends = rows.groupby("variant")["epoch"].max()
    end, last = int(ends.min()), int(ends.max())
    cost = rows.groupby("variant", sort=False)["epoch_seconds"].first()
    detail = rows[rows["measure"] == DETAIL["averaged"]]
    explained = detail.groupby(["variant", "epoch"])["value"].mean()

    def beside(name: str, other: str, epochs: int = end) -> Study | None:
        if error := compared(rows, (name, epochs), (other, epochs)):
            details = [explained[other, epochs], explained[name, epochs]]
            return {"error": error, "detail": details, "cost": cost[name] / cost[other]}
        return None

    names = [*map(str, cost.index)]
    found: Study = {"few": beside("reach 3", "reach 1")}
    winners = [name for name in names if name.endswith(SEARCHED)]  # stacked first
    found["winners"] = beside(winners[1], winners[0]) if len(winners) == 2 else None
    found["lasting"] = beside("reach 1", "stacked", last) if last > end else None
    found["few_lasting"] = beside("reach 3", "stacked", last) if last > end else None
    found["half"] = compared(rows, ("reach 3", end // 2), ("reach 1", end))
    found["stacked"] = _by_seed(rows, "averaged_error", ("stacked", EPOCHS)).mean()
    return found | {"epochs": end, "last": last}


def compared(
    rows: pd.DataFrame, first: tuple[str, int], second: tuple[str, int]
) -> Compared | None:
    """The averaged error of one training over that of another, each after its epochs.

    rows: of longer.csv. None where they share no two seeds, or where one of them diverged.
    """
    return paired_ratio(*(_by_seed(rows, "averaged_error", of) for of in (first, second)))


def paired_ratio(first: pd.Series, second: pd.Series) -> Compared | None:
    """Of what two trainings have, seed by seed: the geometric mean and its interval. None where
    they share no two seeds, or where one of them diverged."""
    logs = np.log(pd.concat([first, second], axis=1).dropna().to_numpy())
    if not np.isfinite(logs).all():
        return None
    differences = logs[:, 0] - logs[:, 1]
    interval = t_interval(differences, CONFIDENCE)
    return ratio(float(differences.mean()), interval, len(logs)) if interval else None


def _of_finished(values: pd.Series) -> str:
    """What those that did not diverge have, and how many did."""
    finite = values[np.isfinite(values)]
    if finite.empty:
        return "-" if values.empty else "diverged"
    lost = len(values) - len(finite)
    spread = f" ± {finite.std():.0f}" if len(finite) > 1 else ""
    return f"{finite.mean():.0f}{spread}" + (f" but for {lost} that diverged" if lost else "")
