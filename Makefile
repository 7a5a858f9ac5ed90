# make demo   makes the environment, installs imgret, renders parts, indexes them and answers queries
# make test   makes the environment, installs imgret and passes the tests
# make light  builds imgret-light, installs it alone, measures it and goes through its commands
# make docs   builds the site into build/site, where links that lead nowhere end it
# make bench  measures, and writes docs/benchmarks.md and benchmarks/results.json

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test slow light docs lint bench clean

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

demo: $(VENV)/installed
	@IMAGES='$(IMAGES)' BIN='$(abspath $(BIN))' sh demo.sh

test: $(VENV)/installed
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --max-worker-restart 0

slow: $(VENV)/installed
	$(BIN)/python -m pytest -m slow

light: $(VENV)/installed
	$(BIN)/python -m pytest -m slow tests/imgret/test_light.py tests/imgret/test_container.py --override-ini log_cli=true --log-cli-level INFO

docs: $(VENV)/installed
	$(BIN)/pip install --quiet --editable '.[docs]'
	$(BIN)/python packaging/commands_page.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/installed
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) demo build dist
