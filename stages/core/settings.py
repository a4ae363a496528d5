"""params.yaml, checked and typed; and the resolved settings of a variant's models."""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from stages.core.errors import PipelineError

# What a variant must say of itself. Left to the top level, `-S variational=true` would retrain
# that variant together with the candidate.
MODEL_KEYS = ("training", "norm", "activation", "variational")
CANDIDATE = "candidate"
PUBLISHED = "published_"  # published_<variant> is <variant> with the authors' wiring


class Checked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DownloadSettings(Checked):
    """`count`: number of pictures drawn when the dataset is `synthetic`."""

    dataset: Literal["lfw-deepfunneled", "lfw", "synthetic"]
    count: Annotated[int, Field(ge=64, le=100_000)]


class PreprocessSettings(Checked):
    """`held_out`: share of the people kept out of training, 0 to 1 exclusive."""

    held_out: Annotated[float, Field(gt=0, lt=1)]


def _distinct(seeds: list[int]) -> list[int]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("must not repeat a seed")
    return seeds


Seeds = Annotated[list[Annotated[int, Field(ge=0, lt=2**63)]], AfterValidator(_distinct)]


class Recipe(Checked):
    """How long and how a model is trained; the authors ran Adam 1e-3, batch 32, 10 epochs."""

    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=2)]
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    seeds: Annotated[Seeds, Field(min_length=1)]


class Network(Checked):
    """What is trained."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$")]
    training: Literal["stacked", "recursive"]
    norm: Literal["none", "batch", "shared"]
    activation: Literal["selu", "relu"]
    variational: bool


class ModelSettings(Network, Recipe):
    """Everything that determines one model, and its seeds; see README for each key."""

    wiring: Literal["described", "published"]


class TrainSettings(Recipe):
    """`published_seeds`: seeds of the same model, wired as the authors' code ran; may be none."""

    published_seeds: Seeds


class VariantSettings(Network, TrainSettings):
    """A row of Table 1 or Figure 4, with one wiring or both."""

    def models(self) -> list[ModelSettings]:
        """The model as the paper describes it and, where it has seeds, as the authors' code ran."""
        common = self.model_dump(exclude={"name", "seeds", "published_seeds"})
        wirings = (
            ("described", self.name, self.seeds),
            ("published", PUBLISHED + self.name, self.published_seeds),
        )
        return [
            ModelSettings(**common, wiring=wiring, name=name, seeds=seeds)
            for wiring, name, seeds in wirings
            if seeds
        ]


class Params(Checked):
    """params.yaml as a whole: the candidate's keys, a section a stage, and the variants."""

    training: Any
    norm: Any
    activation: Any
    variational: Any
    download: DownloadSettings
    preprocess: PreprocessSettings
    train: TrainSettings
    variants: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]


def _checked(model: type[BaseModel], values: Any, where: str) -> Any:
    """`model` made of `values`. Raises PipelineError: every bad key, its value, what is allowed."""
    if not isinstance(values, dict):
        raise PipelineError(f"{where} should be a mapping of settings, but holds {values!r}")
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = []
        for problem in error.errors():
            key = ".".join(str(part) for part in problem["loc"])
            said = "" if problem["type"] == "missing" else f" is {problem['input']!r}:"
            problems.append(f"{key}{said} {problem['msg']}")
        raise PipelineError(f"{where}: {'; '.join(problems)}") from None


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise PipelineError(f"{path} does not exist here; run from the repository's root") from None
    except yaml.YAMLError as error:
        raise PipelineError(f"{path} is not YAML: {' '.join(str(error).split())}") from None


def read_params(path: str | Path = "params.yaml") -> Params:
    """The checked content of params.yaml. Raises PipelineError where a value is not allowed."""
    return _checked(Params, _read_yaml(Path(path)), str(path))


def read_models(path: str | Path) -> list[ModelSettings]:
    """One variant's models, as `configure` wrote them to configs/<variant>.yaml.

    The one as the paper describes it comes first. Raises PipelineError where there are none.
    """
    if not Path(path).exists():
        raise PipelineError(
            f"{path} does not exist; `dvc repro configure`, in the repository's root, writes one "
            "for every variant of params.yaml"
        )
    where = f"{path}, which `dvc repro configure` writes"
    models = _read_yaml(Path(path))
    if not isinstance(models, list) or not models:
        raise PipelineError(f"{where}, should be a list of models, but holds {models!r}")
    return [_checked(ModelSettings, model, where) for model in models]


def resolve(params: Params) -> dict[str, list[ModelSettings]]:
    """The models of every variant: from `train`, the top-level keys, and its own entries.

    Raises PipelineError for a value that is not allowed, for a name that starts with PUBLISHED, and
    for a variant other than `candidate` that does not set all of MODEL_KEYS.
    """
    defaults = params.train.model_dump() | {key: getattr(params, key) for key in MODEL_KEYS}
    variants = {}
    for name, own in params.variants.items():
        where = f"params.yaml: variants.{name}"
        if name.startswith(PUBLISHED):
            raise PipelineError(
                f"{where}: names that start with {PUBLISHED} are those of models with the "
                "authors' wiring; set published_seeds of a variant instead, or rename this one"
            )
        missing = [key for key in MODEL_KEYS if key not in own]
        if missing and name != CANDIDATE:
            raise PipelineError(
                f"{where} does not set {', '.join(missing)}; every variant but {CANDIDATE} sets "
                f"all of {', '.join(MODEL_KEYS)}"
            )
        if "name" in own:
            raise PipelineError(f"{where}.name is {own['name']!r}: a variant is named by its key")
        variants[name] = _checked(VariantSettings, defaults | own | {"name": name}, where).models()
    return variants
