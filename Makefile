# Two commands matter: `make demo` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test check format lint types imports unit bench clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(VENV)/.ready: pyproject.toml requirements-dev.txt
	@echo "Making the environment in $(VENV) …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check -c requirements-dev.txt -e '.[dev]'
	@touch $@

demo: $(VENV)/.ready ## Start the sidecar with a thin application and show what it does (ONCE=1 ends by itself)
	@$(BIN)/python -m examples.demo $(if $(ONCE),--once)

check: lint types imports ## Formatting, lint, types, import contracts

lint: $(VENV)/.ready
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

types: $(VENV)/.ready
	@$(BIN)/mypy

imports: $(VENV)/.ready
	@$(BIN)/lint-imports --no-cache

format: $(VENV)/.ready ## Format and fix what can be fixed
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

test: check ## Everything: check, then all tests, with the real servers that they need
	REQUIRE_SERVERS=1 $(BIN)/python -m pytest

unit: $(VENV)/.ready ## The quick tests only
	$(BIN)/python -m pytest tests/unit tests/architecture tests/fuzz

bench: $(VENV)/.ready ## Measure against nginx, HAProxy, Envoy and direct, side by side (about ten minutes)
	$(BIN)/python -m bench

clean: ## Remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
