"""`configure` writes what each stage depends on, and takes files of settings into params.yaml."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from stages import configure
from stages.common.settings import CONFIGS, PUBLISH, VARIANTS, read_params
from stages.common.yaml_files import read_yaml, to_yaml
from tests.conftest import ROOT

FILES = sorted((ROOT / "settings").glob("*.yaml"))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    shutil.copy(ROOT / "params.yaml", tmp_path)


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_a_file_of_settings_holds_for_every_variant_and_keeps_comments(file: Path) -> None:
    before, changes = Path("params.yaml").read_text("utf-8"), read_yaml(file)
    assert isinstance(changes, dict)
    configure.main(str(file))
    after = Path("params.yaml").read_text("utf-8")
    # A variant that is removed takes its comments along.
    kept = [text.split("\nvariants:")[0].count("#") for text in (before, after)]
    assert len({*kept}) == 1 and after.startswith(before[:100])
    items = changes.pop("variants", [])
    variants = {k: v for x in items for k, v in (x if isinstance(x, dict) else {x: {}}).items()}
    for name, variant in read_params().variants.items():
        own = variants.get(name, {})
        for key, value in (changes["train"] | own).items():
            given = getattr(variant, key)
            assert (len(given) if isinstance(given, list) else given) == value, (name, key)
    if variants:
        assert {*read_params().variants} == {*variants}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"train": {"epoch": 1}}, "train.epoch is no setting; did you mean train.epochs?"),
        ({"variants": ["stacked", "best2"]}, "variants has no best2"),
        ({"variants": {"stacked": None}}, "variants.stacked is None"),
        ({"train": 3}, "train is 3: it should be a mapping"),
        (["stacked"], "should be a mapping"),
    ],
    ids=str,
)
def test_a_file_that_is_not_valid_changes_nothing(
    changes: object, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path("params.yaml").read_bytes()
    Path("mine.yaml").write_text(to_yaml(changes), encoding="utf-8")
    with pytest.raises(SystemExit):
        configure.main("mine.yaml")
    said = capsys.readouterr().err
    assert reason in said and said.count("\n") == 1
    assert Path("params.yaml").read_bytes() == before
    assert not CONFIGS.exists()


def test_a_list_for_all_is_no_alias() -> None:
    Path("mine.yaml").write_text("train: {seeds: [3, 4]}", encoding="utf-8")
    configure.main("mine.yaml")
    assert "*" not in Path("params.yaml").read_text("utf-8")
    assert all(variant.seeds == [3, 4] for variant in read_params().variants.values())


def test_a_removed_variant_is_not_published_and_one_line_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    params: Any = read_yaml("params.yaml")
    del params["variants"]["recursive_shared_bn"]
    Path("params.yaml").write_text(to_yaml(params), encoding="utf-8")
    configure.main()
    assert (
        "publish: variants has no recursive_shared_bn; no copy is kept\n" in capsys.readouterr().out
    )
    assert read_yaml(PUBLISH) == ["stacked", "recursive_then_stacked", "stacked_vae"]
    assert {path.stem for path in VARIANTS.iterdir()} == {*params["variants"]}


def test_what_is_kept_is_counted_by_settings_and_seed(capsys: pytest.CaptureFixture[str]) -> None:
    configure.main()
    total = sum(len(v.seeds) + len(v.released_seeds) for v in read_params().variants.values())
    assert f", {total - 2} different trainings; 0 of them" in capsys.readouterr().out
    settings = read_params().variants["stacked"].models()["described"].model_dump()
    for name, seed, epochs in (("a", 0, 10), ("b", 1, 10), ("c", 2, 11), ("d", 99, 10)):
        home = Path(".dvc/trainings", name)
        (home / f"epochs{epochs}").mkdir(parents=True)
        (home / f"epochs{epochs}/curve.csv").touch()
        identity = {"settings": {**settings} | {"epochs": 0}, "seed": seed}
        (home / "identity.json").write_text(json.dumps(identity), encoding="utf-8")
    (home / "identity.json").write_text("[]", encoding="utf-8")
    configure.main()
    assert " different trainings; 2 of them" in capsys.readouterr().out


def test_the_time_of_what_is_missing_is_told_where_the_pace_of_all_is_known(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("few.yaml").write_text("train: {seeds: [3], epochs: 10}\nvariants: [joint]", "utf-8")
    lines = ["variant,epoch_seconds,processor", "stacked,9,a Zen", "joint,360,a Zen"]
    configure.PACE.parent.mkdir(parents=True)
    for text in ("variant\nstacked", "variant,epoch_seconds\njoint,much", "\n".join(lines[:2])):
        configure.PACE.write_text(text, encoding="utf-8")
        configure.main("few.yaml")
        assert "hours" not in capsys.readouterr().out
    configure.PACE.write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.setenv("RECURSIVE_AUTOENCODER_CORES", "1")
    configure.main()
    said = "; the others take about 1.0 hours on 1 core(s) of a Zen\n"
    assert capsys.readouterr().out.endswith(said)
