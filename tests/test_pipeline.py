"""The real dvc on a tiny copy of the project: what reruns, what is restored, what is compared."""

import ast
import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import psutil
import pytest
from dvc.utils.serialize import dumps_yaml, modify_yaml
from safetensors import safe_open

from stages.common.cores import CORES
from stages.common.yaml_files import parse_yaml, read_yaml, to_yaml
from stages.data.sources.synthetic.drawn_faces import draw
from stages.kernels.operations import SWITCH
from tests.conftest import ROOT, ended, take_compiled_kernels, tree
from tests.data.made_archives import write_files

RUNNING = re.compile(r"Running stage '([\w@-]+)'")
VARIANTS = ("candidate", "stacked")
DATA = {"configure", "download", "preprocess", "references"}


def environment(site_cache: Path) -> dict[str, str]:
    """That of a user whom git knows, and of whom dvc keeps nothing elsewhere."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    return kept | {
        **{f"GIT_{role}_NAME": "A Tester" for role in ("AUTHOR", "COMMITTER")},
        **{f"GIT_{role}_EMAIL": "tester@localhost" for role in ("AUTHOR", "COMMITTER")},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_SITE_CACHE_DIR": str(site_cache),
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
        return set(RUNNING.findall(self.run(*command)))

    def reset(self) -> None:
        """Back to the last commit, parameters and outputs. Outputs that dvc alone holds are looked
        at where git sees a change, as it does wherever dvc has run a stage to its end."""
        if self.run("git", "status", "--short"):
            self.run("git", "reset", "--hard", "--quiet")
            self.run("git", "clean", "-fdq")
            self.run("dvc", "checkout", "--quiet", "--force")

    def set_remote(self, url: str) -> None:
        """Have dvc push and pull there."""
        text = f"[core]\n    remote = near\n['remote \"near\"']\n    url = {url}\n"
        (self.folder / ".dvc/config.local").write_text(text, encoding="utf-8")

    def clone(self, folder: Path) -> "Project":
        self.run("git", "clone", "--quiet", ".", str(folder))
        take_compiled_kernels(self.folder, folder)
        return Project(folder, self.environment)

    def outputs(self, place: str) -> dict[str, bytes]:
        return {f"{place}/{name}": content for name, content in tree(self.folder / place).items()}

    def table1(self) -> dict[str, dict[str, str]]:
        with open(self.folder / "reports/table1.csv", newline="", encoding="utf-8") as file:
            return {row["model"]: row for row in csv.DictReader(file)}


def copy_checkout(folder: Path) -> None:
    """The project's files as they are here, without reports, tests and what dvc has of them."""
    listed = ("git", "ls-files", "-co", "--exclude-standard", "-z")
    names = subprocess.run(listed, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        left_out = name.startswith(("reports/", "tests/", "dvc.lock"))
        if (ROOT / name).is_file() and (not left_out or name.startswith("reports/studies/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    take_compiled_kernels(ROOT, folder)


def edit(project: Project, section: str, changes: dict[str, object]) -> None:
    path = project.folder / "params.yaml"
    params = read_yaml(path)
    params[section] |= changes
    path.write_text(dumps_yaml(params), encoding="utf-8")


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, set[str]]:
    """The project on 64 drawn faces of 32 pixels with two models, committed, and the stages that
    it ran."""
    folders = (tmp_path_factory.mktemp(name) for name in ("project", "site-cache"))
    project = Project(next(folders), environment(next(folders)) | {CORES: "1"})
    copy_checkout(project.folder)
    path = project.folder / "params.yaml"
    params = read_yaml(path) | {"training": "recursive", "norm": "none", "activation": "selu"}
    params |= {"variational": False}  # whatever is tried in this checkout
    params["publish"] = ["stacked"]
    params["download"] |= {"dataset": "synthetic", "count": 64}
    params["preprocess"] |= {"held_out": 0.4, "size": 32}
    params["train"] |= {"epochs": 1, "batch_size": 16, "seeds": 1, "released_seeds": 0}
    params["variants"] = {
        "candidate": {"released_seeds": 0},
        "stacked": {"training": "stacked", "epochs": 1, "released_seeds": 1},
    }
    path.write_text(dumps_yaml(params), encoding="utf-8")
    project.run("git", "init", "--quiet", "--initial-branch=main")
    ran = project.ran("dvc", "repro")
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", "--message=Run the pipeline")
    return project, ran


@pytest.fixture
def project(reproduced: tuple[Project, set[str]]) -> Project:
    reproduced[0].reset()
    return reproduced[0]


@pytest.fixture
def clone(project: Project, tmp_path: Path) -> Project:
    """A fresh clone: git's files, and nothing of dvc's cache."""
    return project.clone(tmp_path / "clone")


def stages(*variants: str) -> set[str]:
    """What reruns when the settings of `variants` change."""
    each = {f"{stage}@{name}" for stage in ("train-variant", "evaluate") for name in variants}
    return {"configure", "publish", "plot"} | each


def imported(module: Path, found: set[str], leaves: tuple[str, ...] = ()) -> set[str]:
    """`module` and all modules of stages/ that it imports, but for what those in `leaves` do."""
    name = module.relative_to(ROOT).as_posix()
    if name in found:
        return found
    found.add(name)
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("stages"):
            source = ROOT / node.module.replace(".", "/")
            paths = [source / f"{alias.name}.py" for alias in node.names]
            for path in paths if source.is_dir() else [source.with_suffix(".py")]:
                path = path if path.exists() else source / "__init__.py"
                if path.relative_to(ROOT).as_posix().startswith(leaves):
                    continue
                imported(path, found, leaves)
    return found


CHECKPOINT, STORE = "stages/model/checkpoint.py", "stages/model/store.py"
# What decides no output: messages, where trainings are kept, settings (they arrive as values), code
# that fetches (what it fetched is verified) and other datasets', what tables call a measure.
NO_DEPENDENCY = (
    *("stages/data/fetch.py", "stages/data/lfw.py", "stages/data/sources/"),
    *("stages/measure/measures.py", "stages/common/"),
    *("stages/train_variant.py", CHECKPOINT, STORE),
    *(f"stages/model/{name}.py" for name in ("on_dask", "side_by_side")),
)


def test_a_stage_depends_on_every_module_that_decides_its_output() -> None:
    for name, stage in read_yaml(ROOT / "dvc.yaml")["stages"].items():
        stage = stage.get("do", stage)
        module = stage["cmd"].split()[2].replace(".", "/") + ".py"
        free = {*NO_DEPENDENCY}
        if name == "publish":  # it copies tensors, computes nothing with them, and writes them
            free = free - {CHECKPOINT, STORE} | {"stages/data/", "stages/kernels/"}
        if name == "plot":  # it compares which statistic a measure has, and calls none
            free |= {"stages/measure/statistics.py"}
        used = imported(ROOT / module, set(), (*free,))
        missing = [p for p in used if not p.startswith((*stage["deps"], module)) and "__" not in p]
        assert not missing, f"{name} does not depend on {missing}"


def test_a_training_depends_on_all_code_that_decides_weights() -> None:
    stage = read_yaml(ROOT / "dvc.yaml")["stages"]["train-variant"]["do"]
    code = {path for path in stage["deps"] if path.startswith("stages/")}
    weights = imported(ROOT / "stages/model/training.py", set())
    assert not [p for p in weights if not p.startswith((*code, *NO_DEPENDENCY)) and "__" not in p]


def test_what_is_committed_is_of_the_variants_there_are() -> None:
    variants = read_yaml(ROOT / "params.yaml")["variants"]
    locked = read_yaml(ROOT / "dvc.lock")["stages"]
    assert set(locked) == DATA | stages(*variants)
    assert {path.stem for path in (ROOT / "reports/metrics").iterdir()} == set(variants)
    assert {path.name for path in (ROOT / "reports/records").iterdir()} == set(variants)


def test_everything_runs_once_and_then_nothing(reproduced: tuple[Project, set[str]]) -> None:
    project, ran = reproduced
    assert ran == DATA | stages(*VARIANTS)
    assert float(project.table1()["stacked"]["released_error"]) > 0
    project.reset()
    again = project.run("dvc", "repro")
    assert not RUNNING.findall(again)
    assert "up to date" in again


def test_params_yaml_is_laid_out_as_dvc_writes_it(tmp_path: Path) -> None:
    """So that `-S norm=shared` changes one line of it."""
    path = tmp_path / "params.yaml"
    before = re.sub("(?m)^norm: .* #", "norm: none #", (ROOT / "params.yaml").read_text("utf-8"))
    path.write_text(before, encoding="utf-8")
    with modify_yaml(path) as params:
        params["norm"] = "shared"
    after = path.read_text("utf-8")
    assert after == before.replace("\nnorm: none", "\nnorm: shared")
    assert after != before


@pytest.mark.parametrize("value", [[], [0, 1]], ids=str)
def test_dvc_can_set_the_seeds_to_a_list(value: list[int], tmp_path: Path) -> None:
    """Behind a comment at the key's end, dvc's writer leaves no YAML where a list is empty."""
    path = Path(shutil.copy(ROOT / "params.yaml", tmp_path))
    with modify_yaml(path) as params:
        params["train"] |= {"seeds": value, "released_seeds": value}
    expected = read_yaml(ROOT / "params.yaml")
    expected["train"] |= {"seeds": value, "released_seeds": value}
    assert read_yaml(path) == expected


@pytest.mark.slow
def test_a_default_retrains_every_variant_without_a_value_of_its_own(project: Project) -> None:
    """In another folder, too, where the kept training goes on."""
    ran = project.ran("dvc", "exp", "run", "--temp", "--set-param", "train.epochs=2")
    assert ran == stages("candidate")
    (longer,) = project.folder.glob(".dvc/trainings/*/epochs2")
    assert longer.with_name("epochs1").exists()


@pytest.mark.slow
def test_another_label_reevaluates_nothing_and_another_definition_all(project: Project) -> None:
    measures = project.folder / "stages/measure/measures.py"
    text = measures.read_text(encoding="utf-8")
    measures.write_text(text.replace('"grid ratio"', '"grid"'), encoding="utf-8")
    assert project.ran("dvc", "repro") == {"configure", "plot"}
    ssim = '"SSIM", "", "difference", "higher", splits={}, worst=-1.0'.format
    assert ssim("_BOTH") in text
    changed = text.replace(ssim("_BOTH"), ssim('("test",)'))
    measures.write_text(changed, encoding="utf-8")
    others = {"configure", "references", "publish", "plot"}
    assert project.ran("dvc", "repro") == others | {f"evaluate@{name}" for name in VARIANTS}


def test_a_bad_value_stops_before_anything_runs(project: Project) -> None:
    said = project.run("dvc", "exp", "run", "--set-param", "norm=layer", fails=True)
    assert "norm is 'layer': Input should be 'none', 'batch', 'shared' or 'tied'" in said
    assert "Traceback" not in said
    assert RUNNING.findall(said) == ["configure"]
    assert (project.folder / "reports/README.md").exists()


def test_a_stage_that_fails_leaves_the_former_reports(project: Project, tmp_path: Path) -> None:
    """dvc would remove what a stage is to write before it runs."""
    before = project.outputs("reports")
    curve = project.folder / "reports/records/stacked/curve.csv"
    curve.write_text("damaged", encoding="utf-8")
    assert "curve.csv" in project.run("dvc", "repro", "--single-item", "plot", fails=True)
    curve.write_bytes(before["reports/records/stacked/curve.csv"])
    assert project.outputs("reports") == before
    models = project.folder / "models/stacked"
    elsewhere = models.rename(tmp_path / "stacked")
    project.run("dvc", "repro", "--force", "--single-item", "evaluate@stacked", fails=True)
    elsewhere.rename(models)
    assert project.outputs("reports") == before


def test_a_seed_more_trains_that_seed_and_what_is_left_of_a_removed_variant_is_told(
    project: Project,
) -> None:
    changes = ("+variants.candidate.seeds=[0,1]", "~variants.stacked")
    options = [word for change in changes for word in ("--set-param", change)]
    said = project.run("dvc", "exp", "run", *options)
    assert set(RUNNING.findall(said)) == stages("candidate")
    assert re.findall(r"seed (\d): held-out error", said) == ["1"]
    assert "publish: variants has no stacked; no copy is kept" in said
    assert not (project.folder / "reports/models/stacked.safetensors").exists()
    assert not project.table1()["stacked"]["error"]
    left = [f"reports/{name}" for name in ("grids/stacked", "metrics/stacked.json")]
    command = f"rm -r {' '.join([*left, 'reports/records/stacked'])}"
    assert f"Of variants that params.yaml no longer has: `{command}`\n" in said
    before = project.outputs("reports")
    project.run(*command.split())
    said = project.run("dvc", "repro")
    assert set(RUNNING.findall(said)) == {"publish", "plot"}
    assert "no longer has" not in said
    assert project.outputs("reports").items() < before.items()


def test_a_clone_tries_the_candidate_compares_it_and_restores_it_later(
    project: Project, clone: Project
) -> None:
    """README's first advice: the faces once, then the candidate alone."""
    faces = {"configure", "download", "preprocess"}
    assert clone.ran("dvc", "repro", "preprocess") == faces
    table = clone.table1()
    change = ("dvc", "exp", "run", "--allow-missing", "--set-param", "norm=shared")
    clone.run("git", "switch", "--quiet", "--create", "shared")
    assert clone.ran(*change) == stages("candidate")
    changed = clone.table1()
    assert table.keys() == changed.keys()
    assert {name for name in table if table[name] != changed[name]} == {"candidate"}
    compared = json.loads(clone.run("dvc", "plots", "diff", "--json", "--split"))
    assert any("candidate" in name for name in compared["data"])
    assert (clone.folder / "reports/figures/hero.png").exists()

    clone.run("git", "commit", "--quiet", "--all", "--message=Try the shared norm")
    metrics = json.loads(clone.run("dvc", "metrics", "diff", "main", "--json"))
    assert set(metrics) == {"reports/metrics/candidate.json"}
    assert {"old", "new"} < {*metrics["reports/metrics/candidate.json"]["last_error"]}
    files = (clone.folder / "reports/metrics").glob("*.json")
    keys = {tuple(json.loads(file.read_text("utf-8"))) for file in files}
    assert len(keys) == 1, "every variant has the same metrics"

    clone.run("git", "switch", "--quiet", "--detach", "HEAD~")
    clone.run("dvc", "checkout", "--quiet", "--allow-missing")
    again = clone.ran(*change)
    assert again and not {stage for stage in again if stage.startswith("train-variant")}


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """The address of a server of tmp_path."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("served", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_clone_with_a_remote_trains_nothing(
    project: Project, clone: Project, tmp_path: Path, web: str, served: bool
) -> None:
    project.set_remote(f"{tmp_path}/remote")
    project.run("dvc", "push", "--quiet")
    clone.set_remote(f"{web if served else tmp_path}/remote")
    clone.run("dvc", "pull", "--quiet")
    assert clone.ran("dvc", "repro") == set()
    assert clone.outputs("models") == project.outputs("models")


@pytest.mark.slow
def test_experiments_wait_in_a_queue(clone: Project) -> None:
    """README's `dvc exp run --queue` in a fresh clone, and what it says of them afterwards."""
    # Each experiment would compile the kernels in its own folder.
    clone = Project(clone.folder, clone.environment | {SWITCH: "0"})
    clone.run("dvc", "repro", "preprocess")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^(dvc exp run --queue .*) && dvc queue start$", readme, re.M)
    clone.run(*shlex.split(command))
    try:
        clone.run("dvc", "queue", "start")
        wait_for(lambda: len([*clone.folder.glob(".git/refs/exps/??/*/*")]) == 3, 1200, 2)
        wait_for(lambda: clone.run("dvc", "queue", "status").count("Success") == 3, 60, 2)
    finally:
        clone.run("dvc", "queue", "stop", "--kill")
    trained = [*(clone.folder / ".dvc/trainings").iterdir()]
    assert len(trained) == 2, "the candidate alone, with each other norm"
    errors = {}
    for commit in clone.run("dvc", "exp", "list", "--sha-only").split():
        params = parse_yaml(clone.run("git", "show", f"{commit}:params.yaml").encode(), commit)
        metrics = clone.run("git", "show", f"{commit}:reports/metrics/candidate.json")
        errors[params["norm"]] = json.loads(metrics)["last_error"]
    assert {"none", "batch", "shared"} <= {*errors}
    assert len({*errors.values()}) == 3, "each has its own model"


def test_a_clone_without_a_remote_ends_with_the_same_files(
    project: Project, clone: Project
) -> None:
    assert "Running stage" not in clone.run("dvc", "repro", "--dry", "--allow-missing")
    # All whose outputs git does not hold: training is reproducible to the bit on a machine.
    trained = {f"train-variant@{name}" for name in VARIANTS}
    assert clone.ran("dvc", "repro") == {"configure", "download", "preprocess"} | trained
    assert clone.run("git", "status", "--short") == ""
    compiled = (len(each.outputs("stages/kernels/__pycache__")) for each in (clone, project))
    assert len({*compiled}) == 1, "a copy compiles nothing anew"


@pytest.mark.slow
def test_another_folder_locale_zone_and_umask_give_the_same_bytes(
    project: Project, tmp_path: Path
) -> None:
    """All of them, and a shallow clone."""
    other = Project(
        tmp_path / "größere Ordner, 顔",
        project.environment | {"LC_ALL": "C", "TZ": "Pacific/Kiritimati"},
    )
    url = f"file://{project.folder}"
    project.run("git", "clone", "--quiet", "--depth=1", url, str(other.folder))
    script = "umask 077; exec dvc repro --force"
    assert set(RUNNING.findall(other.run("sh", "-c", script))) == DATA | stages(*VARIANTS)
    assert other.run("git", "status", "--short") == ""
    for place in ("data", "models", "configs"):
        assert other.outputs(place) == project.outputs(place)


def test_without_git_one_line_says_so_and_a_new_repository_is_enough(
    project: Project, tmp_path: Path
) -> None:
    archive = tmp_path / "archive.tar"
    project.run("git", "archive", "--prefix=unpacked/", f"--output={archive}", "HEAD")
    project.run("tar", "-xf", str(archive), "-C", str(tmp_path))
    unpacked = Project(tmp_path / "unpacked", project.environment)
    said = unpacked.run("dvc", "repro", "configure", fails=True)
    assert said == f"ERROR: {unpacked.folder} is not a git repository\n"
    unpacked.run("git", "init", "--quiet")
    assert unpacked.ran("dvc", "repro", "configure") == {"configure"}


@pytest.mark.slow
@pytest.mark.parametrize("target", ["demo", "own"])
def test_a_copy_is_run_where_git_knows_no_user(target: str, clone: Project, tmp_path: Path) -> None:
    """On few faces and steps."""
    fresh = {k: v for k, v in clone.environment.items() if not k.startswith("GIT_")}
    fresh |= {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"}
    fresh |= {SWITCH: "0"}  # it would compile the kernels anew
    write_files(tmp_path / "faces", dict(draw(32)))
    edit(clone, "variants", {"recursive": {}, "recursive_then_stacked": {"batch_size": 8}})
    path = clone.folder / f"settings/{target}.yaml"
    settings = read_yaml(path)
    settings["train"] |= {"epochs": 1, "batch_size": 8, "seeds": 1}
    settings["variants"] = ["stacked", "recursive"]
    if target == "demo":
        settings["download"]["count"] = 64
    path.write_text(to_yaml(settings), encoding="utf-8")
    make = ("make", target, "READY=", f"PICTURES={tmp_path}/faces")
    said = Project(clone.folder, fresh).run(*make)
    copy = Project(clone.folder / target, fresh)
    last, page = said.splitlines()[-2:]
    assert "held-out pictures" in last and page == f"The page: {copy.folder}/reports/index.html"
    trained = {path.name for path in (copy.folder / "models").iterdir() if path.is_dir()}
    assert trained == {"stacked", "recursive", *["recursive_then_stacked"] * (target == "own")}
    assert copy.ran("dvc", "repro") == set()
    edited = ["params.yaml", f"settings/{target}.yaml"]
    assert clone.run("git", "diff", "--name-only").split() == edited


READ_ONLY = """
mount --bind . . && mount -o remount,bind,ro . && cd "$PWD" || exec echo nothing can be mounted
dvc repro configure 2>&1
python -m stages.configure 2>&1
python -m stages.reconstruct reports/figures/hero.png --variants stacked -o "$1"
"""


@pytest.mark.slow
def test_in_a_read_only_checkout_one_line_says_so_and_models_can_be_used(
    clone: Project, tmp_path: Path
) -> None:
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", READ_ONLY, "sh"]
    if not shutil.which("unshare") or subprocess.run([*command[:4], "true"]).returncode:
        pytest.skip("no disk of our own")
    said = clone.run(*command, str(tmp_path / "out.png"))
    if "nothing can be mounted" in said:
        pytest.skip(said)
    assert "ERROR: unexpected error - [Errno 30] Read-only file system" in said
    told = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(told) == 1 and told[0].startswith("error: Read-only file system: ")
    assert "Traceback" not in said
    assert (tmp_path / "out.png").exists()


@contextmanager
def training(project: Project) -> Iterator["subprocess.Popen[bytes]"]:
    """A dvc that trains `stacked` in this project, longer than any test takes."""
    edit(project, "variants", {"stacked": {"training": "stacked", "epochs": 10**6, "lr": 0.005}})
    kept = {*project.folder.glob(".dvc/trainings/*/state.safetensors")}
    command = ["dvc", "repro", "train-variant@stacked"]
    with subprocess.Popen(
        command, cwd=project.folder, env=project.environment, stdout=subprocess.DEVNULL
    ) as dvc:
        try:
            wait_for(lambda: {*project.folder.glob(".dvc/trainings/*/state.safetensors")} - kept)
            yield dvc
        finally:
            below = psutil.Process(dvc.pid).children(recursive=True) if dvc.poll() is None else []
            dvc.kill()
            ended(below, 60)


@pytest.mark.slow
def test_a_second_dvc_says_what_it_is_blocked_by(clone: Project) -> None:
    with training(clone) as first:
        said = clone.run("dvc", "repro", fails=True)
        assert "is busy, it is being blocked by:" in said
        assert re.search(rf"\(PID {first.pid}\): .*dvc repro train-variant@stacked", said)
        assert "Traceback" not in said
        assert "train-variant@stacked" not in RUNNING.findall(said)
        assert first.poll() is None
    edit(clone, "variants", {"stacked": {"training": "stacked", "epochs": 1}})
    assert "train-variant@stacked" in clone.ran("dvc", "repro", "train-variant@stacked")


@pytest.mark.slow
def test_of_two_that_start_together_one_ends_as_if_alone(clone: Project) -> None:
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    both = [
        subprocess.Popen(["dvc", "repro"], cwd=clone.folder, env=clone.environment, **pipe)
        for _ in range(2)
    ]
    said = [one.communicate()[0] for one in both]
    assert 0 in [one.returncode for one in both], said
    for one, text in zip(both, said, strict=True):
        assert "Traceback" not in text
        assert one.returncode == 0 or "Unable to acquire lock" in text or "is busy" in text, text
    assert clone.ran("dvc", "repro") == set()
    assert clone.run("git", "status", "--short") == ""


def wait_for(condition: Callable[[], object], seconds: float = 120, pause: float = 0.05) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(pause)


def test_a_killed_dvc_takes_its_stage_along_and_the_next_run_has_its_own_weights(
    project: Project,
) -> None:
    with training(project) as dvc:
        orphans = psutil.Process(dvc.pid).children(recursive=True)
        dvc.kill()
        dvc.wait()
    assert ended(orphans, 60)
    assert not (project.folder / "models/stacked").exists()
    edit(project, "variants", {"stacked": {"training": "stacked", "epochs": 1, "lr": 0.01}})
    assert "evaluate@stacked" in project.ran("dvc", "repro", "evaluate@stacked")
    path = project.folder / "models/stacked/described/seed0/last_step.safetensors"
    with safe_open(path, "pt") as file:
        settings = json.loads(file.metadata()["training"])["settings"]
    assert (settings["epochs"], settings["lr"]) == (1, 0.01)
