# The two commands of the README are `make demo` and `make test`; `make help` lists the rest.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
HOME_DIR ?= .mangaassist
STAMP := $(VENV)/.installed

# uv does not read pip's configuration: pass on the extra wheel folders pip knows of, if any. Asked for when the recipe's
# line runs, for before that there is no pip in a fresh folder.
FIND_LINKS := $$($(BIN)/pip config list | sed -n "s/.*find-links='\(.*\)'/--find-links=\1/p" | tail -n 1)

# The baseline that a benchmark is compared with is no part of the product.
LOCKED_EXTRAS := --extra local --extra aws --extra ray --extra dev

# In two processes, files in their order: what waits for a sensor's next turn leaves the cores to the others.
IN_TWO := --numprocesses 2 --dist loadscope --no-loadscope-reorder

# Every process that a test starts would compile this package again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install demo dev test check unit lint format bench lock clean

help:  ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-9s %s\n", $$1, $$2}'

install: $(STAMP)  ## install the locked dependencies and this package into .venv

$(STAMP): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is needed (set PYTHON=... to name another 3.11)"; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet "$$(grep '^uv==' requirements.lock)"
	# Bytecode is compiled here, on all cores, and not by the first process of each kind that imports a library.
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python \
	  $(FIND_LINKS) --requirement requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

demo: install  ## run the whole loop on an invented manga store, then print a report
	$(BIN)/mangaassist --home $(HOME_DIR) demo

dev: install  ## everything up, with the Dagster and MLflow pages of the demo's state
	$(BIN)/mangaassist --home $(HOME_DIR) dev

test: install  ## all tests, those with real servers included
	$(BIN)/python -m pytest $(IN_TWO)

# Beside each other: the type checker is one process, and many a test waits.
check: install  ## linter, types and the unit tests: the quick part
	@$(MAKE) --no-print-directory --jobs=2 lint unit

unit: install
	$(BIN)/python -m pytest tests/unit -q --hypothesis-profile=quick $(IN_TWO)

lint: install  ## ruff, strict mypy, and the one way of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install  ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install  ## each benchmark prints one JSON line: ours, the baseline's, the ratio
	$(BIN)/uv pip install --quiet --python $(BIN)/python $(FIND_LINKS) --constraint requirements.lock --editable '.[benchmarks]'
	for file in benchmarks/bench_*.py; do $(BIN)/python $$file || exit 1; done

lock: install  ## resolve pyproject.toml anew into requirements.lock
	# Into a new file: versions of an old one would be preferred, and with them PyPI's torch and gigabytes of CUDA.
	rm -f requirements.lock.new
	$(BIN)/uv pip compile --quiet --python-version 3.11 $(LOCKED_EXTRAS) --no-header --no-annotate \
	  $(FIND_LINKS) --no-emit-find-links pyproject.toml requirements.tools.in \
	  -o requirements.lock.new
	sed 's/^\(torch==[0-9.]*\)+cpu$$/\1/' requirements.lock.new > requirements.lock
	rm -f requirements.lock.new

clean:  ## remove the environment, caches and the local state
	rm -rf $(VENV) $(HOME_DIR) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
