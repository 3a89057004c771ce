# The two commands of the README are `make demo` and `make test`; `make help` lists the rest.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
HOME_DIR ?= .mangaassist
STAMP := $(VENV)/.installed

# uv does not read pip's configuration: pass on the extra wheel folders pip knows of, if any. Asked for when the recipe's
# line runs, for before that there is no pip in a fresh folder.
FIND_LINKS := $$($(BIN)/pip config list | sed -n "s/.*find-links='\(.*\)'/--find-links=\1/p" | tail -n 1)

# Where no wheel folder is known, torch comes from an index of its own: `cpu` is small, `cuda` is PyPI's with 7 GB of CUDA.
TORCH ?= cpu
TORCH_FROM_cpu := --torch-backend cpu
TORCH_FROM_cuda :=

# The baseline that a benchmark is compared with is no part of the product.
LOCKED_EXTRAS := --extra local --extra aws --extra ray --extra dev

# In two processes, files in their order: what waits for a sensor's next turn leaves the cores to the others.
IN_TWO := --numprocesses 2 --dist loadscope --no-loadscope-reorder

# Every process that a test starts would compile this package again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install demo dev test check unit lint format bench lock licences sbom audit clean

help:  ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-9s %s\n", $$1, $$2}'

install: $(STAMP)  ## install the locked dependencies and this package into .venv

$(STAMP): requirements.lock requirements.torch.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is needed (set PYTHON=... to name another 3.11)"; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)
	# Every file is compared with its hash, that of the installer too. Torch alone has none: it is another file for CPU and CUDA.
	sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > $(VENV)/uv.lock
	$(BIN)/python -m pip install --quiet --require-hashes --requirement $(VENV)/uv.lock
	# Bytecode is compiled here, on all cores, and not by the first process of each kind that imports a library.
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --no-deps --require-hashes \
	  --requirement requirements.lock
	found="$(FIND_LINKS)"; $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python \
	  $${found:-$(TORCH_FROM_$(TORCH))} --requirement requirements.torch.lock
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

lock: install  ## resolve pyproject.toml anew into requirements.lock and requirements.torch.lock
	# Into a new file: versions of an old one would be preferred, and with them PyPI's torch and gigabytes of CUDA.
	rm -f requirements.lock.new
	$(BIN)/uv pip compile --quiet --python-version 3.11 $(LOCKED_EXTRAS) --no-header --no-annotate --generate-hashes \
	  $(FIND_LINKS) --no-emit-find-links pyproject.toml requirements.tools.in \
	  -o requirements.lock.new
	sed -n 's/^\(torch==[0-9.]*\).*/\1/p' requirements.lock.new > requirements.torch.lock
	sed '/^torch==/,/[^\\]$$/d' requirements.lock.new > requirements.lock
	rm -f requirements.lock.new

licences: install  ## write docs/licences.md: the licence of every locked package
	$(BIN)/uv tool run --quiet pip-licenses==5.5.5 --python $(BIN)/python --from mixed --format markdown --ignore-packages mangaassist-assets \
	  > docs/licences.table
	cat docs/licences.head.md docs/licences.table > docs/licences.md && rm docs/licences.table

sbom: install  ## write sbom.json: CycloneDX, of what is installed
	$(BIN)/uv tool run --quiet --from cyclonedx-bom==7.5.0 cyclonedx-py environment --output-reproducible --pyproject pyproject.toml \
	  --output-file sbom.json $(BIN)/python

audit: install  ## look the locked versions up among known vulnerabilities (needs the internet)
	$(BIN)/uv tool run --quiet pip-audit==2.10.1 --disable-pip --require-hashes --requirement requirements.lock

clean:  ## remove the environment, caches and the local state
	rm -rf $(VENV) $(HOME_DIR) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
