# One command runs the main job on a fresh machine (make demo), one passes the tests (make test).
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

# What is compiled is kept: each of the processes of a run would compile Dagster anew (3 s).
unexport PYTHONDONTWRITEBYTECODE

PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help install demo books month test test-all check format bench dashboard lock clean

help:
	@echo "make demo    install, then run the hourly job on a simulated account and print what each company cost"
	@echo "make books   what a deleted key, a restated day and two missed days do to the books"
	@echo "make month   a month of charges: a plan changes, the month is closed, a restatement is charged in the next"
	@echo "make test    install, then pass the tests (test-all: the slow ones too)"
	@echo "make check   lint, types, layers and tests"
	@echo "make bench   measure (an hour)"
	@echo "make dashboard   import the dashboard into a real Superset and compare every figure"

install: $(STAMP)

# uv where it is to be had and works (3 times as fast), pip otherwise; both install the same hashed lock.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "orcost needs Python 3.11 or newer; try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Installing into $(VENV) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@uv=$$(command -v uv || { $(PIP) uv && echo $(BIN)/uv; } 2>/dev/null); \
	install="$$uv pip install --quiet --compile-bytecode --python $(BIN)/python"; \
	{ test -n "$$uv" && $$install --require-hashes -r requirements.lock && $$install --no-deps --editable .; } 2>/dev/null || \
	{ $(PIP) --require-hashes -r requirements.lock && $(PIP) --no-deps --editable .; }
	@touch $(STAMP)

demo: install
	@$(BIN)/orcost demo --once

books: install
	@$(BIN)/python -m docs.books

month: install
	@$(BIN)/python -m docs.month

test: install
	@$(BIN)/python -m pytest -q -n auto -m "not slow"

test-all: install
	@$(BIN)/python -m pytest -q -n auto

check: install
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/python -m pytest -q -n auto -m "not slow"

format: install
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: install
	@$(BIN)/python -m benchmarks
	@$(BIN)/python -m benchmarks.attribution
	@$(BIN)/python -m benchmarks.forecast
	@$(BIN)/python -m benchmarks.questions
	@$(BIN)/python -m benchmarks.loading
	@$(BIN)/python -m benchmarks.loading --restate 50000 --among 10000000
	@$(BIN)/python -m benchmarks.dlt_pipeline
	@$(BIN)/python -m benchmarks.layout
	@$(BIN)/python -m benchmarks.large_account
	@home=$$(mktemp -d) && chmod 755 $$home && $(BIN)/python -m benchmarks.questions --home $$home --no-questions --no-publications && \
		$(BIN)/python -m benchmarks.partitions --home $$home

dashboard: install
	@$(BIN)/python -m dashboards.proof

lock:
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-header -o requirements.lock
	echo "setuptools>=77" | uv pip compile pyproject.toml - --extra k8s --constraint requirements.lock --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-header --no-annotate -o deploy/requirements.lock
	echo "setuptools>=77" | uv pip compile pyproject.toml - --extra celery --constraint requirements.lock --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-header --no-annotate -o deploy/celery/requirements.lock

clean:
	rm -rf $(VENV) build dist *.egg-info
