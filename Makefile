# Two commands are enough: `make demo` and `make test`. Everything happens in .venv, made once.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
INSTALL := $(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
SOURCES := src tests benchmarks

.DEFAULT_GOAL := help
.PHONY: help demo test test-long browser check fix docs bench bench-quick sanitize campaign clean

help:   ## these lines
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 12

demo: $(VENV)/.installed  ## three minutes: hello, a character model, the weather tomorrow
	$(VENV)/bin/elman demo

test: check browser  ## the checks and the whole suite, on all cores
	$(RUN) -m pytest --numprocesses auto --dist loadfile

test-long: $(VENV)/.developed browser  ## what takes too long for every change
	$(RUN) -m pytest -m long

browser:  ## Chromium for the tests of pages, where it is missing and may be installed
	@command -v chromium chromium-browser google-chrome >/dev/null || { \
	  admin=$$(test "$$(id -u)" = 0 || echo sudo -n); \
	  $$admin sh -c 'apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium' >/dev/null 2>&1; } \
	  || echo "no Chromium, and none can be installed here: the tests of pages are skipped"

check: $(VENV)/.developed  ## lint, format, types, imports, docs in step
	$(RUN) -m ruff check $(SOURCES)
	$(RUN) -m ruff format --check --quiet $(SOURCES)
	$(RUN) -m mypy
	$(RUN) -m pytest tests/test_architecture.py tests/test_docs.py

fix: $(VENV)/.developed  ## mend what can be mended: lint, format, generated docs
	$(RUN) -m ruff check --fix $(SOURCES)
	$(RUN) -m ruff format --quiet $(SOURCES)
	$(RUN) docs/generate.py

docs: $(VENV)/.developed  ## the documentation as a site: site/index.html, every link checked
	$(RUN) -m sphinx --builder html --fresh-env --fail-on-warning --keep-going --quiet --conf-dir docs/site --doctree-dir build/doctrees . site

bench: $(VENV)/.developed  ## every benchmark, one after the other (about an hour)
	$(RUN) benchmarks/all.py

bench-quick: $(VENV)/.developed  ## the regression guard: under three minutes, names what got slower
	$(RUN) benchmarks/quick.py

sanitize: $(VENV)/.developed  ## the kernels under sanitizers: a few minutes, fails where anything is found
	$(RUN) benchmarks/sanitizing.py

campaign: $(VENV)/.developed  ## runs killed, starved and gone on with: half an hour at most, writes docs/reliability.md
	$(RUN) benchmarks/campaign.py

clean:  ## remove the virtual environment, caches and what was built
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache site build

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "elman needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@touch $@

KERNELS := $(wildcard src/elman/network/kernels/*.cpp src/elman/network/kernels/*.h)

$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt hatch_build.py $(KERNELS)
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.developed: $(VENV)/.installed
	$(INSTALL) --group dev
	@touch $@
