# Two commands on a fresh machine: `make run` and `make test`. `make` alone lists the others.
#
# Variables, given as `make setup NAME=value`:
#   PYTHON       the interpreter for .venv; without it the first of those below that runs and is 3.11, 3.12 or 3.13
#   EXTRA        cpu or gpu; without it gpu where nvidia-smi lists a device
#   TORCH_INDEX  where the CPU build of PyTorch comes from; nothing is fetched there if pip finds the build elsewhere
#   JOBS         processes of the tests; the threads of each wait without spinning, which takes a core from the others

PYTHON ?=
EXTRA ?= $(shell nvidia-smi -L 2>/dev/null | grep -q '^GPU' && echo gpu || echo cpu)
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
TORCH_VERSION := 2.13.0
JOBS ?= 2

BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check
STAMP := .venv/.unblur-$(EXTRA)
CANDIDATES := $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python)
IN_RANGE := import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
CHECK := import sys, torch; cuda = torch.version.cuda; \
  print(f"ready: Python {sys.version.split()[0]}, PyTorch {torch.__version__}", flush=True); \
  sys.exit("PyTorch was built for CUDA and this machine has no CUDA device" if cuda and "$(EXTRA)" == "cpu" else 0)

.DEFAULT_GOAL := help
.PHONY: help setup run test test-slow test-gpu unit lint numbers gpu-kit clean

help:  ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r name text; do \
	  printf '  make %-10s %s\n' "$$name" "$$text"; done

setup: $(STAMP)  ## make .venv with everything in it; quick when nothing has changed

run: $(STAMP)  ## export, engines, comparison, as pipeline.toml says
	$(BIN)/unblur run

test: $(STAMP)  ## style, types, imports, and all tests that need no GPU but the slowest
	@$(MAKE) --no-print-directory --jobs=2 lint unit

unit: $(STAMP)  ## the tests alone
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(BIN)/pytest -n $(JOBS) --dist worksteal -m "not gpu and not slow"

test-slow: $(STAMP)  ## the slowest tests, which `make test` leaves out: two minutes on two cores
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(BIN)/pytest -n $(JOBS) --dist loadfile -m "slow and not gpu"

test-gpu: $(STAMP)  ## the tests that need an NVIDIA GPU; without one they are skipped, with the reason
	@$(BIN)/pytest -m gpu -rs; code=$$?; \
	if [ $$code -eq 5 ]; then echo "No test is marked gpu, so nothing at all was tested." >&2; fi; exit $$code

lint: $(STAMP)  ## ruff, mypy and the order of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

numbers: $(STAMP)  ## write the tables of committed reports into README.md and docs/
	$(BIN)/python docs/write_numbers.py

gpu-kit: $(STAMP)  ## build/gpu: all that a bare GPU machine needs (engines/gpu_kit/README.md)
	@bash engines/gpu_kit/prepare.sh

clean:  ## remove .venv and the tools' caches; artifacts/ stays
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

# The version with +cpu exists only without CUDA's gigabytes, so pip cannot choose the other build by mistake.
# Its dependencies come with the second step, so that nothing else is looked for there. macOS has one build for all. [cpu] and [gpu] install the same module: changing over removes both first.
$(STAMP): pyproject.toml Makefile
	@if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  found=; \
	  for candidate in $(CANDIDATES); do \
	    if "$$candidate" -c '$(IN_RANGE)' >/dev/null 2>&1; then found=$$candidate; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "None of '$(CANDIDATES)' is a working Python 3.11, 3.12 or 3.13 with venv; name one: make setup PYTHON=FILE" >&2; \
	    exit 2; \
	  fi; \
	  echo "making .venv with $$("$$found" --version)"; \
	  "$$found" -m venv .venv || exit 1; \
	fi
	@for other in $(filter-out $(STAMP),.venv/.unblur-cpu .venv/.unblur-gpu); do \
	  if [ -e $$other ]; then \
	    $(BIN)/python -m pip uninstall --quiet --yes torch onnxruntime onnxruntime-gpu && rm $$other || exit 1; \
	  fi; \
	done
	@echo "installing the packages of pyproject.toml [$(EXTRA),tensorrt,train,realblur,dev]: minutes the first time"
ifeq ($(EXTRA)-$(shell uname -s),cpu-Linux)
	@$(PIP) --no-deps --retries 1 --timeout 15 --extra-index-url $(TORCH_INDEX) 'torch==$(TORCH_VERSION)+cpu' || { \
	  echo "The CPU build of PyTorch $(TORCH_VERSION) was not found; give another index: make setup TORCH_INDEX=URL" >&2; \
	  exit 1; }
endif
	@$(PIP) --editable '.[$(EXTRA),tensorrt,train,realblur,dev]'
	@$(BIN)/python -c '$(CHECK)'
	@touch $@
