# `make demo` and `make test` on a fresh machine with Python 3.11 and a package index.
VENV ?= .venv
PYTHON ?= python3.11
BIN = $(VENV)/bin

.PHONY: demo test test-slow test-lowest lint licences clean

demo: $(VENV)/.installed
	$(BIN)/python train.py

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-slow: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m slow

# The oldest version of each dependency that pyproject.toml allows.
test-lowest:
	test -x $(VENV)-lowest/bin/python || $(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pip install --quiet uv
	$(VENV)-lowest/bin/uv pip install --quiet --python $(VENV)-lowest/bin/python \
		--resolution lowest-direct --editable '.[test]'
	$(VENV)-lowest/bin/python -m pytest -n 2

lint: $(VENV)/.installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/deptry src

# docs/licences.md, of an environment with every extra.
licences:
	test -x $(VENV)-licences/bin/python || $(PYTHON) -m venv $(VENV)-licences
	$(VENV)-licences/bin/python -m pip install --quiet --editable '.[dev,mlflow,ray]' uv
	$(VENV)-licences/bin/uvx --quiet pip-licenses@5.5.5 --python $(VENV)-licences/bin/python \
		--from all --with-license-file --format json --with-system \
		--ignore-packages pip uv >$(VENV)-licences/found.json
	$(VENV)-licences/bin/python .ci/licences.py <$(VENV)-licences/found.json

# A stamp a state: the second call installs nothing.
$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --editable .
	touch $@

$(VENV)/.installed-test: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --editable '.[test]'
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) $(VENV)-lowest $(VENV)-licences outputs .pytest_cache .mypy_cache .ruff_cache
