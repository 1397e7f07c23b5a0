# `make` lists the targets. Needs only make and Python 3.11, 3.12 or 3.13; everything is installed into .venv.
.DEFAULT_GOAL := help
SHELL := /bin/sh
.PHONY: help demo demo-book run test test-quick test-all coverage faults compose-test bench check lint types imports security audit docs \
	screenshots architecture lock clean

CANDIDATES := $(or $(PYTHON),python3.13 python3.12 python3.11 python3)
IN_VENV := .venv/bin/python -m
# Each test process has its own database server and broker. Four for two processors, since tests wait for half of
# their time. Tests that share a stack stay in one process (tests/conftest.py). The order stays too: slow files first,
# fast ones fill the gaps at the end.
AT_ONCE := -n 4 --dist loadfile --no-loadscope-reorder
# The lock file names every package, so pip has nothing to resolve.
INSTALL = $(IN_VENV) pip install --quiet --disable-pip-version-check --no-input --no-deps --require-hashes
COMPILE = .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: .venv/.runtime ## Start everything on free ports, generate one coloring page, save it, stop
	@exec $(IN_VENV) config.local.stack demo </dev/null

demo-book: .venv/.runtime ## The same with a book: one character on a sheet and four pages, saved side by side
	@exec $(IN_VENV) config.local.stack demo-book </dev/null

run: .venv/.runtime ## Run everything until Ctrl-C: http://127.0.0.1:8000
	@exec $(IN_VENV) config.local.stack run </dev/null

test: .venv/.dev ## Run the tests on real servers, without faults and the long ones
	@exec $(IN_VENV) pytest $(AT_ONCE) -m "not faults and not long" $(ARGS) </dev/null

test-all: .venv/.dev ## Run the whole test suite: also short faults, fuzzing of the API and the launcher
	@exec $(IN_VENV) pytest $(AT_ONCE) $(ARGS) </dev/null

# Two processes for two processors: these tests hardly wait. Some contracts need the database, which starts with them.
test-quick: .venv/.dev ## Run the unit tests and the contracts, in less than a minute
	@exec $(IN_VENV) pytest -n 2 --dist loadfile tests/unit tests/contracts $(ARGS) </dev/null

# The report fails below the floor in pyproject.toml, `fail_under`.
coverage: .venv/.dev ## Run the whole test suite, and measure its line coverage
	@rm -f .coverage .coverage.*; status=0; \
	$(IN_VENV) coverage run -m pytest $(AT_ONCE) $(ARGS) </dev/null || status=$$?; \
	$(IN_VENV) coverage combine --quiet && $(IN_VENV) coverage report || status=1; \
	exit $$status

faults: .venv/.dev ## Run the fault suite at full length, about an hour
	@FAULTS=full $(IN_VENV) pytest -o faulthandler_timeout=1500 tests/faults tests/integration/test_races.py \
	  tests/acceptance/test_schema.py $(ARGS) </dev/null

compose-test: .venv/.dev ## Run docker-compose.yml on a container engine; as root on Debian it starts one itself
	@exec $(IN_VENV) tests.engine $(ARGS) </dev/null

bench: .venv/.dev ## Run the benchmarks (needs wrk); ARGS="--help" lists the options
	@exec $(IN_VENV) benchmarks $(ARGS) </dev/null

check: lint types imports security ## Run lint, types, imports and security

lint: .venv/.dev ## Check style and formatting (ruff), and the words of all text
	@.venv/bin/ruff check --quiet . && .venv/bin/ruff format --quiet --check . && .venv/bin/python .ci/check_prose.py

types: .venv/.dev ## Check types (mypy)
	@.venv/bin/mypy

imports: .venv/.dev ## Check the import layers (import-linter)
	@.venv/bin/lint-imports --no-logo

# The skipped rules are checked by ruff, with a reason beside each exception.
security: .venv/.dev ## Look for dangerous code (bandit)
	@.venv/bin/bandit --quiet --recursive config generation workers deploy -ll --skip B104,B301,B308,B314,B608,B703

audit: .venv/.dev ## Check dependencies for known vulnerabilities (pip-audit; needs the internet)
	@.venv/bin/uv tool run pip-audit --requirement requirements.txt --disable-pip --no-deps

docs: .venv/.runtime ## Update docs/api.md from the answers of a running stack
	@exec .venv/bin/python docs/make_api.py </dev/null

architecture: .venv/.dev ## Update the diagram in docs/architecture.md
	@.venv/bin/python docs/make_architecture.py

screenshots: .venv/.dev ## Update docs/screenshots, in Chromium
	@SCREENSHOTS=docs/screenshots $(IN_VENV) pytest -q tests/browser/test_looks.py </dev/null

lock: .venv/.dev ## Pin requirements*.in; UPGRADE=--upgrade takes the newest versions
	@$(COMPILE) $(UPGRADE) requirements.in -o requirements.txt
	@$(COMPILE) $(UPGRADE) requirements-dev.in -o requirements-dev.txt

clean: ## Remove .venv and the caches of tools; var/ with its data stays
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.*
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- The virtual environment: reinstalled only when a requirements file has changed ----------------------------------

.venv/.runtime: requirements.txt | .venv/.made
	@echo "Installing dependencies into .venv (about a minute, once)"
	@$(INSTALL) -r requirements.txt </dev/null
	@touch $@

.venv/.dev: requirements-dev.txt requirements.txt | .venv/.made
	@echo "Installing dependencies of the product and its tests into .venv (about a minute, once)"
	@$(INSTALL) -r requirements-dev.txt </dev/null
	@touch .venv/.runtime $@

# A name on the PATH may be a shim without a Python behind it (pyenv), so ask each for its version. Debian ships Python
# without ensurepip, so `venv` cannot install pip into the environment there; uv can.
.venv/.made:
	@if .venv/bin/python -c 'import pip, sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then \
	  touch $@; exit; \
	fi; \
	python=; seen=; \
	for candidate in $(CANDIDATES); do \
	  found=$$("$$candidate" -c 'import sys; print(".".join(map(str, sys.version_info[:3])))' 2>/dev/null) || continue; \
	  case $$found in 3.11.*|3.12.*|3.13.*) python=$$candidate; break;; *) seen="$$seen; $$candidate is $$found";; esac; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "error: Python 3.11, 3.12 or 3.13 is needed$${seen:-; there is no python3 on the PATH}" >&2; exit 1; \
	fi; \
	if "$$python" -c 'import ensurepip, venv' 2>/dev/null; then "$$python" -m venv --clear .venv || exit; \
	elif command -v uv >/dev/null; then \
	  UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1 uv venv --quiet --clear --seed --python "$$python" \
	    $${PIP_INDEX_URL:+--default-index "$$PIP_INDEX_URL"} .venv || exit; \
	else \
	  echo "error: $$python cannot make a virtual environment: install python3-venv (Debian, Ubuntu) or uv" >&2; exit 1; \
	fi; \
	touch $@
