"""What the documents say must be what the code and reports/ say."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

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
from stages.common.yaml_files import read_yaml
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
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
    return {key: " ".join((field.description or "").split()) for key, field in keys.items()}


def test_every_setting_is_described_once() -> None:
    text = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([\w.]+)` \| .* \| (.*) \|$", text, re.M))
    assert rows == described()
    params: Any = read_yaml(ROOT / "params.yaml")
    given = [key for key in params if not isinstance(params[key], dict)]
    for section in ("download", "preprocess", "train"):
        given += [f"{section}.{key}" for key in params[section]]
    assert sorted(given) == sorted(rows)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_that_is_named_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for path in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (document.parent / path).exists(), path


def test_what_is_found_stands_in_the_report_too() -> None:
    """plot writes both."""
    found = README.partition("<!-- findings: written by plot -->\n")[2]
    sentences, _, table = found.partition("<!-- end of findings -->")[0].partition("\n\n| | ")
    report = (ROOT / "reports/README.md").read_text(encoding="utf-8")
    assert " ".join(sentences.split()) in " ".join(report.split())
    rows = [row for row in table.splitlines() if re.match(r"\| \d", row)]
    assert len(rows) == 9 and all(row in report for row in rows)


def test_the_report_is_of_all_seeds() -> None:
    params = read_params(ROOT / "params.yaml")
    table = pd.read_csv(ROOT / "reports/table1.csv", index_col="model")
    seeds = {name: len(variant.seeds) for name, variant in params.variants.items()}
    assert (table.n + table.diverged).to_dict() == seeds


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
            told = f"3.{minor}, requirements.txt needs 3.{first} to 3.{last}"
            assert not said.stdout
            assert said.stderr.startswith(f"error: {python} is Python {told}")


def test_every_stage_is_named() -> None:
    pipeline: Any = read_yaml(ROOT / "dvc.yaml")
    for stage in pipeline["stages"]:
        assert stage.replace("-", "_") in README, stage


def test_the_lock_of_continuous_integration_has_every_requirement() -> None:
    lines = (ROOT / ".github/requirements.lock").read_text(encoding="utf-8").splitlines()
    locked = {line.split()[0].lower() for line in lines if not line.startswith((" ", "#"))}
    for file in ("requirements.txt", "requirements-dev.txt"):
        for line in (ROOT / file).read_text(encoding="utf-8").splitlines():
            if pin := re.match(r"([\w.-]+)(?:\[[\w,]+\])?(==\S+)", line):
                name = pin[1].lower().replace(".", "-")
                assert f"{name}{pin[2]}" in locked, "CONTRIBUTING.md says how to lock it"
