# Every target does its own set-up: system packages by apt, a virtual environment, the package.
.PHONY: setup test demo bench lint clean

VENV := .venv
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' && echo $$p && break; done)

setup: $(VENV)/.done

$(VENV)/.done: pyproject.toml constraints.txt packages.txt
	./.ci/setup "$(PYTHON)" $(VENV)
	touch $@

test: setup
	$(VENV)/bin/python -m pytest

demo: setup
	$(VENV)/bin/python docs/demo.py

lint: setup
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/mypy && $(VENV)/bin/lint-imports

bench: setup
	./.ci/setup "$(PYTHON)" $(VENV) bench
	$(VENV)/bin/python -m bench

clean:
	rm -rf $(VENV) build *.egg-info
