# make setup      a virtual environment in .venv with everything the tests need
# make demo       the first recipe, start to report
# make test       the fast tests; test-all adds the slow ones
# make check      ruff, formatting, mypy
# make docs       the site in site/, without network
# make perf-setup an environment with the peers of perf/, beside the tests'
# make reproduce FAMILY=embeddings      every built method of a family against its baselines

PYTHON := $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
STAMP := .venv/.setup-done
DEBIAN := chromium wordnet-base fonts-noto-color-emoji unicode-cldr-core espeak-ng
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

# No test may reach for a model hub; and several workers share the cores, so each has one thread.
test test-all: export HF_HUB_OFFLINE := 1
test test-all: export OMP_NUM_THREADS := 1
test test-all: export TOKENIZERS_PARALLELISM := false

.PHONY: setup demo test test-all check docs perf-setup reproduce clean

setup: $(STAMP)

# torch comes first and by its exact version, so that no other package can choose another build of it.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install -c constraints.txt -e ".[all,dev]"
	@$(MAKE) --no-print-directory .debian
	touch $@

# The browser and the real data that tests read. Without them the tests concerned are skipped and say what is missing.
.PHONY: .debian
.debian:
	@missing=""; for package in $(DEBIAN); do \
		dpkg -s $$package >/dev/null 2>&1 || missing="$$missing $$package"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
		echo "installing from Debian:$$missing"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing \
			|| echo "could not install$$missing; the tests that need them will be skipped"; \
	else \
		echo "not installed:$$missing; the tests that need them will be skipped (on Debian: apt-get install$$missing)"; \
	fi

demo: $(STAMP)
	$(BIN)/stillroom distill examples/minilm.yaml

test: $(STAMP)
	$(PYTEST) -m "not slow"

test-all: $(STAMP)
	$(PYTEST)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The peers are never dependencies: they live in an environment of their own, .venv-perf.
perf-setup:
	test -x .venv-perf/bin/python || $(PYTHON) -m venv .venv-perf
	.venv-perf/bin/python -m pip install -c constraints.txt torch==2.13.0
	.venv-perf/bin/python -m pip install -c constraints.txt -e ".[all]" -r perf/requirements.txt

docs: $(STAMP)
	$(BIN)/mkdocs build --strict

reproduce: $(STAMP)
	@test -n "$(FAMILY)" || { echo "say which family: make reproduce FAMILY=embeddings"; exit 2; }
	$(BIN)/stillroom reproduce --family $(FAMILY)

clean:
	rm -rf build dist site .pytest_cache .mypy_cache .ruff_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
