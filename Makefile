# `make demo` and `make test` need nothing but Python 3.11 or newer: each makes .venv where it is missing or
# older than what it is made from.

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: demo test test-slow lint docs clean

demo: $(STAMP)
	$(BIN)/python examples/demo.py

# Two processes of one thread each: most tests are too small for several threads to help. More: make test PROCESSES=8
PROCESSES ?= 2
test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -m 'not slow' -n $(PROCESSES) --dist loadfile

test-slow: $(STAMP)
	$(BIN)/pytest -m slow

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# The site, from docs/ and the docstrings; any broken link fails it.
docs: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf .venv demo-output site .mypy_cache .pytest_cache .ruff_cache

$(STAMP): pyproject.toml constraints.txt
	@$(or $(PYTHON),false) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "error: no Python 3.11 or newer; install one, or name it: make PYTHON=/path/to/python3.11" >&2; \
		exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
