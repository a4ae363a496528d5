"""params.yaml, checked and typed; and what `configure` makes of it, resolved settings a file."""

import os
import re
import reprlib
from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from stages.common.errors import PipelineError
from stages.common.yaml_files import read_yaml

# The paper's text, or the same with the accidents of the authors' released code.
Implementation = Literal["described", "released"]
IMPLEMENTATIONS: tuple[Implementation, ...] = ("described", "released")
# After the last training step, or an exponential moving average over the steps.
Weights = Literal["last_step", "averaged"]
WEIGHTS: tuple[Weights, ...] = ("last_step", "averaged")
CANDIDATE = "candidate"
# The top level of params.yaml describes the candidate's network, section `train` every recipe.
NETWORK_KEYS = ("training", "norm", "activation", "variational")
TRAIN_KEYS = ("epochs", "batch_size", "lr", "averaging", "seeds", "released_seeds")
# Where `configure` writes what it resolved.
CONFIGS = Path("configs")
VARIANTS = CONFIGS / "variants"
PUBLISH = CONFIGS / "publish.yaml"
# Names are folders' and files', too.
NAME = re.compile(r"[a-z0-9][a-z0-9_]{0,63}")


def _seeds(given: object) -> object:
    """`10` means the first ten seeds, 0 to 9; a list is taken as it is."""
    if type(given) is int and 0 <= given <= 1000:
        return [*range(given)]
    if isinstance(given, list) and len({*map(str, given)}) == len(given):
        return given
    raise ValueError("it should be a number of seeds, up to 1000, or a list of different seeds")


def _not_home(path: str) -> str:
    if path.startswith("~"):
        raise ValueError("write the whole path, as ~ means no folder here")
    return path


Number = Annotated[float, Field(allow_inf_nan=False)]
Names = Literal["equal", "image", "latent"]
Numbers = list[Annotated[Number, Field(gt=0)]]
# The kind is decided first, so that an error speaks of that kind alone.
LevelWeights = Annotated[
    Annotated[Names, Tag("name")] | Annotated[Numbers, Tag("numbers")],
    Discriminator(lambda value: "numbers" if isinstance(value, list) else "name"),
]
Seeds = Annotated[list[Annotated[int, Field(ge=0, lt=2**63)]], BeforeValidator(_seeds)]


# A setting younger than the first weights: where it is None, files and names leave it out.
Later = partial(Field, default=None, exclude_if=lambda value: value is None)


