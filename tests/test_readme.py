"""What README.md says must be what reports/ and the code say."""

import csv
import json
import re
import statistics
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_table_is_the_one_in_reports() -> None:
    with open(ROOT / "reports" / "table1.csv", newline="") as file:
        rows = {row["label"]: row for row in csv.DictReader(file)}
    cells = r"(\d+) ± (\d+) \| (\d+) \| ([\d-]+) \| ([\d-]+) \| (\w+) \|$"
    found = re.findall(r"^\| ([a-z][^|]*?) \| " + cells, README, re.M)
    assert len(found) == 10
    for label, error, deviation, *others, explained_by in found:
        row = rows[label]
        assert int(error) == round(float(row["error"])), label
        assert int(deviation) == round(float(row["error_sd"])), label
        columns = ("published_error", "paper_table1", "paper_figure5")
        for said, key in zip(others, columns, strict=True):
            assert said == (str(round(float(row[key]))) if row[key] else "-"), (label, key)
        assert explained_by == row["explained_by"], label


def test_the_verdicts_are_those_in_reports() -> None:
    row = re.compile(r"^\| (\d) \| (.*) \| \*\*(.*)\*\* \|$", re.M)
    found = row.findall(README)
    assert len(found) == 9
    assert found == row.findall((ROOT / "reports" / "README.md").read_text())


def test_the_speed_is_that_of_the_committed_benchmark() -> None:
    measured = json.loads((ROOT / "reports" / "benchmark.json").read_text())["speed_up"]
    medians = [f"{statistics.median(measured[key]):.1f}" for key in ("recursive", "both")]
    assert re.findall(r"(\d\.\d) times as many", README) == medians
    page = (ROOT / "reports" / "benchmark.md").read_text().splitlines()
    _, _, *table = README[README.index("| images per second") :].split("\n\n")[0].splitlines()
    assert len(table) == 5, "four contenders, and how they compare"
    for line in table:
        assert any(row.startswith(line) for row in page), line


def test_every_file_that_is_named_exists() -> None:
    for path in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / path).exists(), path


def test_every_stage_in_the_tree_is_in_dvc_yaml() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    for stage in stages:
        assert f"{stage.replace('-', '_')}.py" in README, stage
