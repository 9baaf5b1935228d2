PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv

.PHONY: demo test check format clean

demo: $(VENV)/.installed
	$(VENV)/bin/finecorr demo --out demo --overwrite

# The tests on real data run where FINECORR_DATA names the folder with it (see CONTRIBUTING.md).
test: $(VENV)/.installed
	$(VENV)/bin/python -m pytest

check: $(VENV)/.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(VENV)/.installed
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:
	rm -rf $(VENV) demo

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[app,test]"
	touch $@
