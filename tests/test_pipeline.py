"""The real dvc on a tiny copy of the project: what reruns, what is restored, what is compared."""

import ast
import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
TRAINED = re.compile(r"Running stage '([\w@-]+)'")
PLAIN = {"norm": "none", "activation": "selu", "variational": False}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    who = {"NAME": "A Tester", "EMAIL": "tester@localhost"}
    names = {f"GIT_{role}_{key}": who[key] for role in ("AUTHOR", "COMMITTER") for key in who}
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    return kept | names | {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "DVC_SITE_CACHE_DIR": str(tmp_path_factory.mktemp("site-cache")),
        "DVC_NO_ANALYTICS": "1",
    }  # fmt: skip


class Project:
    """A checkout with a dvc pipeline in it."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.environment = folder, environment

    def run(self, *command: str, fails: bool = False) -> str:
        """stdout and stderr of a command, which must succeed, or fail where `fails`."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1200,
        )
        assert (done.returncode != 0) == fails, done.stdout
        return done.stdout

    def ran(self, *command: str) -> set[str]:
        """The stages that a command ran, not restored."""
        return set(TRAINED.findall(self.run(*command)))

    def reset(self) -> None:
        """Back to the last commit, parameters and outputs."""
        self.run("git", "reset", "--hard", "--quiet")
        self.run("git", "clean", "-fdq")
        self.run("dvc", "checkout", "--quiet", "--force")

    def clone(self, folder: Path) -> "Project":
        self.run("git", "clone", "--quiet", ".", str(folder))
        return Project(folder, self.environment)


def edit(project: Project, section: str, changes: dict) -> None:
    path = project.folder / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params[section] |= changes
    path.write_text(yaml.safe_dump(params, sort_keys=False))


