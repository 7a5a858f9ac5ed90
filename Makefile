# make demo   makes the environment, installs imgret, renders parts, indexes them and answers queries
# make test   makes the environment, installs imgret and passes the tests
# make long   passes those that take seconds each, which CI runs too
# make lowest passes the tests on the lowest versions that pyproject.toml allows (minutes; .ci/nightly)
# make light  builds imgret-light, installs it alone, measures it and goes through its commands
# make docs   builds the site into build/site, where links that lead nowhere end it
# make page   builds the page of `imgret serve` from page/ into imgret/server/pages (needs Node)
# make bench  measures, and writes docs/benchmarks.md and benchmarks/results.json

PYTHON ?= python3
VENV ?= .venv
LOWEST ?= .venv-lowest
BIN := $(VENV)/bin
PYTEST := -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

.PHONY: demo test long lowest slow light docs page lint bench clean

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

demo: $(VENV)/installed
	@IMAGES='$(IMAGES)' BIN='$(abspath $(BIN))' sh demo.sh

test: $(VENV)/installed
	$(BIN)/python $(PYTEST)

long: $(VENV)/installed
	$(BIN)/python $(PYTEST) -m 'long and not slow'

# Versions are those of imgret-light with torch: faiss-gpu shares libraries with torch, which keeps the
# lowest torch away. torchvision is named since timm takes any, and the newest takes the newest torch.
$(LOWEST)/installed: pyproject.toml
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/pip install --quiet uv
	echo 'torchvision>=0.19' | $(LOWEST)/bin/uv pip compile --quiet --resolution lowest-direct \
		--python $(LOWEST)/bin/python --extra torch --output-file $(LOWEST)/lowest.txt \
		packaging/light/pyproject.toml -
	echo "faiss-gpu; sys_platform == 'none'" > $(LOWEST)/without.txt
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python \
		--override $(LOWEST)/without.txt --requirement $(LOWEST)/lowest.txt --editable '.[dev]'
	touch $@

# old libraries on new ones: what they warn of is theirs
lowest: $(LOWEST)/installed
	$(LOWEST)/bin/python $(PYTEST) -m 'not slow' \
		-W default::DeprecationWarning -W default::FutureWarning

slow: $(VENV)/installed
	$(BIN)/python -m pytest -m slow

light: $(VENV)/installed
	$(BIN)/python -m pytest -m slow -p no:randomly tests/imgret/test_light.py tests/imgret/test_container.py --override-ini log_cli=true --log-cli-level INFO

docs: $(VENV)/installed
	$(BIN)/pip install --quiet --editable '.[docs]'
	$(BIN)/python packaging/commands_page.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

page:
	@command -v npm >/dev/null || { echo 'make page needs Node 20 or newer with npm' >&2; exit 1; }
	cd page && npm ci --no-fund --no-audit && npm test && npm run build

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/installed
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) $(LOWEST) demo build dist
