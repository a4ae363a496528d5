# Each target makes .venv from requirements.txt first.
PYTHON ?= python3
READY := .venv/.ready
# Stages run the `python` of PATH.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DVC_NO_ANALYTICS := 1

.PHONY: demo test repro bench

# The whole pipeline on drawn faces, in a scratch clone of HEAD, so that nothing tracked changes.
# One variant is trained with the authors' wiring, too.
DEMO := download.dataset=synthetic download.count=512 preprocess.held_out=0.2 \
        train.epochs=5 train.seeds=[0] train.published_seeds=[] \
        +variants.recursive_bn.published_seeds=[0]

demo: $(READY)
	@git diff --quiet HEAD || echo "Note: the demo runs HEAD; your uncommitted edits are not in it."
	rm -rf demo
	git clone --quiet . demo
	git -C demo config user.name demo
	git -C demo config user.email demo@localhost
	cd demo && dvc exp run --quiet $(foreach change,$(DEMO),--set-param '$(change)')
	@echo "That was the demo: drawn faces, few steps. See demo/reports/README.md and demo/reports/figures/."

test: $(READY)
	python -m ruff check .
	python -m ruff format --check .
	python -m pytest

repro: $(READY)
	dvc repro

# TensorFlow has an environment of its own: it does not start beside PyTorch.
bench: $(READY) .venv-bench/.ready
	python -m bench.run

.venv-bench/.ready: bench/requirements.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --requirement bench/requirements.txt
	touch $@

$(READY): requirements.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --requirement requirements.txt
	touch $@
