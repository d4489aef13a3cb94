# Two commands: make demo, make test. Both set everything up in .venv first.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin

.PHONY: demo test lint format constraints clean

demo: $(VENV)/.runtime
	$(BIN)/bouton run workflows/demo.yaml

test: $(VENV)/.dev
	$(BIN)/pytest

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.runtime: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	touch $@

$(VENV)/.dev: $(VENV)/.runtime
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	touch $@

constraints: $(VENV)/.dev
	$(BIN)/python -m pip freeze --exclude-editable | grep -v '^torch==' > constraints.txt
	echo 'torch==2.13.0' >> constraints.txt

clean:
	rm -rf $(VENV)