class Checked(BaseModel):
    """No key is unknown, no value is converted: true is no number, 5.0 no count.

    A string below a field is its description, which docs/ repeats."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
    )


class DownloadSettings(Checked):
    """Section `download`."""

    dataset: Literal["lfw-deepfunneled", "lfw", "synthetic", "own"]
    """the pictures: two versions of LFW, faces that the project draws itself, or your own"""
    count: int = Field(default=1000, ge=64, le=100_000)
    """pictures to draw, for `synthetic` only"""
    pictures: Annotated[str, AfterValidator(_not_home)] = Field(default="pictures", min_length=1)
    """a folder or archive (.tar, .tgz, .zip) of pictures, for `own` only"""

    def effective(self) -> "DownloadSettings":
        """With defaults for what does not matter for this dataset, which then is not made anew."""
        matters = {"synthetic": {"count"}, "own": {"pictures"}}.get(self.dataset, set[str]())
        return DownloadSettings.model_validate(self.model_dump(include={"dataset"} | matters))


class PreprocessSettings(Checked):
    """Section `preprocess`."""

    held_out: Number = Field(gt=0, lt=1)
    """fraction of the people whose pictures are never trained on"""
    size: Literal[32, 64, 128, 256] = Field(default=128, exclude_if=lambda size: size == 128)
    """pixels a side of the crops"""


class ModelSettings(Checked):
    """What decides a training, beside its seed and its faces; the recipe's values are those of the
    authors, Adam 1e-3 with batches of 32 for 10 epochs."""

    training: Literal["stacked", "recursive", "joint"] = "recursive"
    """`recursive`: a loss for each level on its own; `stacked`: one loss end to end; `joint`: end
    to end with a loss at every level"""
    norm: Literal["none", "batch", "shared", "tied"] = "none"
    """batch normalisation after every level; `shared`: one for both halves of a level; `tied`: as
    shared, but each half has statistics of its own"""
    activation: Literal["selu", "relu"] = "selu"
    """of every level but the last, which is a sigmoid"""
    variational: bool = False
    """the last level's output becomes a mean and a log variance"""
    size: Literal[32, 64, 256] | None = Later()
    """pixels a side, where they are not 128"""
    levels: Annotated[int, Field(ge=1)] | None = Later()
    """how many there are; none: as many as halve the picture to one pixel"""
    epochs: int = Field(ge=1)
    """passes through the training faces"""
    batch_size: int = Field(ge=2)
    """faces a step; on a CPU multiples of 16 are several times faster"""
    lr: Number = Field(gt=0)
    """Adam's learning rate"""
    upsample: Literal["transposed", "nearest", "bilinear"] = "transposed"
    """the decoder's levels: transposed convolution, or interpolation and then a convolution"""
    downsample: Literal["stride", "maxpool"] = "stride"
    """the encoder's levels: strided convolution, or convolution and then pooling"""
    level_weights: LevelWeights = "equal"
    """of joint training's losses, level 1 (the image) first: `equal`, `image` or `latent` (each
    level twice the next, or the one before), or a number a level"""
    stacked_epochs: int = Field(default=0, ge=0)
    """of a recursive training, the last epochs, end to end"""
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """of the learning rate; `cosine`: to zero at the end; `linear`: constant, then linearly to zero
    over the last third"""
    reach: Annotated[int, Field(ge=1)] | None = Later()
    """of recursive training, through how many neighbouring levels at most a loss goes; none: 1,
    each level on its own"""
    kl_weight: Annotated[Number, Field(gt=0)] | None = Later()
    """of a variational model, the factor of its divergence; none: 1, the authors'"""
    averaging: Number = Field(default=0.99, gt=0, lt=1)
    """decay a step of the averaged weights, at most 1 - 10 / all steps"""
    separate_steps: bool | None = Later()
    """as released, recursive: the levels step one after another, as in the authors' loop"""
    implementation: Implementation = "described"

    @property
    def depth(self) -> int:
        """The number of levels."""
        return self.levels or (self.size or 128).bit_length() - 1

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        size, depth = self.size or 128, self.depth
        released, recursive = self.implementation == "released", self.training == "recursive"
        own_weights = len(self.level_weights) if isinstance(self.level_weights, list) else depth
        if self.level_weights != "equal" and self.training != "joint":
            raise ValueError("level_weights are of training: joint alone")
        if own_weights != depth:
            raise ValueError(f"level_weights are {own_weights}: there are {depth} levels")
        if self.stacked_epochs and not recursive:
            raise ValueError("stacked_epochs are of training: recursive alone")
        if self.stacked_epochs > self.epochs:
            raise ValueError(f"stacked_epochs are more than all {self.epochs} epochs")
        if depth > (most := size.bit_length() - 1):
            raise ValueError(f"levels is {depth}: {size} pixels have {most} halvings")
        if self.variational and depth < most:
            raise ValueError(f"a variational model has all {most} levels")
        if self.kl_weight and not self.variational:
            raise ValueError("kl_weight is of variational models alone")
        if self.reach and (released or self.variational or not recursive):
            raise ValueError("reach is of training: recursive, described, not variational, alone")
        if (self.reach or 1) > depth:
            raise ValueError(f"reach is {self.reach}: there are {depth} levels")
        if self.separate_steps and not (released and recursive):
            raise ValueError("separate_steps are of training: recursive as released alone")
        return self


# What the authors' code did not have.
_THEIRS = (*NETWORK_KEYS, *TRAIN_KEYS, "size", "separate_steps", "implementation")
BEYOND = tuple(key for key in ModelSettings.model_fields if key not in _THEIRS)


class Training(Checked):
    """What decides the weights of one training, but for code and machine.

    faces: the content hash of the prepared faces.
    """

    settings: ModelSettings
    seed: int = Field(ge=0)
    faces: str


