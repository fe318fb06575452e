# `make demo` and `make test` need Python 3.11 or later and git, nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# a process a core; a file goes to one of them, which prepares what its tests share, in the order of their names: the
# long ones of tests/integration begin early, so that no core ends long before the others
SIDE_BY_SIDE := -n auto --dist loadfile --no-loadscope-reorder

.PHONY: demo test lint types docs unit oldest format readme wheel clean

demo: $(VENV)/.installed
	$(BIN)/medcore-bench baselines

test: lint types docs unit

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# the four folders laid out as the wheel lays them out, which is how their imports read
types: $(VENV)/.installed
	@rm -rf build/typed && mkdir -p build/typed
	@cp -r medcore_prune build/typed/ && cp -r criteria baselines benchmarks build/typed/medcore_prune/
	cd build/typed && $(abspath $(BIN))/mypy -p medcore_prune --config-file ../../pyproject.toml --cache-dir ../../.mypy_cache

# every warning is an error; the site is build/docs/index.html
docs: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -W --keep-going -q -E -d build/doctrees docs build/docs

unit: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(SIDE_BY_SIDE)

# the tests with the oldest versions of what the package needs, in an environment of its own
oldest: $(VENV)-oldest/.installed
	OMP_NUM_THREADS=1 $(VENV)-oldest/bin/python -m pytest $(SIDE_BY_SIDE)

$(VENV)-oldest/.installed: setup.cfg constraints-oldest.txt
	$(PYTHON) -m venv $(VENV)-oldest
	$(VENV)-oldest/bin/python -m pip install --quiet --constraint constraints-oldest.txt --editable '.[dev]'
	@touch $@

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

readme: $(VENV)/.installed
	$(BIN)/python -m medcore_prune.benchmarks.readme

wheel: $(VENV)/.installed
	$(BIN)/python -m build

$(VENV)/.installed: setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed: try make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) $(VENV)-oldest build dist *.egg-info
