"""Every command that the documents and the Makefile name is run by a test.

A new command in a document needs a line in RUN, to be run here, or in ELSEWHERE, which names the
test that runs it. Of a study, a test in tests/studies calls the `main`.
"""

import re
import shutil
import subprocess
from itertools import chain
from pathlib import Path

import pytest
import torch
from PIL import Image

from stages.common.yaml_files import read_yaml, to_yaml
from tests.conftest import ROOT
from tests.test_pipeline import Project, copy_checkout, environment

DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "pictures/README.md", "Makefile")),
    *(ROOT / "docs").glob("*.md"),
    *(ROOT / "studies").glob("*.py"),
]
MODELS = (ROOT / "docs/models.md").read_text(encoding="utf-8")
COMMAND = re.compile(
    r"(?:[A-Z_]+=\S+ |nice -n \d+ )*"
    r"(?:make|dvc|git|pip|uv|pre-commit|dask|printf|export|python3?|\S+/python) [^=]\S*.*"
)
# Run in this order in a small project on drawn faces; on the right the words, where others are run.
RUN = {
    "make one-seed": "make one-seed READY=",
    "make repro": "make repro READY=",
    "dvc repro": "",
    "dvc exp show --drop '.*' --keep '.*/candidate.json:.*_error|norm'": "",
    "python -m stages.train_variant --all": "",
    "python -m stages.publish": "",
    "python -m stages.reconstruct photo.jpg": "",
    "python -m stages.reconstruct photo.jpg holiday/ -o out.png": "",
    "python -m stages.reconstruct --sample 16 --variants stacked_vae -o faces.png": "",
    "python -m stages.reconstruct --export stacked.onnx --variants stacked": "",
    "python -m studies.averaging 0 recursive_shared_bn": "",
    "make search": "make search READY= READY_TO_TEST= SEARCH='--seconds 1 --workers 1'",
    "dvc add mine": "mkdir mine && cp photo.jpg mine && dvc add mine",
    "dvc repro -f -s download": "",
    "python -m stages.configure": "",
    "python -m stages.configure FILE": "python -m stages.configure settings/one-seed.yaml",
    "git checkout params.yaml": "",
    "git checkout .": "",
    "python -m stages.model.store OLD_CODE": r"""
        old=$(sed -n 's/.*"code": "\([^"]*\)".*/\1/p' .dvc/trainings/*/identity.json | head -n 1)
        echo '# a comment' >> stages/model/losses.py
        python -m stages.model.store $old""",
    "dvc repro configure": "",
    "dvc commit -f train-variant": "dvc commit -f train-variant && dvc status train-variant",
    "make clean-trainings": "make clean-trainings && test ! -e .dvc/trainings",
}
# File, pattern of commands, and the test there that runs them.
ELSEWHERE = {
    "test_bench.py": {
        r"make bench|python -m bench\.run( --smoke)?": "test_a_smoke_run_measures_all_there_is",
    },
    "test_docs.py": {
        r"make PYTHON=.* demo|python3 (-c|-m venv) .*": (
            "test_make_takes_the_versions_of_python_that_readme_names"
        ),
        r"uv pip compile .*": "test_the_lock_of_continuous_integration_has_every_requirement",
    },
    "test_pipeline.py": {
        r"make (demo|own( PICTURES=.*)?)|python -m stages\.(own|verdict).*"
        r"|python -m stages.(evaluate --all|configure settings/.*)|dvc commit --force .*": (
            "test_a_copy_is_run_where_git_knows_no_user"
        ),
        r"dvc (repro preprocess|exp run --allow-missing .*|metrics diff|plots diff.*)": (
            "test_a_clone_tries_the_candidate_compares_it_and_restores_it_later"
        ),
        r"dvc (exp run --queue .*|queue start|exp apply|checkout.*)": (
            "test_experiments_wait_in_a_queue"
        ),
        r"dvc exp run (--temp|-S train.epochs=1)": (
            "test_a_default_retrains_every_variant_without_a_value_of_its_own"
        ),
        r"dvc pull": "test_a_clone_with_a_remote_trains_nothing",
        r"git init": "test_without_git_one_line_says_so_and_a_new_repository_is_enough",
    },
    "test_reconstruct.py": {
        r"python -m stages\.reconstruct": "test_pictures_stand_beside_their_reconstructions",
    },
    "data/test_lfw.py": {
        r"LFW_ARCHIVE=.* make repro": "test_a_copy_of_every_kind_gives_the_canonical_tar",
    },
    "test_commands.py": {
        r"python -m studies\.averaging SEED .*": "test_a_command_runs",
        r"(nice -n 10 )?python -m studies\.search.*|make search .*": "test_a_command_runs",
        r"printf .*|export .*": "test_the_library_makes_mkl_compute_as_on_zen",
        r"git diff -U0 .*": "test_other_weights_are_seen_in_the_records",
    },
}
# They make repositories (test_checkout.py looks at these), fetch packages, are tests themselves, or
# fail, as the document says.
NOT_RUN = (
    r"git (config|rev-parse|add|commit|-c) .*|pip install .*|\S+/python -m pip .*"
    r"|pre-commit install|make (test|test-all|test-slow|quick|lint)|dvc commit -f"
    r"|python -m (ruff|pyrefly|pytest).*"
)


