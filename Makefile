# The commands of this project are one-liners over ordinary tools, inside an environment of its own.
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
MACHINE ?= shared-2core
COMMITS ?= HEAD^!
WORKERS ?= 2
BASE ?=
GATE ?=
# The tests look at all families; that the benches run at all is seen in one of them.
SMOKE ?= two_faces_relu
# With a GPU: LAUNCH=spawn
LAUNCH ?= forkserver

.PHONY: bench bench-all test lint gate report dashboard catalogue clean

bench: $(VENV)/ready  ## check every kernel, time it, print the race
	mkdir -p build
	$(BIN)/pytest benches --benchmark-only --benchmark-json=build/bench.json

bench-all: $(VENV)/ready  ## the same for every size and type
	mkdir -p build
	$(BIN)/pytest benches --benchmark-only --all-cases --benchmark-json=build/bench-all.json

test: $(VENV)/ready lint  ## style, types, imports, tests, and one smoke pass of the benches
	OMP_NUM_THREADS=1 $(BIN)/pytest tests --numprocesses $(WORKERS) --dist loadfile --benchmark-disable -q
	OMP_NUM_THREADS=1 $(BIN)/pytest benches --tier test --family $(SMOKE) --benchmark-disable -q

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

dashboard: $(VENV)/ready  ## run asv over the commits that lack results, then serve its pages
	$(BIN)/asv machine --machine $(MACHINE) --yes
	$(BIN)/asv run --machine $(MACHINE) --launch-method $(LAUNCH) --skip-existing-commits $(COMMITS)
	$(BIN)/asv publish
	$(BIN)/asv preview

gate: $(VENV)/ready  ## may this change be merged? BASE=..., GATE="--strict ..."
	$(BIN)/gradrace gate $(BASE) $(GATE)

report: $(VENV)/ready  ## figures, a summary and one page of results/ and of what `make bench` has found
	$(BIN)/gradrace report results $(wildcard build/bench.json) -o build/report

catalogue: $(VENV)/ready  ## rewrite the list of cases that asv tracks
	$(BIN)/python benches/write_catalogue.py

# torch comes first and pinned: a range would replace a CPU build by the newest one for CUDA.
$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build .asv .benchmarks
