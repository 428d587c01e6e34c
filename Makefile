# What a person or a CI machine does with this project. `make` alone lists it.
# Debian's own Python is meant on purpose: python3-libvirt comes from Debian and fits no other.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

SYSTEM_PYTHON := /usr/bin/python3
PYTHON_VERSION := $(shell $(SYSTEM_PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready-$(PYTHON_VERSION)
PACKAGES = $(shell sed 's/\#.*//' packages.txt)
ROOT := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
STYLE = $(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy
LOCK_TOOL := pip-tools==7.6.2

.PHONY: help setup demo test check bench clean lock

help: ## list these targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

setup: packages $(READY) ## install what this machine needs (Debian packages, .venv); instant when done

.PHONY: packages
packages:
	@missing=; \
	for name in python3 $(PACKAGES); do \
	  dpkg-query -W -f='$${Status}' $$name 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$name"; \
	done; \
	if [ -n "$$missing" ]; then \
	  echo "installing:$$missing"; \
	  $(ROOT) apt-get update -qq; \
	  $(ROOT) env DEBIAN_FRONTEND=noninteractive apt-get install -qqy --no-install-recommends $$missing; \
	fi

# A .venv of another Python (the system was upgraded) is made anew.
$(READY): requirements.lock pyproject.toml packages.txt | packages
	@version=$$($(SYSTEM_PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	[ -x $(BIN)/python ] && [ -d $(VENV)/lib/python$$version ] \
	  || $(SYSTEM_PYTHON) -m venv --clear --system-site-packages $(VENV); \
	$(BIN)/python -m pip install -q --require-hashes -r requirements.lock; \
	$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .; \
	touch $(VENV)/ready-$$version

demo: setup ## simulate a host with one network card, build the cloud on it, prove it, say how to use it
	$(ROOT) $(BIN)/solostack demo

test: setup ## set up what is needed and pass every test, the whole cloud included
	$(STYLE)
	$(ROOT) $(BIN)/python -m tests.run

check: setup ## format, lint, types, unit tests: seconds
	$(STYLE)
	$(BIN)/python -m pytest -q tests/unit

bench: setup ## measure: stages of up, memory of the control plane, a second up, inventory
	@for script in bench/*.py; do echo "== $$script"; $(ROOT) $(BIN)/python $$script; done

clean: ## remove labs and what tools left here; trees (~/.cache/solostack) and .venv stay
	@if [ -x $(BIN)/solostack ]; then \
	  for name in $$($(ROOT) $(BIN)/solostack lab list --json | tr -d '[],"'); do \
	    $(ROOT) $(BIN)/solostack lab down --name "$$name"; \
	  done; \
	fi
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src tests bench -name __pycache__ -prune -exec rm -rf {} +

lock: packages ## resolve the dependencies of pyproject.toml anew into requirements.lock
	@tools=$$(mktemp -d); trap 'rm -rf "$$tools"' EXIT; \
	$(SYSTEM_PYTHON) -m venv "$$tools"; \
	"$$tools"/bin/python -m pip install -q $(LOCK_TOOL); \
	"$$tools"/bin/pip-compile -q --upgrade --extra dev --build-deps-for editable --generate-hashes \
	  --strip-extras --allow-unsafe --no-config --no-header \
	  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
	  -o "$$tools"/requirements.lock pyproject.toml; \
	{ echo '# Made by `make lock`; every file by its SHA-256, from whichever index pip is set to.'; \
	  cat "$$tools"/requirements.lock; } > requirements.lock