def documented(path: Path) -> set[str]:
    """The commands of a document: of the Makefile what `make` would run, of others what stands in
    console blocks and between backquotes."""
    text = path.read_text(encoding="utf-8")
    if path.name == "Makefile":
        targets = re.findall(r"^([\w-]+):(?!=)", text, re.M)
        made = ["make", "--dry-run", "--always-make", "PICTURES=pictures", *targets]
        done = subprocess.run(made, cwd=ROOT, capture_output=True, text=True, check=True)
        lines = [line for line in done.stdout.splitlines() if not line.startswith("echo")]
        lines += [f"make {target}" for target in targets]
    else:
        block = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
        blocks = [part for kind, part in block.findall(text) if kind == "console"]
        lines = [line for part in blocks for line in part.splitlines()]
        lines += re.findall(r"`([^`]+)`", block.sub("", text))
    commands = (
        command.strip()
        for line in lines
        for command in re.split(r" && | \|\| | \| ", " ".join(line.partition("  #")[0].split()))
    )
    return {command for command in commands if COMMAND.fullmatch(command)}


def test_every_command_is_run_by_a_test() -> None:
    found = {command: path.name for path in DOCUMENTS for command in documented(path)}
    patterns = [*map(re.escape, RUN), *chain.from_iterable(ELSEWHERE.values()), NOT_RUN]
    studies = "".join(path.read_text("utf-8") for path in (ROOT / "tests/studies").glob("*.py"))
    called = re.findall(r"(\w+)\.main\(", studies)
    patterns += [rf"python -m studies\.{name}( .*)?" for name in called]
    for command, name in found.items():
        assert any(re.fullmatch(p, command) for p in patterns), f"{name}: no test runs `{command}`"
    for pattern in patterns:
        assert any(re.fullmatch(pattern, command) for command in found), f"needless: {pattern}"
    for file, tests in ELSEWHERE.items():
        text = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert all(f"def {name}(" in text for name in tests.values()), file


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of this checkout with four variants of one seed, to train on drawn faces."""
    folder = tmp_path_factory.mktemp("project")
    copy_checkout(folder)
    params = read_yaml(ROOT / "params.yaml") | {"publish": ["stacked"]}
    params["download"] |= {"dataset": "synthetic", "count": 128}
    params["preprocess"] |= {"held_out": 0.2, "size": 64}
    params["train"] |= {"epochs": 1, "batch_size": 16, "seeds": 1, "released_seeds": 0}
    params["variants"] = {
        "candidate": {},
        "stacked": {"training": "stacked"},
        "stacked_vae": {"training": "stacked", "variational": True},
        "recursive_shared_bn": {"norm": "shared"},
    }
    (folder / "params.yaml").write_text(to_yaml(params), encoding="utf-8")
    (folder / "holiday").mkdir()
    for name in ("photo.jpg", "holiday/beach.png"):
        Image.effect_noise((160, 200), 60).save(folder / name)
    run("git init --quiet && git add --all && git commit --quiet --message=first", folder)
    return folder


def run(command: str, folder: Path) -> str:
    words = ("bash", "-e", "-o", "pipefail", "-c", command)
    return Project(folder, environment(folder / ".dvc/site")).run(*words)


@pytest.mark.slow
@pytest.mark.parametrize("command", RUN)
def test_a_command_runs(command: str, project: Path) -> None:
    run(RUN[command] or command, project)


def test_the_library_makes_mkl_compute_as_on_zen(tmp_path: Path) -> None:
    """Which processor MKL then takes instructions for, it alone knows."""
    [block] = re.findall(r"^(printf .*?)^make one-seed", MODELS, re.M | re.S)
    functions = "x.mkl_serv_intel_cpu_true(), x.mkl_serv_cpuiszen()"
    code = f"import ctypes; x = ctypes.CDLL(None); print({functions})"
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    assert run(f"{block}\npython -c '{code}'", tmp_path) == "0 1\n"


def test_other_weights_are_seen_in_the_records(tmp_path: Path) -> None:
    [command] = re.findall(r"^(git diff -U0 .*?)  #", MODELS, re.M)
    records = "reports/records/stacked/contents.yaml"
    (tmp_path / records).parent.mkdir(parents=True)
    before = (ROOT / records).read_text(encoding="utf-8")
    (tmp_path / records).write_text(before, encoding="utf-8")
    run("git init --quiet && git add . && git commit --quiet --message=first", tmp_path)
    after = re.sub(r"(last_step.safetensors: )\w", r"\1x", before)
    (tmp_path / records).write_text(after, encoding="utf-8")
    assert run(command, tmp_path).count("last_step.safetensors: x") == after.count(": x") > 0


def test_the_python_of_the_documents_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [code] = re.findall(r"^```python\n(.*?)^```", MODELS, re.M | re.S)
    (tmp_path / "holiday").mkdir()
    for name in ("beach", "hills"):
        Image.effect_noise((160, 200), 60).save(tmp_path / f"holiday/{name}.png")
    monkeypatch.chdir(tmp_path)
    pairs = [(torch.nn.Linear(8, 4), torch.nn.Linear(4, 8))]
    names = {"pictures": torch.rand(40, 3, 32, 32), "pairs": pairs, "x": torch.rand(5, 8)}
    exec(code, names)
    assert names["images"].shape == (2, 3, 128, 128) and len(names["between"]) == 9
    assert len(names["curve"]) > 0 and len(names["losses"]) == 1