class Variant(ModelSettings):
    """A row of Table 1 or Figure 4: its settings, and the seeds of both implementations."""

    implementation: Literal["described"] = Field(default="described", exclude=True)
    seeds: Seeds = Field(min_length=1)
    """a model for each, as the paper describes it"""
    released_seeds: Seeds
    """a further model for each, with the accidents of the authors' released code"""

    @model_validator(mode="after")
    def _released_is_the_paper_s(self) -> Self:
        lacking = [key for key in BEYOND if getattr(self, key) != Variant.model_fields[key].default]
        lacking += ["training: joint"] * (self.training == "joint")
        lacking += ["norm: tied"] * (self.norm == "tied")
        if self.released_seeds and lacking:
            raise ValueError(
                f"the authors' code has no {', '.join(lacking)}; set released_seeds: 0"
            )
        return self

    def seeds_of(self, implementation: Implementation) -> list[int]:
        return self.seeds if implementation == "described" else self.released_seeds

    def models(self) -> dict[Implementation, ModelSettings]:
        """The model as described and, where it has seeds, as released."""
        common = self.model_dump(exclude={"seeds", "released_seeds"})
        return {
            implementation: ModelSettings(**common, implementation=implementation)
            for implementation in IMPLEMENTATIONS
            if self.seeds_of(implementation)
        }


class Params(Checked):
    """params.yaml, every variant resolved: from the fields' defaults, section `train`, and its own
    entry; the candidate also from the keys at the top."""

    download: DownloadSettings
    preprocess: PreprocessSettings
    publish: list[str]
    """variants of which git keeps a small copy, in `reports/models`"""
    variants: dict[str, Variant]


Settings = TypeVar("Settings", bound=Checked)


def read_params(path: str | Path = "params.yaml") -> Params:
    """The checked content of params.yaml. Raises PipelineError as `resolve` and `read_yaml` do."""
    return resolve(read_yaml(path), path)


def resolve(values: object, name: object = "params.yaml") -> Params:
    """Values as params.yaml holds them, checked and resolved. Errors call them `name`.

    Raises PipelineError that names every bad key, its value and what is allowed.
    """
    if not isinstance(values, dict):
        raise PipelineError(f"{name} should be a mapping of settings, but holds {_shown(values)}")
    problems: list[str] = []
    download, preprocess, train, entries = (
        _mapping(values.get(key, {}), key, problems)
        for key in ("download", "preprocess", "train", "variants")
    )
    known = [*NETWORK_KEYS, *BEYOND, *Params.model_fields, "train"]
    known += [f"train.{key}" for key in TRAIN_KEYS]
    known += [f"download.{key}" for key in DownloadSettings.model_fields]
    known += [f"preprocess.{key}" for key in PreprocessSettings.model_fields]
    given = [*values, *(f"train.{key}" for key in train)]
    problems += [_unknown(key, known) for key in given if key not in known]
    train = {key: train[key] for key in TRAIN_KEYS if key in train}
    top = {key: values[key] for key in (*NETWORK_KEYS, *BEYOND) if key in values}

    downloads = _check(DownloadSettings, download, "download.{}".format, problems)
    preprocessing = _check(PreprocessSettings, preprocess, "preprocess.{}".format, problems)
    if preprocessing and preprocessing.size != 128:
        train["size"] = preprocessing.size
    dataset = downloads.dataset if downloads else "own"
    if preprocessing and preprocessing.size > 128 and dataset != "own":
        problems.append(
            f"preprocess.size is {preprocessing.size}: {dataset} has crops of 128 pixels; only "
            "your own pictures (download.dataset: own) may be larger"
        )
    # The defaults are checked as one variant, so that a bad one is named once.
    names = {key: f"train.{key}" for key in TRAIN_KEYS} | {key: key for key in top}
    _check(Variant, train | top, names.get, problems)
    variants = {}
    for variant, entry in entries.items():
        where = f"variants.{variant}"
        entry = _mapping(entry, where, problems)
        if not isinstance(variant, str) or not NAME.fullmatch(variant):
            problems.append(
                f"{where}: a variant's name is at most 64 of a-z, 0-9 and _, in quotes where YAML "
                "would not read it as text"
            )
        elif "size" in entry:
            problems.append(f"{where}.size is no setting; did you mean preprocess.size?")
        else:
            names = {str(key): f"{where}.{key}" for key in entry}
            defaults = train | top if variant == CANDIDATE else train
            variants[variant] = _check(Variant, defaults | entry, names.get, problems, where)
    if not entries:
        problems.append("variants: there is nothing to train")
    publish = values.get("publish")
    if not isinstance(publish, list) or len({x for x in publish if type(x) is str}) < len(publish):
        problems.append(f"publish is {_shown(publish)}: it should be a list of different variants")
    if problems:
        raise PipelineError(f"{name}: {'; '.join(problems)}")
    sections = {"download": downloads, "preprocess": preprocessing}
    return Params.model_validate(sections | {"publish": publish, "variants": variants})


