"""What the documents say must be what the code and reports/ say."""

import csv
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from stages.common.settings import (
    BEYOND,
    NETWORK_KEYS,
    TRAIN_KEYS,
    DownloadSettings,
    Params,
    PreprocessSettings,
    Variant,
    read_params,
)
from stages.report.statistics import CONFIDENCE, t_interval

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
STACKED = ("stacked", "stacked_tuned")
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]


def test_readme_is_two_screens() -> None:
    assert len(README.splitlines()) <= 120


def described() -> dict[str, str]:
    """Every key of params.yaml with its description in the code."""
    variant = Variant.model_fields
    keys = {key: variant[key] for key in (*NETWORK_KEYS, *BEYOND)}
    keys |= {f"train.{key}": variant[key] for key in TRAIN_KEYS}
    for section, kind in (("download", DownloadSettings), ("preprocess", PreprocessSettings)):
        keys |= {f"{section}.{key}": field for key, field in kind.model_fields.items()}
    keys["publish"] = Params.model_fields["publish"]
    return {key: field.description or "" for key, field in keys.items()}


def test_every_setting_is_described_once() -> None:
    text = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([\w.]+)` \| .* \| (.*) \|$", text, re.M))
    assert rows == described()
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    given = [*(key for key in params if not isinstance(params[key], dict))]
    given += [
        f"{section}.{key}"
        for section in ("download", "preprocess", "train")
        for key in params[section]
    ]
    assert sorted(given) == sorted(rows)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_that_is_named_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for path in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (document.parent / path).exists(), path


def test_the_verdicts_are_those_in_reports() -> None:
    row = re.compile(r"^\| (\d) \| (.*) \| \*\*(.*)\*\* \| \*\*(.*)\*\* \|$", re.M)
    found = row.findall(README)
    assert len(found) == 9
    assert found == row.findall((ROOT / "reports/README.md").read_text(encoding="utf-8"))


def seeds() -> dict[str, int]:
    """How many a variant has."""
    variants = read_params(ROOT / "params.yaml").variants
    return {name: len(variant.seeds) for name, variant in variants.items()}


def test_the_interval_over_images_is_that_of_reports() -> None:
    text = " ".join((ROOT / "docs/assumptions.md").read_text(encoding="utf-8").split())
    report = (ROOT / "reports/README.md").read_text(encoding="utf-8")
    claim = r"^\| error of recursive lower than stacked \| averaged \| "
    found = re.search(claim + r".*? over 10 seeds; ([\d.]+ to [\d.]+) over images\)", report, re.M)
    assert found and f"`stacked` (averaged, ten seeds) from {found[1]} to " in text


def test_what_longer_trainings_show_is_what_they_measured() -> None:
    text = " ".join((ROOT / "docs/assumptions.md").read_text(encoding="utf-8").split())
    table = pd.read_csv(ROOT / "reports/studies/longer.csv")
    of = table.pivot(index=["measure", "epoch", "seed"], columns="variant", values="value")

    def logs(name: str, other: str, measure: str, epoch: int = 40) -> pd.Series:
        return np.log(of[name] / of[other]).loc[measure, epoch]

    sharper, error = (
        [np.exp(logs("recursive_then_stacked", other, measure).mean()) for other in STACKED]
        for measure in ("high_frequency_ratio", "averaged_error")
    )
    assert "{:.2f} and {:.2f} times, but".format(*sharper) in text
    assert "beyond doubt ({:.2f} and {:.2f} times)".format(*error) in text
    scheduled = [
        logs("stacked_tuned_cosine", "stacked_tuned", "averaged_error", epoch)
        for epoch in (10, 20, 40)
    ]
    interval = t_interval(scheduled[-1], CONFIDENCE)
    assert interval
    numbers = [*(np.exp(each.mean()) for each in scheduled), *np.exp(interval)]
    assert "{:.2f}, {:.2f} and {:.2f} times ({:.2f} to {:.2f}) the".format(*numbers) in text


def test_make_takes_the_versions_of_python_that_readme_names(tmp_path: Path) -> None:
    """By interpreters that only say of themselves that they are of some version."""
    named = re.search(r"Python 3\.(\d+) to 3\.(\d+)", README)
    assert named
    first, last = map(int, named.groups())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == f">=3.{first},<3.{last + 1}"
    for minor in (first - 1, first, last, last + 1):
        claim = f"import sys; sys.version_info = (3, {minor}, 0); exec(sys.argv[1])"
        python = tmp_path / f"python3.{minor}"
        python.write_text(
            f"""#!/bin/sh\n[ "$1" = -c ] && exec "{sys.executable}" -c "{claim}" "$2"\nexit 9\n""",
            encoding="utf-8",
        )
        python.chmod(0o755)
        ready = tmp_path / "ready"
        said = subprocess.run(
            ["make", "--no-print-directory", f"PYTHON={python}", f"READY={ready}", str(ready)],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert said.returncode
        if first <= minor <= last:
            assert said.stdout.startswith(f"{python} -m venv .venv\n")
        else:
            error = (
                f"error: {python} is Python 3.{minor}, requirements.txt needs 3.{first} to 3.{last}"
            )
            assert not said.stdout and said.stderr.startswith(error)


def test_the_finding_is_that_of_reports() -> None:
    with open(ROOT / "reports/table1.csv", newline="", encoding="utf-8") as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}

    def error(name: str, kind: str = "") -> str:
        mean, deviation = (float(rows[name][f"{kind}error{part}"]) for part in ("", "_sd"))
        return f"{mean:.0f} ± {deviation:.0f}"

    text = " ".join(README.split())
    told = (
        f"`recursive` {error('recursive')} against `stacked` {error('stacked')}",
        f"{error('recursive', 'averaged_')} against {error('stacked', 'averaged_')}",
        f"their error, {error('recursive_shared_bn', 'averaged_')}; at the last step",
        f"joint training ({error('joint', 'averaged_')}) is no better than stacked",
        f"as the authors' code has it ({error('recursive_bn', 'released_averaged_')}, n = 3)",
        f"not as we read the paper ({error('recursive_bn', 'averaged_')})",
        f"`stacked_tuned`, {error('stacked_tuned', 'averaged_')}, the best stacked training",
        f"max pooling ({error('recursive_maxpool', 'averaged_')}), "
        f"nearest ({error('recursive_nearest', 'averaged_')}) "
        f"and bilinear ({error('recursive_bilinear', 'averaged_')}) upsampling",
    )
    for words in told:
        assert words in text, words
    assert {name: int(row["n"]) for name, row in rows.items()} == seeds()
    report = (ROOT / "reports/README.md").read_text(encoding="utf-8")
    twins = dict(
        re.findall(
            r"^\| recursive \| stacked \| as described \| ([\w ]+) \| ([\d.]+ \| [\d.]+ to [\d.]+)",
            report,
            re.M,
        )
    )
    times = re.findall(r"(\d\.\d+) times \((\d\.\d+) to (\d\.\d+)\)", text)
    measured = [
        re.search(
            rf"^\| {measure} of recursive, shared norm higher than stacked \| averaged \| .*?ratio "
            rf"([\d.]+) \(([\d.]+) to ([\d.]+) over {seeds()['stacked']} seeds",
            report,
            re.M,
        )
        for measure in ("sharpness", "error")
    ]
    section = report.partition("## Beyond the paper")[2].partition("\n## ")[0]
    rows_beyond = re.findall(r"^\| (\w+) \|" + r" (.*) \|" * 8, section, re.M)
    beyond = {cells[0]: cells for cells in rows_beyond}
    for name, column in (("best", 6), ("best", 3), ("recursive_then_stacked", 4)):
        measured.append(re.match(r"([\d.]+) \(([\d.]+) to ([\d.]+)\)", beyond[name][column]))
    longer = (ROOT / "reports/studies/longer.md").read_text(encoding="utf-8")
    lasting = [
        re.search(
            rf"^\| {name} \| {measure}, over stacked \| .* ([\d.]+) \((.*) to (.*)\) \| \|$",
            longer,
            re.M,
        )
        for name, measure in (
            *(("recursive", measure) for measure in ("error", "high frequencies", "grid ratio")),
            ("recursive_then_stacked", "error"),
            ("stacked_tuned", "error"),
        )
    ]
    measured = [*lasting, *measured]
    for told_here, there, digits in zip(times, measured, (*[2] * 5, 1, *[2] * 4), strict=True):
        assert there and told_here == tuple(f"{float(x):.{digits}f}" for x in there.groups())
    ratios = re.findall(
        r"a ratio of (0\.\d\d),? \(?(?:95 % interval )?(0\.\d\d to [01]\.\d\d)", text
    )
    rounded = [
        (f"{float(ratio):.2f}", " to ".join(f"{float(end):.2f}" for end in ends.split(" to ")))
        for ratio, ends in (twins[kind].split(" | ") for kind in ("last step", "averaged"))
    ]
    assert ratios == rounded


def test_every_stage_is_in_the_tree() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    for stage in stages:
        assert stage.replace("-", "_") in README, stage


def test_the_lock_of_continuous_integration_has_every_requirement() -> None:
    lines = (ROOT / ".github/requirements.lock").read_text(encoding="utf-8").splitlines()
    locked = {line.split()[0].lower() for line in lines if not line.startswith((" ", "#"))}
    for file in ("requirements.txt", "requirements-dev.txt"):
        for line in (ROOT / file).read_text(encoding="utf-8").splitlines():
            if pin := re.match(r"([\w.-]+)(?:\[[\w,]+\])?(==\S+)", line):
                name = pin[1].lower().replace(".", "-")
                assert f"{name}{pin[2]}" in locked, "CONTRIBUTING.md says how to lock it"
