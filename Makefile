# `make` alone lists what there is. VENV may lie outside the project: make test VENV=/var/cache/venv
VENV ?= .venv
export VENV

.PHONY: help setup build demo test lint bench faults fuzz clean-runs

help: ## Lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

setup: ## Installs what is missing: GStreamer by apt, libtorch in .venv
	@scripts/setup.sh

build: setup ## Builds the reelflow command
	@scripts/cargo.sh build --release

demo: build ## Fetches four clips, makes a corpus, pre-trains, measures: minutes on two cores
	@scripts/demo.sh

test: setup ## Format, lints and all tests
	@scripts/test.sh

lint: setup ## Format and lints only
	@scripts/cargo.sh fmt --all --check
	@scripts/cargo.sh clippy --release --workspace --all-targets -- -D warnings
	@scripts/cargo.sh clippy --workspace --all-targets --no-default-features -- -D warnings

bench: setup ## Measures the stages and the whole flow
	@scripts/cargo.sh bench

faults: setup ## Kills, full disks, signals, panics, damage: half an hour (KILLS=1000)
	@scripts/faults.sh

fuzz: setup ## Fuzzes every reader of bytes from outside (SECS=600 each)
	@scripts/fuzz.sh

clean-runs: ## Removes run directories and the demo's corpus; keeps fetched clips
	rm -rf runs data/demo/corpus
