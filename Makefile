# Everything from a clean clone: `make demo`, `make test`, `make check`, `make docs`, `make release`.
# Inputs: CLIP (what to recognise), MODEL (what recognises it), FOVEATE_WEIGHTS (folders with
# published weights),
# PYTHON (the interpreter that makes the environment), PYTEST (more options for pytest).

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CLIP ?= examples/demo/cartwheel.mp4
MODEL ?= movinet-a0-stream-lite.actions15
KINETICS := movinet-a0-stream-lite.k600
OUT ?= out
PYTEST ?=

export OMP_NUM_THREADS ?= 1

.PHONY: demo test check docs release clean

demo: $(VENV)/.installed
	@mkdir -p $(OUT)
	$(BIN)/foveate predict $(CLIP) --model $(MODEL) --report $(OUT)/report.html --video $(OUT)/annotated.mp4
	@echo; echo "The same clip by Kinetics-600 weights ($(KINETICS), fetched once):"
	@$(BIN)/foveate predict $(CLIP) --model $(KINETICS) || echo "Not here; nothing else needs them."

# Engines have processes of their own: where they use AMX, the frame of a signal does not fit into the
# alternate stack of pytest's faulthandler, so the next signal that Python handles (SIGCHLD after a
# loader of PyTorch, SIGTERM in tests of training) would end the process.
# Bytecode is kept, also where the environment says otherwise: dozens of processes import the package.
test: export PYTHONDONTWRITEBYTECODE =
test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 3 --dist worksteal --ignore=tests/engines $(PYTEST)
	$(BIN)/python -m pytest -n 2 tests/engines $(PYTEST)

check: $(VENV)/.installed-dev
	$(BIN)/ruff check src tests benchmarks scripts examples
	$(BIN)/ruff format --check src tests benchmarks scripts examples
	$(BIN)/mypy

# The site is in site/; `python -m http.server -d site` serves it, with search.
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# Builds wheel and source archive into dist/, checks them, installs each into a new environment and
# recognises the bundled clip there. It downloads all dependencies; PIP_INDEX_URL and the like apply.
release: $(VENV)/.installed-dev check
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python scripts/check_release.py dist --fresh

clean:
	rm -rf $(VENV) $(OUT) build dist site .mypy_cache .ruff_cache .pytest_cache src/*.egg-info

# The environment is made anew when the dependencies change. The command is installed from here,
# so what it runs is this working tree.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "foveate needs Python 3.11 or newer, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[docs,train,zoo]'
	@touch $@
