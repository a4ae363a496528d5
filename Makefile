# Each target makes .venv from the requirements first.
PYTHON ?= python3
READY := .venv/.ready
READY_TO_TEST := .venv/.ready-to-test
# Stages run the `python` of PATH.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
export PIP_USER := 0
export PICTURES
# These would make commands work on other folders (a git hook exports GIT_DIR), fail, or compile all
# that they import anew.
unexport $(shell git rev-parse --local-env-vars) GIT_DEFAULT_HASH GIT_DEFAULT_REF_FORMAT CDPATH \
         DVC_ROOT DVC_STAGE PIP_PREFIX PIP_ROOT PIP_TARGET PYTHONDONTWRITEBYTECODE PYTHONSAFEPATH \
         TAR_OPTIONS

.PHONY: demo demo/.git own one-seed repro test test-all test-slow quick search bench clean-trainings

# Trainings and evaluations side by side, of which dvc then runs none again, and the rest.
EVERYTHING := dvc repro preprocess && python -m stages.train_variant --all && \
              python -m stages.evaluate --all && dvc commit --force train-variant evaluate && dvc repro
# What dvc can read, whatever git's defaults are.
INIT := git -c init.defaultRefFormat=files init --quiet --object-format=sha1

# In copies of this folder, so that nothing tracked changes.
NOT_COPIED := ./demo ./own ./.git ./.venv* ./.dvc/cache ./.dvc/tmp ./.dvc/trainings ./data ./configs \
              ./models/[a-z]* ./reports/records ./reports/grids ./reports/metrics *_cache __pycache__
# In place of the user's configuration, which may name no user, or hooks and files to ignore.
COPY_CONFIG := user.name=demo user.email=demo@localhost commit.gpgsign=false \
               core.hooksPath=/dev/null core.excludesFile=/dev/null core.attributesFile=/dev/null

demo: $(READY) demo/.git
	cd ./demo && python -m stages.configure settings/demo.yaml && $(EVERYTHING)
	@cd ./demo && python -m stages.verdict

# What an earlier run trained in own/ is kept.
own: $(READY) own/.git
	@test -e "$$PICTURES" || { echo "error: PICTURES should name a folder or archive, as in" \
	    '`make own PICTURES=folder`' >&2; exit 1; }
	pictures=$$(realpath -- "$$PICTURES") && cd ./own && python -m stages.own "$$pictures" && $(EVERYTHING)
	@cd ./own && python -m stages.verdict

demo/.git own/.git:
	rm -rf $(@D) && mkdir $(@D)
	tar -c $(foreach name,$(NOT_COPIED),--exclude='$(name)') . | tar -x -C $(@D)
	cd ./$(@D) && $(INIT) --template=
	cd ./$(@D) && $(foreach setting,$(COPY_CONFIG),git config $(subst =, ,$(setting)) &&) \
	    git add --all && git commit --quiet --message=first

# A process of tests for each core, up to four, as each is PyTorch and its threads. The longest file
# comes first, see tests/conftest.py.
PYTEST := python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile \
          --no-loadscope-reorder --durations 20

test: lint
	$(PYTEST) -m "not slow"

lint: $(READY_TO_TEST)
	python -m ruff check .
	python -m ruff format --check .
	python -m pyrefly check

# The tests that changed since the last commit, and those that import what changed.
CHANGED = $(shell git diff --name-only HEAD && git ls-files --others --exclude-standard)
CHANGED_MODULES = $(basename $(notdir $(filter stages/%.py studies/%.py recursive_autoencoder/%.py,$(CHANGED))))
TOUCHED = $(sort $(wildcard $(filter tests/%.py,$(CHANGED))) $(if $(CHANGED_MODULES),$(shell \
          grep -rlwE --include='test_*.py' 'import.*($(subst $() ,|,$(CHANGED_MODULES)))' tests)))

quick: lint
	$(if $(TOUCHED),python -m pytest -q -m "not slow" $(filter-out tests/test_pipeline.py,$(TOUCHED)))

test-all: test test-slow

test-slow: $(READY_TO_TEST)
	$(PYTEST) -m slow -rs

# Not from a clone, but from a zip file, there is no git repository yet, which dvc wants.
repro: $(READY) .git
	dvc repro

.git:
	git rev-parse --git-dir > /dev/null 2>&1 || $(INIT)

# A first look at the real dataset: every variant once, as the paper describes it.
one-seed: $(READY) .git
	python -m stages.configure settings/one-seed.yaml && $(EVERYTHING)
	@echo "One seed it is, until: git checkout params.yaml dvc.lock README.md reports && make repro"

# Trainings that are kept apart from DVC's cache: without them the next one starts from nothing.
clean-trainings:
	rm -rf .dvc/trainings

# Hyperparameters, for two hours on all cores; `make search SEARCH="--seconds 600"` for less.
search: $(READY_TO_TEST)
	nice -n 10 python -m studies.search $(SEARCH)

# TensorFlow has an environment of its own: it does not start beside PyTorch.
bench: $(READY_TO_TEST) .venv-bench/.ready
	python -m bench.run

.venv-bench/.ready: bench/requirements.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --requirement bench/requirements.txt
	touch $@

# uv is faster than pip, and checks hashes, which the lock has of the package index alone.
UV := uv==0.13.9
SOURCES := $(PIP_INDEX_URL:%=--default-index %) $(if $(PIP_EXTRA_INDEX_URL), \
           $(PIP_EXTRA_INDEX_URL:%=--index %) --index-strategy unsafe-best-match, \
           --require-hashes --constraint .github/requirements.lock)
define install
.venv/bin/python -m pip install --quiet $(UV) && \
	    .venv/bin/uv pip install --quiet --python .venv $(SOURCES) --requirement $(1) || \
	    .venv/bin/python -m pip install --quiet --requirement $(1)
	touch $@
endef

$(READY_TO_TEST): $(READY) requirements-dev.txt
	$(call install,requirements-dev.txt)

# Some pinned packages have no build for other versions, and pip would only speak of conflicts.
RIGHT_PYTHON := import sys; found = sys.version_info[:2]; \
    sys.exit(not (3, 11) <= found <= (3, 14) and \
             "error: $(PYTHON) is Python %d.%d, requirements.txt needs 3.11 to 3.14; " % found + \
             "name one, as in `make PYTHON=python3.14 demo`")

# What Python reads as it starts: it cannot say itself why it does not find the stages.
SAFE_PATH := import os, sys; \
    os.environ.get("PYTHONSAFEPATH") and any(one.startswith("stages.") for one in sys.orig_argv) and ( \
    os.write(2, b"error: PYTHONSAFEPATH keeps Python from finding stages; unset it\n"), os._exit(1))

$(READY): requirements.txt
	@$(PYTHON) -c '$(RIGHT_PYTHON)'
	$(PYTHON) -m venv .venv
	$(call install,requirements.txt)
	@printf '%s' '$(SAFE_PATH)' > $$(echo .venv/lib/python3*/site-packages)/safe_path.pth
