"""params.yaml is checked before anything is trained."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.common.errors import PipelineError
from stages.common.settings import ModelSettings, read_models, read_params, resolve

PARAMS = Path(__file__).parents[2] / "params.yaml"


def resolved(tmp_path: Path, **changes: Any) -> dict[str, list[ModelSettings]]:
    """Every variant's models after `changes` of params.yaml, "a__b" meaning key b in a."""
    params = yaml.safe_load(PARAMS.read_text())
    for key, value in changes.items():
        *path, last = key.split("__")
        section = params
        for part in path:
            section = section[part]
        section[last] = value
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(params))
    return resolve(read_params(path))


def test_the_candidate_follows_the_top_level_and_nothing_else_does(tmp_path: Path) -> None:
    before = resolved(tmp_path)
    after = resolved(tmp_path, norm="shared", variational=True)
    (candidate,) = after["candidate"]
    assert candidate.norm == "shared"
    assert candidate.variational
    assert {name for name in before if before[name] != after[name]} == {"candidate"}


def test_a_variant_may_override_a_training_default(tmp_path: Path) -> None:
    models = resolved(tmp_path, train__epochs=5, variants__stacked__epochs=3)
    assert [model.epochs for model in models["stacked"]] == [3, 3]
    assert [model.epochs for model in models["recursive"]] == [5, 5]


def test_a_variant_is_a_model_for_each_wiring_that_has_seeds(tmp_path: Path) -> None:
    variants = resolved(tmp_path, train__seeds=[3, 4], train__published_seeds=[5])
    described, published = variants["recursive_vae"]
    assert (described.name, published.name) == ("recursive_vae", "published_recursive_vae")
    assert (described.wiring, published.wiring) == ("described", "published")
    assert (described.seeds, published.seeds) == ([3, 4], [5])
    own = {"name", "wiring", "seeds"}
    assert published.model_dump(exclude=own) == described.model_dump(exclude=own)
    (candidate,) = variants["candidate"]
    assert candidate.wiring == "described"


def test_yaml_numbers_written_as_strings_are_cast(tmp_path: Path) -> None:
    assert resolved(tmp_path, train__lr="1e-05")["stacked"][0].lr == 1e-5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"norm": "layer"}, ["norm", "'layer'", "'none', 'batch' or 'shared'"]),
        ({"variational": "perhaps"}, ["variational", "'perhaps'"]),
        ({"train__epochs": 0}, ["train.epochs", "0", "greater than or equal to 1"]),
        ({"train__lr": -1}, ["train.lr", "-1"]),
        ({"train__seeds": [1, 1]}, ["train.seeds", "must not repeat"]),
        ({"train__momentum": 0.9}, ["train.momentum", "0.9"]),
        ({"download__dataset": "celeba"}, ["download.dataset", "'celeba'", "synthetic"]),
        ({"preprocess__held_out": 1.5}, ["preprocess.held_out", "1.5"]),
        ({"variants__mine": {"norm": "batch"}}, ["variants.mine", "training", "variational"]),
        ({"train__seeds": [2**64]}, ["train.seeds", "18446744073709551616"]),
        ({"train__published_seeds": [2, 2]}, ["train.published_seeds", "must not repeat"]),
        ({"variants__published_mine": {}}, ["variants.published_mine", "published_seeds"]),
        ({"variants__stacked__name": "mine"}, ["variants.stacked.name", "'mine'", "key"]),
        ({"variants__stacked__speed": 3}, ["variants.stacked", "speed", "3"]),
        ({"variants__candidate": {"batch_size": 1}}, ["variants.candidate", "batch_size", "1"]),
        ({"variants__../up": {}}, ["variants.../up"]),
        ({"variants": {}}, ["variants"]),
    ],
)
def test_a_bad_value_is_named_in_one_line(
    tmp_path: Path, changes: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(PipelineError) as caught:
        resolved(tmp_path, **changes)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_files_that_are_not_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="does not exist"):
        read_params(tmp_path / "params.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("train: [1, 2")
    with pytest.raises(PipelineError, match="is not YAML"):
        read_params(broken)
    broken.write_text("just words")
    with pytest.raises(PipelineError, match="mapping"):
        read_params(broken)
    with pytest.raises(PipelineError, match="list of models, but holds 'just words'"):
        read_models(broken)
    broken.write_text("[{name: stacked}]")
    with pytest.raises(PipelineError, match=r"`dvc repro configure` writes: .*wiring"):
        read_models(broken)
