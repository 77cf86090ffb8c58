# The two commands a newcomer needs are `make run` and `make test`; both set
# everything up first.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
# Root is needed for what touches the kernel, and only for that.
SUDO := $(if $(filter 0,$(shell id -u)),,sudo --preserve-env=INTERFACE,QUEUE_NUM,MONITOR_ONLY,XDP_MODE,BAN_DURATION,LOG_LEVEL,EVENT_LOG,DETECTION_LOG,METRICS_LISTEN,CLEANUP_INTERVAL,DETECTION_PROFILE,KEEP_XDP,XDP_SIGNATURES)

.PHONY: help setup run test demo bench deb lint format clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

setup: ## Install Debian packages and the virtual environment (seconds when done before)
	@tools/setup

run: setup ## Block BitTorrent on this machine; ARGS="..." adds options (Ctrl-C stops and cleans up)
	@$(SUDO) $(BIN)/btblocker run --manage-rules $(ARGS)

# Three at once on two processors: most tests wait for real programs.
test: setup ## Run all tests; those in tests/lab use real clients in network namespaces
	@$(SUDO) $(BIN)/python -m pytest -n 3 --no-loadscope-reorder $(ARGS)

demo: setup ## Show real clients with and without the blocker (under 2 minutes)
	@$(SUDO) $(BIN)/python -m tools.lab demo $(ARGS)

bench: setup ## Measure speed beside its limits
	@$(SUDO) $(BIN)/python -m tools.bench $(ARGS)

deb: setup ## Build the Debian package in dist/
	@tools/deb

lint: setup ## ruff, mypy, and the directions of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: setup ## Let ruff format the code
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
