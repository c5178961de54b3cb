# Everything runs in .venv. `make bench` and `make test` set it up when it is missing or older than
# requirements.lock; the stamp keeps a second call from installing anything.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: setup bench test test-slow mutants lint format miniature miniature-decoder \
        miniature-encodings miniature-points miniature-identity leaderboard ablations submission clean help

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

setup: $(STAMP)  ## create .venv from requirements.lock

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one with 'make PYTHON=/path/to/python'."; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

bench: $(STAMP)  ## sweep the miniature, from generation to leaderboard
	$(BIN)/stdrc bench quick

RUN ?= runs/quick

leaderboard: $(STAMP)  ## rank a run again and write its page: make leaderboard RUN=runs/quick
	$(BIN)/stdrc leaderboard report $(RUN)

ablations: $(STAMP)  ## write a run's ablation tables as CSV and LaTeX
	$(BIN)/stdrc leaderboard ablations $(RUN)

submission: $(STAMP)  ## pack a challenge archive: make submission RUN=... ENTRY=... FORMAT=... EVAL=...
	$(BIN)/stdrc submission pack $(RUN) --entry "$(ENTRY)" --format $(FORMAT) --eval $(EVAL)

# One process a stage, or without a card two that share a training's batch; what does not wait for
# one another side by side.
MAKER := $(BIN)/python -m miniature.make
PAIR := $(if $(shell command -v nvidia-smi),$(MAKER),\
	OMP_NUM_THREADS=1 $(BIN)/torchrun --nproc-per-node 2 -m miniature.make)
miniature: $(STAMP)  ## train the miniature from nothing, resumable: six hours, without a card sixteen
	$(MAKER) --stage world --stage encoder --stage text
	$(MAKE) -j 2 miniature-decoder miniature-encodings
	$(PAIR) --stage base
	$(MAKER) --stage deepen
	$(PAIR) --stage identity
	$(PAIR) --stage likeness
	$(MAKER) --stage crowd
	$(PAIR) --stage rollout
	$(MAKER) --stage own
	$(MAKE) -j 2 miniature-points miniature-identity
	$(MAKER) --stage ship
	$(BIN)/python -m miniature.measure

miniature-decoder miniature-encodings:
	$(MAKER) --stage $(@:miniature-%=%)

miniature-points:
	$(MAKER) --stage variants --variant "*[nf]"

miniature-identity:
	$(MAKER) --stage variants --variant "*-identity"

test: $(STAMP)  ## run the fast, offline tests
	$(BIN)/python -m pytest -n 2 -m "not slow and not gpu"

test-slow: $(STAMP)  ## run the slow and GPU tests too
	$(BIN)/python -m pytest -m "slow or gpu"

# Not in requirements.lock: nothing else needs them.
MUTATION := mutmut==3.8.1 libcst==1.9.0
SAMPLE ?= 60

mutants: $(STAMP)  ## plant faults and see tests fail: make mutants [ONLY="guidance votes"] [SAMPLE=60]
	$(BIN)/python -m pip install --quiet --no-deps $(MUTATION)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.mutants $(ONLY) --sample $(SAMPLE)

lint: $(STAMP)  ## ruff, import-linter and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy

format: $(STAMP)  ## reformat
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment and run folders
	rm -rf $(VENV) runs
