"""params.yaml is checked before anything is trained."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from stages import configure
from stages.common.errors import PipelineError
from stages.common.settings import Params, Variant, read_config, read_params, read_variant
from stages.common.yaml_files import read_yaml, to_yaml
from tests.conftest import ROOT

PARAMS = ROOT / "params.yaml"


def params() -> Any:
    return read_yaml(PARAMS)


def written(tmp_path: Path, values: object) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(values if isinstance(values, str) else to_yaml(values), encoding="utf-8")
    return path


def resolved(tmp_path: Path, **changes: Any) -> Params:
    """params.yaml, read after `changes`: "a__b" means key b in a."""
    values = params()
    for key, value in changes.items():
        *path, last = key.split("__")
        section = values
        for part in path:
            section = section[part]
        section[last] = value
    return read_params(written(tmp_path, values))


def refused(tmp_path: Path, **changes: Any) -> str:
    """What is said of `changes`, in one line that a person can read."""
    with pytest.raises(PipelineError) as caught:
        resolved(tmp_path, **changes)
    message = str(caught.value).removeprefix(f"{tmp_path / 'params.yaml'}: ")
    assert not any(part in message for part in ("\n", "0x", "function", "Value error", "pydantic"))
    return message


def test_the_candidate_follows_the_top_level_and_nothing_else_does(tmp_path: Path) -> None:
    before = resolved(tmp_path).variants
    changes = {"training": "joint", "norm": "tied", "activation": "relu", "variational": True}
    changes |= {"upsample": "nearest", "downsample": "maxpool", "schedule": "cosine"}
    changes |= {"level_weights": "image"}
    after = resolved(tmp_path, **changes).variants
    assert after["candidate"] == before["candidate"].model_copy(update=changes)
    assert {name for name in before if before[name] != after[name]} == {"candidate"}


def test_the_committed_models_are_of_these_settings(tmp_path: Path) -> None:
    """To the byte: dvc would train others. The candidate is whatever is tried here."""
    locked: Any = read_yaml(ROOT / "dvc.lock")
    for name, variant in read_params(PARAMS).variants.items():
        path = f"configs/variants/{name}.yaml"
        configure.write(variant, tmp_path / path)
        deps = locked["stages"][f"train-variant@{name}"]["deps"]
        (md5,) = (dep["md5"] for dep in deps if dep["path"] == path)
        same = hashlib.md5((tmp_path / path).read_bytes()).hexdigest() == md5
        assert same or name == "candidate", name


def test_a_variant_may_override_a_training_default(tmp_path: Path) -> None:
    variants = resolved(tmp_path, train__epochs=5, variants__stacked__epochs=3).variants
    assert (variants["stacked"].epochs, variants["recursive"].epochs) == (3, 5)


def test_a_variant_is_a_model_for_each_implementation_that_has_seeds(tmp_path: Path) -> None:
    defaults = {"train__seeds": [3, 4], "train__released_seeds": [5]}
    variants = resolved(tmp_path, variants__new={}, **defaults).variants
    variant = variants["new"]
    described, released = variant.models().values()
    assert (described.implementation, released.implementation) == ("described", "released")
    assert described.model_copy(update={"implementation": "released"}) == released
    assert (variant.seeds_of("described"), variant.seeds_of("released")) == ([3, 4], [5])
    assert [*variants["candidate"].models()] == ["described"]


@pytest.mark.parametrize(
    ("given", "seeds"), [(1, [0]), (3, [0, 1, 2]), ([0], [0]), ([4, 2], [4, 2])], ids=str
)
def test_a_number_of_seeds_is_the_first_so_many(
    tmp_path: Path, given: object, seeds: list[int]
) -> None:
    changes = {"train__seeds": given, "train__released_seeds": given}
    variant = resolved(tmp_path, **changes).variants["stacked"]
    assert variant.seeds == variant.released_seeds == seeds


TEXT, NUMBER, MAPPING = "some text", 3, {"a": 1}
# Values of a wrong type and out of range. A mapping is tried for every setting there is.
BAD: dict[str, list[Any]] = {
    "training": [NUMBER, True, None, "Stacked", "both", ["stacked"]],
    "norm": [NUMBER, True, None, "layer", False],
    "activation": [NUMBER, None, "tanh"],
    "variational": [NUMBER, None, "true", "perhaps", 0, 1],
    "upsample": [NUMBER, None, "cubic"],
    "downsample": [NUMBER, None, "avgpool"],
    "level_weights": [NUMBER, None, "images", [0.0] + [1.0] * 6, MAPPING],
    "stacked_epochs": [TEXT, True, None, 1.0, -1],
    "schedule": [NUMBER, None, "step"],
    "levels": [TEXT, True, 1.0, 0],
    "reach": [TEXT, True, 1.0, 0],
    "kl_weight": [TEXT, True, 0, -1, float("nan")],
    "download.dataset": [NUMBER, None, "celeba", "LFW"],
    "download.count": [TEXT, True, None, 1000.0, "1000", 63, 100_001],
    "download.pictures": [NUMBER, None, "", "~/pictures", ["pictures"]],
    "preprocess.held_out": [TEXT, True, None, 0, 1, -0.1, 1.5, float("nan")],
    "publish": [TEXT, None, MAPPING, ["best", "best"], ["best", 3]],
    "preprocess.size": [TEXT, True, None, "128", 100],
    "train.epochs": [TEXT, True, None, 10.0, "10", 0, -1],
    "train.batch_size": [TEXT, True, None, 32.0, "32", 1, 0],
    "train.lr": [TEXT, True, None, 0, -1, float("nan"), float("inf"), [0.1]],
    "train.averaging": [TEXT, True, None, 0, 1, 1.5],
    "train.seeds": [TEXT, True, None, 1.0, -1, 1001, [], [1, 1], [-1], [0.0], ["0"], [2**64]],
    "train.released_seeds": [TEXT, True, None, 0.0, [2, 2], [-1], [0.5]],
}


SECTIONS = ("download", "preprocess", "train")
SETTINGS = [key for key, value in params().items() if not isinstance(value, dict)]
SETTINGS += [f"{section}.{key}" for section in SECTIONS for key in params()[section]]


@pytest.mark.parametrize("key", SETTINGS)
def test_a_bad_value_is_named_with_what_is_allowed(tmp_path: Path, key: str) -> None:
    for value in [MAPPING, *BAD.get(key, [])]:
        message = refused(tmp_path, **{key.replace(".", "__"): value})
        name, _, rest = message.partition(" is ")
        assert name == key or name.startswith(f"{key}."), message
        assert ": " in rest and "; " not in message, message
        if not isinstance(value, list):
            assert rest.startswith(f"{value!r}: "), message


NEAR = {f"{key}s": key for key in SETTINGS}
NEAR |= {key.split(".")[1]: key for key in SETTINGS if "." in key}
NEAR |= {"train.levels": "levels"}
FAR = ("train.momentum", "data", "download.size", "optimizer")


@pytest.mark.parametrize(("key", "meant"), [*NEAR.items(), *((key, "") for key in FAR)])
def test_an_unknown_key_is_named_with_a_near_one(tmp_path: Path, key: str, meant: str) -> None:
    advice = f"; did you mean {meant}?" if meant else ""
    assert refused(tmp_path, **{key.replace(".", "__"): 1}) == f"{key} is no setting{advice}"


@pytest.mark.parametrize("name", [*SECTIONS, "variants", "variants__stacked"])
def test_a_section_that_lacks_or_is_none_is_named(tmp_path: Path, name: str) -> None:
    for value in (None, 3, [1], "text"):
        told = f"{name.replace('__', '.')} is {value!r}: it should be a mapping"
        assert refused(tmp_path, **{name: value}).startswith(told)
    values = params()
    if values.pop(name, None):
        with pytest.raises(PipelineError, match=name):
            read_params(written(tmp_path, values))


def test_all_problems_are_in_one_message(tmp_path: Path) -> None:
    changes = {"activation": "tanh", "bach_size": 3, "released_seeds": [1, 1]}
    mine = {f"variants__stacked__{key}": value for key, value in changes.items()}
    message = refused(tmp_path, lr=0.01, norm="layer", preprocess__held_out=2, **mine)
    for told in (
        "lr is no setting; did you mean train.lr?",
        "norm is 'layer': Input should be 'none', 'batch', 'shared' or 'tied'",
        "preprocess.held_out is 2: ",
        "variants.stacked.activation is 'tanh': ",
        "variants.stacked.bach_size is no setting; did you mean variants.stacked.batch_size?",
        "variants.stacked.released_seeds is [1, 1]: it should be a number of seeds",
    ):
        assert message.count(told) == 1, (told, message)
    assert message.count("; ") == 6 + 1  # six problems, two with advice


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"level_weights": "image"}, "level_weights are of training: joint alone"),
        ({"level_weights": [1.0] * 7}, "level_weights are of training: joint alone"),
        ({"training": "stacked", "stacked_epochs": 1}, "stacked_epochs are of training: recursive"),
        ({"stacked_epochs": 11}, "stacked_epochs are more than all 10 epochs"),
        ({"training": "joint", "level_weights": [1.0] * 6}, "level_weights are 6: there are 7"),
        ({"levels": 8}, "levels is 8: 128 pixels have 7 halvings"),
        ({"variational": True, "levels": 6}, "a variational model has all 7 levels"),
        ({"kl_weight": 2.0}, "kl_weight is of variational models alone"),
        ({"training": "stacked", "reach": 2}, "reach is of training: recursive"),
        ({"levels": 3, "reach": 4}, "reach is 4: there are 3 levels"),
        ({"separate_steps": True}, "separate_steps are of training: recursive as released alone"),
        ({"size": 64}, "mine.size is no setting; did you mean preprocess.size?"),
        ({"training": "joint", "released_seeds": [0]}, "set released_seeds: 0"),
        ({"norm": "tied", "released_seeds": [0]}, "set released_seeds: 0"),
        ({"schedule": "cosine", "released_seeds": [0]}, "the authors' code has no schedule"),
        ({"upsample": "nearest", "released_seeds": [0]}, "the authors' code has no upsample"),
    ],
    ids=str,
)
def test_settings_that_make_no_sense_together(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    message = refused(tmp_path, variants__mine={"released_seeds": 0} | changes)
    assert message.startswith("variants.mine")
    assert told in message


def test_every_variant_has_the_size_of_the_pictures(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="128 pixels; only your own pictures"):
        resolved(tmp_path, preprocess__size=256)
    found = resolved(tmp_path, preprocess__size=64)
    assert {variant.size for variant in found.variants.values()} == {64}
    assert {variant.depth for variant in found.variants.values()} == {6}
    of_before = resolved(tmp_path)
    for settings in (of_before.preprocess, of_before.variants["stacked"]):
        assert not {"size", "levels", "reach", "kl_weight"} & {*settings.model_dump()}


def test_names_are_text(tmp_path: Path) -> None:
    names = {"64", "nan", "null", "na", "true", "x" * 64}
    assert names < {*resolved(tmp_path, **{f"variants__{name}": {} for name in names}).variants}


NO_TEXT = (64, float("nan"), None, True, 1.5, 1e5)
NO_FILES = ("Big", "a-b", "../up", "a/b", "", "x" * 65)


@pytest.mark.parametrize("name", [*NO_TEXT, *NO_FILES])
def test_names_that_are_no_text_or_no_file_s_are_refused(tmp_path: Path, name: object) -> None:
    mine = params()["variants"] | {name: {"norm": "none"}}
    told = refused(tmp_path, variants=mine)
    assert "a variant's name is at most 64 of a-z, 0-9 and _" in told


def test_files_that_are_not_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="does not exist"):
        read_params(tmp_path / "params.yaml")
    for text in ("just words", "- 1", ""):
        with pytest.raises(PipelineError, match="should be a mapping"):
            read_params(written(tmp_path, text))


def test_a_resolved_file_is_read_as_it_was_written_or_refused(tmp_path: Path) -> None:
    mine = resolved(tmp_path).variants["recursive"]
    path = tmp_path / "configs/variants/mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(to_yaml(mine.model_dump()), encoding="utf-8")
    assert read_variant("mine", tmp_path) == mine
    for text, told in (
        ("just words", "should hold settings, but holds 'just words'"),
        ("{norm: none}", "epochs: Field required"),
        (to_yaml(mine.model_dump() | {"speed": 3}), "speed is no setting"),
        (to_yaml(mine.model_dump() | {"epochs": 0}), "epochs is 0: "),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(PipelineError, match="which `dvc repro configure` writes") as caught:
            read_config(Variant, path)
        assert told in str(caught.value)
    for name, told in (("other", "does not exist"), ("../mine", "is no variant's name")):
        with pytest.raises(PipelineError, match=told):
            read_variant(name, tmp_path)
