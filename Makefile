# Everything a newcomer needs. `make` alone lists it.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
FOLDER ?=
QUERY ?=
FAULTS ?=
TEST_PROCESSES ?= 4
FUZZ_SECONDS ?= 60
FILES ?= 50000
ATTACKS ?=
ESCAPES ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-brokers servers check docs bench bench-integrity faults attack test-sandbox test-detection simulate fuzz mutate coverage clean

help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed ## run a real job on signed tasks, then attack it (FOLDER=... QUERY="...")
	$(BIN)/python demo/run.py $(if $(FOLDER),--folder "$(FOLDER)") $(if $(QUERY),--query "$(QUERY)")

test: $(VENV)/.installed-test servers ## run the tests
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder --durations=20

test-brokers: $(VENV)/.installed-test servers ## run the suite of the contract on every driver, and print a table
	CARDOON_TEST_THOROUGH=1 $(BIN)/python -m pytest -q tests/contract

servers: ## install the servers that tests start, on Debian and Ubuntu, where that is allowed
	@sh tests/servers/install.sh

check: $(VENV)/.installed-check ## lint, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.installed-docs ## build the documentation, with the API reference, in docs/_build
	$(BIN)/python -m sphinx --quiet --fail-on-warning docs docs/_build

bench: $(VENV)/.installed-bench ## measure Cardoon beside its peers on every broker that is installed (takes minutes on each)
	$(BIN)/python -m benchmarks

bench-integrity: $(VENV)/.installed-bench ## check 50,000 files beside AIDE, and find every kind of change (FILES=50000)
	$(BIN)/python -m benchmarks integrity --files $(FILES)

faults: $(VENV)/.installed-test ## break workers, brokers and links, and count what is lost (FAULTS="--fault quick")
	$(BIN)/python -m faults $(FAULTS)

attack: $(VENV)/.installed-test ## attack a deployment on every broker in over two hundred ways (ATTACKS="--broker redis --only forge")
	$(BIN)/python -m attacks $(ATTACKS)

test-sandbox: $(VENV)/.installed-test ## over two hundred attempts to get out of a sandbox, at each level, as root and as an ordinary user (ESCAPES="--level strict")
	$(BIN)/python -m escapes $(ESCAPES)
	CARDOON_TEST_ISOLATED_TASKS=10000 $(BIN)/python -m pytest -q tests/sandbox

test-detection: $(VENV)/.installed-test servers ## send a hundred thousand records to real syslog servers that are killed, frozen and lied to
	CARDOON_TEST_THOROUGH=1 $(BIN)/python -m pytest -q -rP tests/detection
	$(BIN)/python -m tests.detection.intruder

simulate: $(VENV)/.installed-test ## a thousand simulated histories, and each part of the design switched off
	$(BIN)/python tests/simulation/run.py --seeds 1000

fuzz: $(VENV)/.installed-test ## throw a million broken messages at the gate, and bytes at all that reads any (FUZZ_SECONDS=600)
	$(BIN)/python tests/fuzz/gate_fuzz.py --count 1000000
	$(BIN)/python -m tests.fuzz.run --seconds $(FUZZ_SECONDS)

mutate: $(VENV)/.installed-test ## take the checks of the gate out, one at a time: some test must notice
	$(BIN)/python -m tests.mutation.run

coverage: $(VENV)/.installed-test ## run the tests with branch coverage
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered

clean: ## remove what these targets made
	rm -rf $(VENV) docs/_build demo/out benchmarks/out .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Cardoon needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)

# What is tested is what is installed: a wheel, not the source tree.
$(VENV)/.installed: $(BIN)/python pyproject.toml $(shell find src -name '*.py' -o -name '*.sql' -o -name '*.lua')
	$(BIN)/python -m pip install --quiet --disable-pip-version-check .
	@touch $@

$(VENV)/.installed-%: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check ".[$*]"
	@touch $@
