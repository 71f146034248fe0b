# One command runs the main job on a fresh machine (make demo), one passes the tests (make test).
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: help install demo test test-all check format bench lock clean

help:
	@echo "make demo    install, then run the hourly job on a simulated account and print what each company cost"
	@echo "make test    install, then pass the tests (test-all: the slow ones too)"
	@echo "make check   lint, types and tests"
	@echo "make bench   measure"

install: $(STAMP)

# uv where it is to be had (3 times as fast), pip otherwise; both install the same hashed lock.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "orcost needs Python 3.11 or newer; try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Installing into $(VENV) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@if command -v uv >/dev/null 2>&1; then UV=uv; \
	elif $(BIN)/python -m pip install --quiet --disable-pip-version-check uv 2>/dev/null; then UV=$(BIN)/uv; fi; \
	if [ -n "$$UV" ]; then \
	  $$UV pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock && \
	  $$UV pip install --quiet --python $(BIN)/python --no-deps --editable .; \
	else \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .; \
	fi
	@touch $(STAMP)

demo: install
	@$(BIN)/orcost demo --once

test: install
	@$(BIN)/python -m pytest -q -n auto -m "not slow"

test-all: install
	@$(BIN)/python -m pytest -q -n auto

check: install
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright
	@$(BIN)/python -m pytest -q -n auto -m "not slow"

format: install
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: install
	@$(BIN)/python -m benchmarks

lock:
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-header -o requirements.lock

clean:
	rm -rf $(VENV) build dist *.egg-info
