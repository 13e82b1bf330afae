# make demo: from nothing to a running inspection server. make test: what .ci/run calls.
PYTHON ?= python3
VENV ?= .venv
PORT ?= 8000
# On x86 Linux the package index's own torch brings gigabytes of CUDA libraries; PyTorch's CPU index does not:
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
BIN := $(VENV)/bin

.PHONY: demo test lint clean
.DELETE_ON_ERROR:

demo: $(VENV)/.builder
	$(BIN)/python -m build_engines.demo --folder demo --port $(PORT)

test: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

clean:
	rm -rf $(VENV) demo

# torch goes first: packages that need it then take what is there.
$(VENV)/.torch:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet torch==2.13.0 $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	touch $@

$(VENV)/.builder: $(VENV)/.torch pyproject.toml
	$(BIN)/pip install --quiet --editable ".[cpu,service,builder]"
	touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml
	$(BIN)/pip install --quiet --editable ".[cpu,service,builder,dev,trt-check]"
	touch $@ $(VENV)/.builder