@pytest.fixture(scope="module")
def reproduced(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Project, set[str]]:
    """The project on 96 drawn faces with three models, committed, and the stages that it ran."""
    project = Project(tmp_path_factory.mktemp("project"), environment)
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file() and not name.startswith(("reports/", "tests/", "dvc.lock")):
            (project.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, project.folder / name)
    edit(project, "download", {"dataset": "synthetic", "count": 96})
    edit(project, "preprocess", {"held_out": 0.2})
    edit(project, "train", {"epochs": 1, "batch_size": 16, "seeds": [0], "published_seeds": []})
    params = yaml.safe_load((project.folder / "params.yaml").read_text())
    params["variants"] = {
        "candidate": {"published_seeds": []},
        "stacked": {"training": "stacked", **PLAIN, "epochs": 1, "published_seeds": [0]},
        "recursive": {"training": "recursive", **PLAIN},
    }
    (project.folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    project.run("git", "init", "--quiet", "--initial-branch=main")
    ran = project.ran("dvc", "repro")
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", "--message=Run the pipeline")
    return project, ran


@pytest.fixture
def project(reproduced: tuple[Project, set[str]]) -> Project:
    reproduced[0].reset()
    return reproduced[0]


def stages(*variants: str) -> set[str]:
    """What reruns when the settings of `variants` change."""
    each = {f"{stage}@{name}" for stage in ("train-variant", "evaluate") for name in variants}
    return {"configure", "plot"} | each


def imported(module: Path, found: set[str]) -> set[str]:
    """`module` and all modules of stages/ that it imports, directly or not."""
    name = str(module.relative_to(ROOT))
    if name in found:
        return found
    found.add(name)
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("stages"):
            source = ROOT / node.module.replace(".", "/")
            paths = [source / f"{alias.name}.py" for alias in node.names]
            for path in paths if source.is_dir() else [source.with_suffix(".py")]:
                imported(path, found)
    return found


def test_a_stage_depends_on_every_module_that_it_runs() -> None:
    """But for messages, how memory is kept, and settings, which reach it as values."""
    exempt = {f"stages/common/{name}.py" for name in ("errors", "memory", "settings")}
    assert "stages/kernels/compiled.py" in imported(ROOT / "stages" / "train_variant.py", set())
    for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items():
        stage = stage.get("do", stage)
        module = stage["cmd"].split()[2].replace(".", "/") + ".py"
        folders = tuple(f"{dependency}/" for dependency in stage["deps"])
        used = {name for name in imported(ROOT / module, set()) if not name.startswith(folders)}
        missing = used - set(stage["deps"]) - exempt
        assert not missing, f"{name} does not depend on {missing}"


def test_what_is_committed_is_of_the_variants_there_are() -> None:
    variants = yaml.safe_load((ROOT / "params.yaml").read_text())["variants"]
    locked = yaml.safe_load((ROOT / "dvc.lock").read_text())["stages"]
    assert set(locked) == {"download", "preprocess"} | stages(*variants)
    for folder in ("metrics", "evaluations"):
        assert {path.stem for path in (ROOT / "reports" / folder).iterdir()} == set(variants)


def test_everything_runs_once_and_then_nothing(reproduced: tuple[Project, set[str]]) -> None:
    project, ran = reproduced
    assert ran == {"download", "preprocess"} | stages("candidate", "stacked", "recursive")
    project.reset()
    again = project.run("dvc", "repro")
    assert not TRAINED.findall(again)
    assert "up to date" in again


def test_the_same_settings_under_two_names_give_the_same_weights(project: Project) -> None:
    files = [
        project.folder / "models" / v / "seed0.safetensors" for v in ("candidate", "recursive")
    ]
    weights = []
    for file in files:
        content = file.read_bytes()
        weights.append(content[8 + int.from_bytes(content[:8], "little") :])
    assert weights[0] == weights[1]


def test_the_candidate_alone_is_retrained_and_later_restored(project: Project) -> None:
    change = ("dvc", "exp", "run", "--set-param", "norm=shared")
    assert project.ran(*change) == stages("candidate")
    project.reset()
    assert not {stage for stage in project.ran(*change) if stage.startswith("train-variant")}


def test_a_default_retrains_every_variant_without_a_value_of_its_own(project: Project) -> None:
    ran = project.ran("dvc", "exp", "run", "--set-param", "train.epochs=2")
    assert ran == stages("candidate", "recursive")


def test_a_variant_s_own_setting_retrains_that_variant(project: Project) -> None:
    ran = project.ran("dvc", "exp", "run", "--set-param", "+variants.recursive.lr=0.01")
    assert ran == stages("recursive")


def test_published_seeds_train_the_same_variant_with_the_authors_wiring(project: Project) -> None:
    change = "variants.candidate.published_seeds=[0]"
    assert project.ran("dvc", "exp", "run", "--set-param", change) == stages("candidate")
    assert (project.folder / "models/candidate/published_seed0.safetensors").exists()
    table = (project.folder / "reports/table1.csv").read_text().splitlines()
    header, *rows = csv.reader(table)
    (candidate,) = [row for row in rows if row[0] == "candidate"]
    assert float(candidate[header.index("published_error")]) > 0


def test_a_new_entry_trains_the_new_variant(project: Project) -> None:
    edit(project, "variants", {"mine": {"training": "recursive", **PLAIN, "activation": "relu"}})
    assert project.ran("dvc", "repro") == stages("mine")
    assert (project.folder / "reports" / "metrics" / "mine.json").exists()


def test_a_bad_value_stops_before_any_training(project: Project) -> None:
    said = project.run("dvc", "exp", "run", "--set-param", "norm=layer", fails=True)
    assert "norm is 'layer': Input should be 'none', 'batch' or 'shared'" in said
    assert "Traceback" not in said
    assert TRAINED.findall(said) == ["configure"]


def test_metrics_are_compared_between_branches(project: Project) -> None:
    project.run("git", "switch", "--quiet", "--create", "shared")
    try:
        project.run("dvc", "exp", "run", "--set-param", "norm=shared")
        project.run("git", "commit", "--quiet", "--all", "--message=Try the shared norm")
        changed = json.loads(project.run("dvc", "metrics", "diff", "main", "--json"))
        assert set(changed) == {"reports/metrics/candidate.json"}
        error = changed["reports/metrics/candidate.json"]["test_error"]
        assert error["diff"] == pytest.approx(error["new"] - error["old"])
        shown = json.loads(project.run("dvc", "metrics", "show", "--json"))
        rows = {Path(path).stem: file["data"] for path, file in shown[""]["data"].items()}
        files = (project.folder / "reports/metrics").glob("*.json")
        keys = {tuple(json.loads(file.read_text())) for file in files}
        assert len(keys) == 1, "every variant has the same metrics"
        keys = {tuple(key for key in row if "published" not in key) for row in rows.values()}
        assert len(keys) == 1, "and the same are shown"
        # dvc shows no nulls: the authors' wiring has numbers where it has seeds.
        assert [name for name in rows if "published_test_error" in rows[name]] == ["stacked"]
        params = json.loads(project.run("dvc", "params", "diff", "main", "--json"))
        assert params["params.yaml"]["norm"] == {"old": "none", "new": "shared"}
    finally:
        project.run("git", "switch", "--quiet", "--force", "main")


def test_a_clone_with_a_remote_trains_nothing(project: Project, tmp_path: Path) -> None:
    project.run(
        "dvc", "remote", "add", "--local", "--force", "--default", "near", str(tmp_path / "remote")
    )
    project.run("dvc", "push", "--quiet")
    clone = project.clone(tmp_path / "clone")
    clone.run("dvc", "remote", "add", "--local", "--default", "near", str(tmp_path / "remote"))
    clone.run("dvc", "pull", "--quiet")
    assert clone.ran("dvc", "repro") == set()


def test_a_clone_without_a_remote_ends_with_the_same_files(
    project: Project, tmp_path: Path
) -> None:
    clone = project.clone(tmp_path / "clone")
    assert "Running stage" not in clone.run("dvc", "repro", "--dry", "--allow-missing")
    ran = clone.ran("dvc", "repro")
    # All but plot, for which nothing changed: training is reproducible to the bit on a machine.
    everything = {"download", "preprocess"} | stages("candidate", "stacked", "recursive")
    assert ran == everything - {"plot"}
    assert clone.run("git", "status", "--short") == ""
