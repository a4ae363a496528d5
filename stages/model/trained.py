"""Where the trained models lie: those of this folder, and small copies in git."""

from collections.abc import Sequence
from pathlib import Path

from stages.common.errors import PipelineError
from stages.common.settings import Weights
from stages.model import checkpoint
from stages.model.network import Autoencoder

MODELS, COPIES = Path("models"), Path("reports/models")
WEIGHTS: Weights = "averaged"


def seeds(variant: str) -> list[Path]:
    """The averaged weights of a variant as described, that of the lowest seed first."""
    found = Path(MODELS, variant, "described").glob(f"seed*/{WEIGHTS}.safetensors")
    return sorted(found, key=lambda path: (len(path.parent.name), path.parent.name))


def copy_of(variant: str) -> Path:
    """Where `publish` keeps a variant's model in half precision."""
    return COPIES / f"{variant}.safetensors"


def find(name: str) -> Path:
    """The file of a model: `name` itself where it ends as one, else of that variant.

    The first seed trained in this folder, or else the copy. Raises PipelineError for neither.
    """
    if name.endswith(".safetensors"):
        return Path(name)
    for path in (*seeds(name), copy_of(name)):
        if path.exists():
            return path
    raise PipelineError(
        f"there is no trained model {name!r}; here are {', '.join(available()) or 'none'}; "
        f"a variant of params.yaml is trained by `dvc repro train-variant@{name}`"
    )


def available() -> list[str]:
    """The variants that `find` finds."""
    trained = {path.parents[2].name for path in MODELS.glob(f"*/described/*/{WEIGHTS}.safetensors")}
    return sorted(trained | {path.stem for path in COPIES.glob("*.safetensors")})


def copies() -> list[str]:
    """The variants that `publish` keeps. Raises PipelineError where there is none."""
    found = sorted(path.stem for path in COPIES.glob("*.safetensors"))
    if not found:
        raise PipelineError(f"{COPIES} has no models; name others with --variants")
    return found


def load(names: Sequence[str]) -> dict[str, Autoencoder]:
    """A model for each name, in evaluation mode. Raises PipelineError as `find` and `load` do."""
    return {name: checkpoint.load(find(name))[0] for name in names}
