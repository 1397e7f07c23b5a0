# `make` lists what there is. Needs only make and Python 3.11, 3.12 or 3.13; everything goes into .venv.
.DEFAULT_GOAL := help
SHELL := /bin/sh
.PHONY: help demo run test faults bench check lint types imports security audit docs screenshots lock clean

CANDIDATES := $(or $(PYTHON),python3.13 python3.12 python3.11 python3)
IN_VENV := .venv/bin/python -m
# Each of these processes has a database server and a broker of its own. Three for two processors, since tests wait for a
# third of their time. A file stays together, and so do its stacks; the order stays as well, in which the slow ones come
# first and the quick ones fill the gaps at the end.
AT_ONCE := -n 3 --dist loadfile --no-loadscope-reorder
# A lock file names every package, so pip has nothing to resolve.
INSTALL = $(IN_VENV) pip install --quiet --disable-pip-version-check --no-input --no-deps --require-hashes
COMPILE = .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

demo: .venv/.runtime ## Start everything on free ports, draw one coloring page, save it, stop
	@exec $(IN_VENV) config.local.stack demo </dev/null

run: .venv/.runtime ## Run everything until Ctrl-C: http://127.0.0.1:8000
	@exec $(IN_VENV) config.local.stack run </dev/null

test: .venv/.dev ## Run the whole test suite on real servers
	@exec $(IN_VENV) pytest $(AT_ONCE) $(ARGS) </dev/null

faults: .venv/.dev ## Run the fault suite at full length, about an hour
	@FAULTS=full $(IN_VENV) pytest -o faulthandler_timeout=1500 tests/faults tests/integration/test_races.py $(ARGS) </dev/null

bench: .venv/.dev ## Measure how fast it is beside floors and a peer (needs wrk); ARGS="--help" says what can be chosen
	@exec $(IN_VENV) benchmarks $(ARGS) </dev/null

check: lint types imports security ## Run the four checks below

lint: .venv/.dev ## Check style and formatting (ruff)
	@.venv/bin/ruff check --quiet . && .venv/bin/ruff format --quiet --check .

types: .venv/.dev ## Check types (mypy)
	@.venv/bin/mypy

imports: .venv/.dev ## Check which part may import which (import-linter)
	@.venv/bin/lint-imports --no-logo

# Of what it looks for, these have been looked at line by line: ruff has the same rules, and the reasons stand beside them.
security: .venv/.dev ## Look for dangerous code (bandit)
	@.venv/bin/bandit --quiet --recursive config generation workers deploy -ll --skip B104,B308,B314,B608,B703

audit: .venv/.dev ## Ask the advisory service for known faults of what is installed (pip-audit; needs the internet)
	@.venv/bin/uv tool run pip-audit --requirement requirements.txt --disable-pip --no-deps

docs: .venv/.runtime ## Write docs/api.md anew, from what a running stack answers
	@exec .venv/bin/python docs/make_api.py </dev/null

screenshots: .venv/.dev ## Take docs/screenshots anew, in Chromium
	@SCREENSHOTS=docs/screenshots $(IN_VENV) pytest -q tests/browser/test_looks.py </dev/null

lock: .venv/.dev ## Pin what requirements*.in ask for; UPGRADE=--upgrade takes the newest
	@$(COMPILE) $(UPGRADE) requirements.in -o requirements.txt
	@$(COMPILE) $(UPGRADE) requirements-dev.in -o requirements-dev.txt

clean: ## Remove .venv and what tools left; var/ with its data stays
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- The virtual environment: a changed requirements file installs again, anything else does not ---------------------

.venv/.runtime: requirements.txt | .venv/.made
	@echo "Installing what it needs into .venv (about a minute, once)"
	@$(INSTALL) -r requirements.txt </dev/null
	@touch $@

.venv/.dev: requirements-dev.txt requirements.txt | .venv/.made
	@echo "Installing what it and its tests need into .venv (about a minute, once)"
	@$(INSTALL) -r requirements-dev.txt </dev/null
	@touch .venv/.runtime $@

# A name on the PATH may be an empty shell (pyenv), so each is asked for its version. Debian ships Python without
# ensurepip, where `venv` cannot put pip into the environment; uv can.
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
