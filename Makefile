# Each target makes .venv from the requirements first.
PYTHON ?= python3
READY := .venv/.ready
READY_TO_TEST := .venv/.ready-to-test
# Stages run the `python` of PATH.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
export PIP_USER := 0
# These would make commands work on other folders (a git hook exports GIT_DIR) or fail.
unexport $(shell git rev-parse --local-env-vars) GIT_DEFAULT_HASH GIT_DEFAULT_REF_FORMAT CDPATH \
         DVC_ROOT DVC_STAGE PIP_PREFIX PIP_ROOT PIP_TARGET PYTHONSAFEPATH TAR_OPTIONS

.PHONY: demo demo/.git test test-all test-slow repro one-seed search bench clean-trainings

OF_FIVE_SEEDS := stacked_vae recursive_vae stacked_tuned recursive_then_stacked joint \
                 recursive_nearest recursive_bilinear recursive_maxpool
ONE_SEED := train.seeds=[0] train.released_seeds=[] \
            $(foreach variant,$(OF_FIVE_SEEDS),variants.$(variant).seeds=[0])
# With one seed a variant, a stage would leave all cores but one idle.
SIDE_BY_SIDE := python -m stages.train_variant --all
# What dvc can read, whatever git's defaults are.
INIT := git -c init.defaultRefFormat=files init --quiet --object-format=sha1

# The whole pipeline on drawn faces, in a copy of this folder, so that nothing tracked changes. One
# seed a model, and one variant is trained as released, too. Of few steps the last tenth is averaged.
DEMO := download.dataset=synthetic download.count=512 preprocess.held_out=0.2 \
        train.epochs=12 train.averaging=0.93 $(ONE_SEED) +variants.recursive_bn.released_seeds=[0]
NOT_COPIED := ./demo ./.git ./.venv* ./.dvc/cache ./.dvc/tmp ./.dvc/trainings ./data ./configs \
              ./models/[a-z]* *_cache __pycache__

# In place of the user's configuration, which may name no user, or hooks and files to ignore.
DEMO_CONFIG := user.name=demo user.email=demo@localhost commit.gpgsign=false \
               core.hooksPath=/dev/null core.excludesFile=/dev/null core.attributesFile=/dev/null

demo: $(READY) demo/.git
	cd ./demo && dvc exp run $(DEMO:%=--set-param '%') preprocess
	cd ./demo && $(SIDE_BY_SIDE) && dvc repro
	@echo "That was the demo: drawn faces, few steps. See demo/reports/README.md and demo/reports/figures/."

demo/.git:
	rm -rf demo && mkdir demo
	tar -c $(foreach name,$(NOT_COPIED),--exclude='$(name)') . | tar -x -C demo
	cd ./demo && $(INIT) --template=
	cd ./demo && $(foreach setting,$(DEMO_CONFIG),git config $(subst =, ,$(setting)) &&) \
	    git add --all && git commit --quiet --message=first

# A process of tests for each core, up to four, as each is PyTorch and its threads. The longest file
# comes first, see tests/conftest.py.
PYTEST := python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: $(READY_TO_TEST)
	python -m ruff check .
	python -m ruff format --check .
	python -m mypy
	$(PYTEST) -m "not slow"

test-all: test test-slow

test-slow: $(READY_TO_TEST)
	$(PYTEST) -m slow -rs

# Not from a clone, but from a zip file, there is no git repository yet, which dvc wants.
repro: $(READY)
	git rev-parse --git-dir > /dev/null 2>&1 || $(INIT)
	dvc repro

# A first look at the real dataset: every variant once, as the paper describes it.
one-seed: $(READY)
	git rev-parse --quiet --verify HEAD > /dev/null 2>&1 || ($(INIT) && git add --all && \
	    git -c user.name=first -c user.email=first@localhost -c commit.gpgsign=false \
	    commit --quiet --message=first)
	dvc exp run $(ONE_SEED:%=--set-param '%') preprocess
	$(SIDE_BY_SIDE) && dvc repro
	@echo "One seed it is, until: git checkout params.yaml dvc.lock reports && make repro"

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

$(READY_TO_TEST): $(READY) requirements-dev.txt
	.venv/bin/python -m pip install --quiet --requirement requirements-dev.txt
	touch $@

# Some pinned packages have no build for other versions, and pip would only speak of conflicts.
RIGHT_PYTHON := import sys; found = sys.version_info[:2]; \
    sys.exit(not (3, 11) <= found <= (3, 14) and \
             "error: $(PYTHON) is Python %d.%d, requirements.txt needs 3.11 to 3.14; " % found + \
             "name one, as in `make PYTHON=python3.14 demo`")

$(READY): requirements.txt
	@$(PYTHON) -c '$(RIGHT_PYTHON)'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --requirement requirements.txt
	touch $@
