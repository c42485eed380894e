# make venv   .venv with the pinned requirements and this project (done at once when nothing changed)
# make test   venv, make lint, the whole test suite
# make demo   venv, synthetic heads, a few minutes of training, images; repeat it to train on
# make lint   ruff, pyright, clang-format, the C++ under strict warnings
# make coverage   the suite once more, and which share of each module's lines it runs (a third slower)
# make test-portable   the suite as other processors, numbers of threads and orders of hashing run it (twenty minutes)
# make test-asan   the C++ rasterizer with random bits under AddressSanitizer and UBSan (g++, x86-64: a few minutes)
# make docs   the documentation as a site, in build/site; nothing in it is loaded from elsewhere
# make prep   adds MediaPipe to .venv, which finds faces and masks in photos (300 MB; not needed for anything else)
#
# TORCH chooses the torch that `make venv` installs: a requirement with pip options, or `system` for the one that
# PYTHON already has. It is remembered in .venv, so `make test` and `make demo` need not repeat it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH_VERSION := 2.13.0
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
DEFAULT_TORCH := torch==$(TORCH_VERSION)$(if $(filter Linux,$(shell uname -s)),+cpu)
RECORDED_TORCH := $(shell cat $(VENV)/torch-requirement 2>/dev/null)
TORCH ?= $(or $(RECORDED_TORCH),$(DEFAULT_TORCH))
PIP := $(BIN)/python -m pip --disable-pip-version-check
QUIETLY := $(PYTHON) -m gghead.torch_utils.run_quietly
DEMO ?=
PYTEST ?=
# Test files are shared among processes of one thread each; PARALLEL= runs them one after the other.
PARALLEL ?= -n auto --maxprocesses=4 --dist=loadfile

.PHONY: venv docs prep test test-portable test-asan demo lint coverage
.DELETE_ON_ERROR:

venv: $(VENV)/stamp

ifneq ($(RECORDED_TORCH),)
ifneq ($(RECORDED_TORCH),$(TORCH))
$(error $(VENV) was made with TORCH=$(RECORDED_TORCH): remove $(VENV) first to change it to $(TORCH))
endif
endif

$(VENV)/stamp: requirements.txt pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "gghead needs Python 3.11 or newer: name one with make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(BIN)/python -c 'import pip' 2>/dev/null || $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	    { echo "This Python cannot make virtual environments: run 'apt install python3-venv' first."; exit 1; }
	@$(BIN)/python -c 'import pip' 2>/dev/null || \
	    $(QUIETLY) "Making $(VENV)" $(PYTHON) -m venv $(if $(filter system,$(TORCH)),--system-site-packages) $(VENV)
ifeq ($(TORCH),$(DEFAULT_TORCH))
	@$(QUIETLY) "Installing $(TORCH)" sh -c "$(PIP) install -q --no-deps '$(TORCH)' 2>/dev/null || \
	    $(PIP) install -q --no-deps --index-url $(TORCH_INDEX) '$(TORCH)'"
else ifneq ($(TORCH),system)
	@$(QUIETLY) "Installing $(TORCH)" $(PIP) install -q $(TORCH)
endif
	@grep -v '^torch==' requirements.txt > $(VENV)/requirements.txt
	@$(QUIETLY) "Installing the pinned requirements" $(PIP) install -q --no-deps -r $(VENV)/requirements.txt
	@$(QUIETLY) "Installing gghead" $(PIP) install -q --no-deps --no-build-isolation -e .
ifeq ($(TORCH),$(DEFAULT_TORCH))
	@$(BIN)/python -c 'import torch; v = torch.__version__; assert v.startswith("$(TORCH_VERSION)"), f"torch {v} replaced $(TORCH)"'
	@test -e $(VENV)/prep || $(PIP) check
else
	@$(BIN)/python -c 'import torch; print("Using torch", torch.__version__)'
endif
	@$(QUIETLY) "Building the C++ rasterizer for this processor" $(BIN)/python setup.py -q build_ext --native || \
	    echo "Without it plain torch rasterizes, several times slower; with a compiler it is built on first use."
	@echo '$(TORCH)' > $(VENV)/torch-requirement
	@touch $@

prep: $(VENV)/prep

# MediaPipe names packages that it does not need here, so `pip check` has to look away from now on.
$(VENV)/prep: requirements-prep.txt | $(VENV)/stamp
	@$(QUIETLY) "Installing what the preparation of photos needs" $(PIP) install -q --no-deps -r requirements-prep.txt
	@$(BIN)/python -c 'import mediapipe.python.solutions'
	@touch $@

docs: $(VENV)/docs
	@$(BIN)/python -m mkdocs build --quiet --strict --clean
	@echo "The site is in build/site; python3 -m http.server -d build/site shows it, with its search"

$(VENV)/docs: requirements-docs.txt | $(VENV)/stamp
	@$(QUIETLY) "Installing what the documentation is built with" $(PIP) install -q --no-deps -r requirements-docs.txt
	@$(BIN)/python -c 'import material, mkdocstrings'
	@touch $@

lint: venv
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check --quiet .
	@$(BIN)/python -m pyright --pythonpath $(BIN)/python
	@$(BIN)/clang-format --dry-run -Werror gghead/rendering/csrc/*
	@$(BIN)/python tests/helpers/strict_compile.py

test: lint
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -q $(PARALLEL) $(PYTEST)

coverage: venv
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -q $(PARALLEL) --cov --cov-report= $(PYTEST)
	@$(BIN)/python tests/helpers/coverage_table.py

test-portable: venv
	@.ci/portable

test-asan: venv
	@$(BIN)/python tests/helpers/sanitized.py

demo: venv
	@$(BIN)/python scripts/demo.py $(DEMO)
