"""params.yaml is checked before anything is trained."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.common.errors import PipelineError
from stages.common.settings import (
    BEYOND,
    NETWORK_KEYS,
    TRAIN_KEYS,
    DownloadSettings,
    Params,
    PreprocessSettings,
    Variant,
    read_config,
    read_params,
    read_variant,
)

PARAMS = Path(__file__).parents[2] / "params.yaml"


def resolved(tmp_path: Path, **changes: Any) -> Params:
    """params.yaml, read after `changes`: "a__b" means key b in a."""
    params = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
    for key, value in changes.items():
        *path, last = key.split("__")
        section = params
        for part in path:
            section = section[part]
        section[last] = value
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(params), encoding="utf-8")
    return read_params(path)


def refused(tmp_path: Path, **changes: Any) -> str:
    """What is said of `changes`, in one line that a person can read."""
    with pytest.raises(PipelineError) as caught:
        resolved(tmp_path, **changes)
    message = str(caught.value).removeprefix(f"{tmp_path / 'params.yaml'}: ")
    assert not any(part in message for part in ("\n", "0x", "function", "Value error", "pydantic"))
    return message


def test_the_candidate_follows_the_top_level_and_nothing_else_does(tmp_path: Path) -> None:
    before = resolved(tmp_path).variants
    changes = {"norm": "tied", "variational": True, "schedule": "cosine"}
    after = resolved(tmp_path, **changes).variants
    assert after["candidate"] == before["candidate"].model_copy(update=changes)
    assert {name for name in before if before[name] != after[name]} == {"candidate"}


def test_a_variant_may_override_a_training_default(tmp_path: Path) -> None:
    variants = resolved(tmp_path, train__epochs=5, variants__stacked__epochs=3).variants
    assert (variants["stacked"].epochs, variants["recursive"].epochs) == (3, 5)


def test_a_variant_is_a_model_for_each_implementation_that_has_seeds(tmp_path: Path) -> None:
    new = {"training": "recursive", "norm": "none", "activation": "selu", "variational": False}
    defaults = {"train__seeds": [3, 4], "train__released_seeds": [5]}
    variants = resolved(tmp_path, variants__new=new, **defaults).variants
    variant = variants["new"]
    described, released = variant.models().values()
    assert (described.implementation, released.implementation) == ("described", "released")
    assert described.model_copy(update={"implementation": "released"}) == released
    assert (variant.seeds_of("described"), variant.seeds_of("released")) == ([3, 4], [5])
    assert [*variants["candidate"].models()] == ["described"]


def test_all_of_params_yaml_is_in_use(tmp_path: Path) -> None:
    """Every key of the file is checked, and every key that is known stands in the file."""
    params = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
    sections = {"download", "preprocess", "train", "publish", "variants"}
    assert {*params} - sections == {*NETWORK_KEYS, *BEYOND}
    assert {*params["download"]} == {*DownloadSettings.model_fields}
    assert {*params["preprocess"]} == {*PreprocessSettings.model_fields}
    assert {*params["train"]} == {*TRAIN_KEYS}
    settings = {*NETWORK_KEYS, *BEYOND, *TRAIN_KEYS, "size", "separate_steps", "implementation"}
    assert {*Variant.model_fields} == settings


@pytest.mark.parametrize("text", ["1e-5", "1e-05", "0.00001", "1.0e-5"])
def test_numbers_work_as_yaml_writes_them(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    lines = PARAMS.read_text(encoding="utf-8").replace("lr: 0.001\n", f"lr: {text}\n")
    path.write_text(lines, encoding="utf-8")
    assert read_params(path).variants["stacked"].lr == 1e-5


TEXT, NUMBER, MAPPING = "some text", 3, {"a": 1}
# Of every setting: values of a wrong type, and values out of range.
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
    "download.pictures": [NUMBER, None, "", ["pictures"]],
    "preprocess.held_out": [TEXT, True, None, 0, 1, -0.1, 1.5, float("nan")],
    "preprocess.size": [TEXT, True, None, "128", 100],
    "publish": [TEXT, None, MAPPING, ["lacking"], ["stacked", 3], [["stacked"]], ["best", "best"]],
    "train.epochs": [TEXT, True, None, 10.0, "10", 0, -1],
    "train.batch_size": [TEXT, True, None, 32.0, "32", 1, 0],
    "train.lr": [TEXT, True, None, 0, -1, float("nan"), float("inf"), [0.1]],
    "train.averaging": [TEXT, True, None, 0, 1, 1.5],
    "train.seeds": [TEXT, True, None, 1, [], [1, 1], [-1], [0.0], ["0"], [True], [2**64]],
    "train.released_seeds": [TEXT, True, None, 0, [2, 2], [-1], [0.5]],
}


def test_every_setting_is_tried() -> None:
    params = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
    known = {key for key, value in params.items() if not isinstance(value, dict)}
    for section in ("download", "preprocess", "train"):
        known |= {f"{section}.{key}" for key in params[section]}
    assert {*BAD} == known


@pytest.mark.parametrize("key", BAD)
def test_a_bad_value_is_named_with_what_is_allowed(tmp_path: Path, key: str) -> None:
    for value in BAD[key]:
        message = refused(tmp_path, **{key.replace(".", "__"): value})
        name, _, rest = message.partition(" is ")
        assert name == key or name.startswith(f"{key}."), message
        assert ": " in rest and "; " not in message, message
        if not isinstance(value, list):
            assert rest.startswith(f"{value!r}: "), message


@pytest.mark.parametrize("key", BAD)
def test_a_misspelt_key_is_named_with_the_one_that_was_meant(tmp_path: Path, key: str) -> None:
    misspelt = f"{key}s"
    message = refused(tmp_path, **{misspelt.replace(".", "__"): 1})
    assert message == f"{misspelt} is no setting; did you mean {key}?"


@pytest.mark.parametrize("key", [*TRAIN_KEYS, "held_out", "count", "dataset"])
def test_a_key_at_the_wrong_place_is_named_with_its_own(tmp_path: Path, key: str) -> None:
    section = {"held_out": "preprocess", "count": "download", "dataset": "download"}
    meant = f"{section.get(key, 'train')}.{key}"
    assert refused(tmp_path, **{key: 1}) == f"{key} is no setting; did you mean {meant}?"


@pytest.mark.parametrize("name", [*NETWORK_KEYS, "download", "preprocess", "train", "variants"])
def test_what_lacks_is_named(tmp_path: Path, name: str) -> None:
    params = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
    del params[name]
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(params), encoding="utf-8")
    with pytest.raises(PipelineError, match=name):
        read_params(path)


@pytest.mark.parametrize("name", ["download", "preprocess", "train", "variants"])
@pytest.mark.parametrize("value", [None, 3, [1], "text"])
def test_a_section_that_is_none_is_named(tmp_path: Path, name: str, value: object) -> None:
    assert refused(tmp_path, **{name: value}).startswith(
        f"{name} is {value!r}: it should be a mapping"
    )


def test_all_problems_are_in_one_message(tmp_path: Path) -> None:
    message = refused(
        tmp_path,
        lr=0.01,
        norm="layer",
        download__count=1000.0,
        preprocess__held_out=2,
        train__epochs=True,
        train__momentum=0.9,
        variants__stacked__activation="tanh",
        variants__recursive__bach_size=3,
        variants__stacked_vae__released_seeds=[1, 1],
    )
    for told in (
        "lr is no setting; did you mean train.lr?",
        "norm is 'layer': Input should be 'none', 'batch', 'shared' or 'tied'",
        "download.count is 1000.0: ",
        "preprocess.held_out is 2: ",
        "train.epochs is True: ",
        "train.momentum is no setting",
        "variants.stacked.activation is 'tanh': ",
        "variants.recursive.bach_size is no setting; did you mean variants.recursive.batch_size?",
        "variants.stacked_vae.released_seeds is [1, 1]: must not repeat a seed",
    ):
        assert message.count(told) == 1, (told, message)
    assert message.count("; ") == 9 + 1  # nine problems, two with advice


MINE = {"training": "recursive", "norm": "none", "activation": "selu", "variational": False}


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
        ({"training": "joint", "released_seeds": [0]}, "set released_seeds: []"),
        ({"norm": "tied", "released_seeds": [0]}, "set released_seeds: []"),
        ({"schedule": "cosine", "released_seeds": [0]}, "the authors' code has no schedule"),
        ({"upsample": "nearest", "released_seeds": [0]}, "the authors' code has no upsample"),
    ],
    ids=str,
)
def test_settings_that_make_no_sense_together(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    mine = MINE | {"released_seeds": []} | changes
    message = refused(tmp_path, variants__mine=mine)
    assert message.startswith("variants.mine")
    assert told in message


def test_every_variant_has_the_size_of_the_pictures(tmp_path: Path) -> None:
    found = resolved(tmp_path, preprocess__size=64)
    assert {variant.size for variant in found.variants.values()} == {64}
    assert {variant.depth for variant in found.variants.values()} == {6}
    of_before = resolved(tmp_path)
    for settings in (of_before.preprocess, of_before.variants["stacked"]):
        assert not {"size", "levels", "reach", "kl_weight"} & {*settings.model_dump()}


@pytest.mark.parametrize("name", ["64", "nan", "null", "na", "true", "x" * 64])
def test_names_are_text(tmp_path: Path, name: str) -> None:
    assert isinstance(resolved(tmp_path, **{f"variants__{name}": MINE}).variants[name], Variant)


@pytest.mark.parametrize(
    "name", ["64", ".nan", "null", "~", "true", "1.5", "Big", "a-b", "../up", "a/b", "''", "x" * 65]
)
def test_names_that_are_no_text_or_no_file_s_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "params.yaml"
    text = PARAMS.read_text(encoding="utf-8") + f"  {name}: {{norm: none}}\n"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PipelineError, match="a variant's name is at most 64 of a-z, 0-9 and _"):
        read_params(path)


def test_a_variant_without_network_says_what_it_needs(tmp_path: Path) -> None:
    message = refused(tmp_path, variants__mine={"norm": "batch"})
    assert message.startswith("variants.mine does not set training, activation, variational;")
    assert refused(tmp_path, variants__mine=None) == (
        "variants.mine is None: it should be a mapping of settings"
    )
    assert "there is nothing to train" in refused(tmp_path, variants={})


def test_files_that_are_not_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="does not exist"):
        read_params(tmp_path / "params.yaml")
    broken = tmp_path / "configs/variants/mine.yaml"
    broken.parent.mkdir(parents=True)
    for text, told in (
        ("train: [1, 2", "is not YAML"),
        ("just words", "should be a mapping"),
        ("- 1", "should be a mapping"),
        ("", "should be a mapping"),
    ):
        broken.write_text(text, encoding="utf-8")
        with pytest.raises(PipelineError, match=told) as caught:
            read_params(broken)
        assert "\n" not in str(caught.value)
    broken.write_bytes(b"\xff\xfe")
    with pytest.raises(PipelineError, match="is not YAML"):
        read_params(broken)


def test_a_resolved_file_is_read_as_it_was_written_or_refused(tmp_path: Path) -> None:
    written = resolved(tmp_path).variants["recursive"]
    path = tmp_path / "configs/variants/mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(yaml.safe_dump(written.model_dump()), encoding="utf-8")
    assert read_variant("mine", tmp_path) == written
    for text, told in (
        ("just words", "should hold settings, but holds 'just words'"),
        ("{norm: none}", "training: Field required"),
        (yaml.safe_dump(written.model_dump() | {"speed": 3}), "speed is no setting"),
        (yaml.safe_dump(written.model_dump() | {"epochs": 0}), "epochs is 0: "),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(PipelineError, match="which `dvc repro configure` writes") as caught:
            read_config(Variant, path)
        assert told in str(caught.value)
    for name, told in (("other", "does not exist"), ("../mine", "is no variant's name")):
        with pytest.raises(PipelineError, match=told):
            read_variant(name, tmp_path)