def read_config(kind: type[Settings], path: str | Path) -> Settings:
    """Settings of one stage as `configure` wrote them to a file in configs/.

    Raises PipelineError where the file is missing or holds anything else.
    """
    where = f"{path}, which `dvc repro configure` writes"
    if not Path(path).exists():
        raise PipelineError(f"{where}, does not exist here")
    values, problems = read_yaml(path), list[str]()
    if not isinstance(values, dict):
        raise PipelineError(f"{where}, should hold settings, but holds {_shown(values)}")
    checked = _check(kind, values, str, problems, str(path))
    if checked is None:
        raise PipelineError(f"{where}: {'; '.join(problems)}")
    return checked


def read_variant(name: str, root: str | Path = ".") -> Variant:
    """The resolved settings of a variant. Raises PipelineError where there are none."""
    if not NAME.fullmatch(name):
        raise PipelineError(f"{name!r} is no variant's name: those are a-z, 0-9 and _")
    return read_config(Variant, Path(root, VARIANTS, f"{name}.yaml"))


def kept_trainings() -> Path:
    """Where trainings are kept: in the repository that dvc runs an experiment of."""
    return Path(os.environ.get("DVC_ROOT", "."), ".dvc", "trainings")


def configured(root: str | Path = ".") -> list[str]:
    """The names of all variants in configs/, in alphabetical order."""
    return sorted(path.stem for path in Path(root, VARIANTS).glob("*.yaml"))


def chosen(words: tuple[str, ...], stage: str) -> dict[str, Variant]:
    """The variants that a command line names; `--all` names every one of configs/.

    Raises PipelineError where it names none, or one that is not there.
    """
    names = configured() if words == ("--all",) else words
    if not names:
        raise PipelineError(f"usage: python -m stages.{stage} VARIANT ... | --all")
    return {name: read_variant(name) for name in names}


def differences(theirs: dict[str, object], ours: dict[str, object]) -> str:
    """The keys whose values differ, with both values: "norm 'batch', not 'none'; ..."."""
    pairs = {key: (theirs.get(key), ours.get(key)) for key in theirs | ours}
    return "; ".join(f"{key} {a!r}, not {b!r}" for key, (a, b) in pairs.items() if a != b)


def _check(
    kind: type[Settings],
    values: dict[Any, object],
    name_of: Callable[[str], str | None],
    problems: list[str],
    whole: str = "",
) -> Settings | None:
    """`kind` made of `values`; None where something is wrong, which `problems` gets.

    name_of: the name of a key; None leaves its problems out. whole: the name of all keys together.
    """
    try:
        return kind.model_validate({str(key): value for key, value in values.items()})
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            reason = problem["msg"].removeprefix("Value error, ")
            if not problem["loc"]:  # of several keys together
                problems += [f"{whole}: {reason}"] if whole else []
            elif name := name_of(key := str(problem["loc"][0])):
                if problem["type"] == "extra_forbidden":
                    section = name.removesuffix(key)
                    problems.append(_unknown(name, [f"{section}{x}" for x in kind.model_fields]))
                    continue
                places = [str(place) for place in problem["loc"][1:] if isinstance(place, int)]
                value = "" if problem["type"] == "missing" else f" is {_shown(problem['input'])}"
                problems.append(f"{'.'.join([name, *places])}{value}: {reason}")
        return None


def _mapping(value: object, name: str, problems: list[str]) -> dict[Any, object]:
    if isinstance(value, dict):
        return value
    problems.append(f"{name} is {_shown(value)}: it should be a mapping")
    return {}


def _unknown(key: object, known: list[str]) -> str:
    """That `key` means nothing here, and the setting with the nearest last word."""
    last_words = {name.split(".")[-1]: name for name in known}
    near = get_close_matches(str(key).split(".")[-1], last_words, n=1, cutoff=0.75)
    return f"{key} is no setting" + (f"; did you mean {last_words[near[0]]}?" if near else "")


def _shown(value: object) -> str:
    return reprlib.repr(value)[:100]
