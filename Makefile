# Every target sets up what it needs: a fresh machine with Python 3.11, git and make is enough.
PYTHON ?= python3.11
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.set-up

.PHONY: help setup setup-cluster demo test test-cluster test-browser test-r test-served chaos docs lint bench lock clean
.DEFAULT_GOAL := help

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Install everything of requirements.lock into .venv

$(STAMP): requirements.lock infra/bootstrap.lock pyproject.toml
	@echo "==> setting up $(VENV) from requirements.lock (about 3 GB; 1 to 3 minutes)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null \
	  || { echo "make: Python 3.11 is needed; name it with  make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/pip install --quiet --no-deps --require-hashes -r infra/bootstrap.lock
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --require-hashes -r requirements.lock
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

setup-cluster: setup ## Add what `ray up` and a cluster's head need
	@$(BIN)/uv pip install --quiet --python $(VENV) --no-deps --require-hashes -r infra/requirements-cluster.lock

demo: setup ## Run the bundled study and print its result
	@echo "==> running studies/demo.yaml into results/demo"
	@$(BIN)/sweep run studies/demo.yaml

test: setup ## Run the tests
	@echo "==> running the tests"
	@$(BIN)/python -m pytest -n 2 --dist loadfile

test-cluster: setup-cluster ## Run a study on Ray clusters of several nodes
	@echo "==> running the cluster tests"
	@$(BIN)/python -m pytest -m cluster tests/cluster

test-browser: setup ## Check the report in headless Chromium (needs chromium and chromium-driver)
	@echo "==> running the browser tests"
	@$(BIN)/python -m pytest -m browser tests/browser

test-r: setup ## Run the exported script in R (needs r-base-core and r-cran-lme4) and compare its numbers with the SQL's
	@echo "==> running the tests in R"
	@$(BIN)/python -m pytest -m r tests/export

test-served: setup ## Load and serve logged models by MLflow's own commands
	@echo "==> running the tests of served models"
	@$(BIN)/python -m pytest -m served tests/tracking

chaos: setup ## Kill runs at random moments, fill disks, and compare tables (CHAOS_KILLS=20 CHAOS_SEED=1)
	@echo "==> running the chaos tests"
	@$(BIN)/python -m pytest -m chaos -s

docs: setup ## Build the docs' site into site/, with every link checked
	@echo "==> building the docs' site"
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict -q
	@echo "site/index.html"

lint: setup ## Check format, style and types
	@echo "==> ruff format, ruff check, mypy"
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

bench: setup ## Run the benchmarks, into docs/benchmarks.md (half an hour; take the machine for yourself)
	@echo "==> running the benchmarks"
	@$(BIN)/python -m benchmarks.run

lock: ## Make requirements.lock anew from pyproject.toml (needs uv)
	@echo "==> resolving requirements.lock"
	@uv pip compile pyproject.toml --group dev --group docs --group reference --override infra/overrides.txt \
	  --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --quiet -o requirements.lock

clean: ## Remove the environment and caches; results stay
	@echo "==> removing .venv and caches"
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
