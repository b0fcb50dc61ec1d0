# make run   everything on a fresh machine: environment, notebooks, PDFs, the table of results
# make test  the same environment, the whole test suite
# make pdf   the executed notebooks as PDFs, in build/
# make table   the measured results, as text tables
# make report   report/report.pdf, from report/report.md and the results in report/results/
# make fetch   the image sets; `python -m helpers fetch --help` names more
# make clean   deletes build/ and the environments
# make submission NAME="First Family" ID=123   the archive to hand in, build/FirstFamily-123.zip
# Options: PYTHON=python3.12 (the one to build on), PROFILE=smoke|quick|full (default auto), NOTEBOOKS="01_...ipynb"

PYTHON ?= python3
PROFILE ?= $(or $(BSS_PROFILE),auto)
NOTEBOOKS ?=
ENVIRONMENT = .venv
CONSTRAINTS = constraints.txt
STAMP = $(ENVIRONMENT)/.installed
IN = $(ENVIRONMENT)/bin/python
PARALLEL = -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: help run test test-colab test-helpers pdf report table fetch submission clean
help:
	@sed -n 's/^# \(make \|Options\)/\1/p' Makefile

run: $(STAMP)
	$(IN) -m report run --profile "$(PROFILE)" $(NOTEBOOKS)

test: $(STAMP)
	$(IN) -m ruff check --quiet .
	$(IN) -m pytest $(PARALLEL)

# The package's tests on the older versions that Google Colab has, in an environment of their own. What executes
# notebooks and makes PDFs runs on our own machines.
test-colab:
	@$(MAKE) --no-print-directory test-helpers ENVIRONMENT=.venv-colab CONSTRAINTS=constraints-colab.txt

test-helpers: $(STAMP)
	$(IN) -m pytest $(PARALLEL) $(addprefix --ignore=tests/test_,$(addsuffix .py,notebooks report paper colab makefile))

pdf: $(STAMP)
	$(IN) -m report pdf $(or $(NOTEBOOKS),$(wildcard 0*.ipynb))

report: $(STAMP)
	$(IN) -m report report

table: $(STAMP)
	$(IN) -m report table

fetch: $(STAMP)
	$(IN) -m helpers fetch

submission: $(STAMP)
	$(IN) -m report submission --name "$(NAME)" --id "$(ID)" $(if $(LIMIT_MB),--limit-mb "$(LIMIT_MB)")

clean:
	rm -rf build .venv .venv-colab .pytest_cache .ruff_cache

# The stamp is written last: without it an environment is half-finished and is made anew, with an older one than the
# files below it is brought up to date. A stamp removed first makes an interrupted update count as half-finished, too.
$(STAMP): requirements.txt requirements-dev.txt $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed, and $(PYTHON) is: $$($(PYTHON) --version 2>&1). Install one, then name it:" \
	    "make PYTHON=python3.12 ..." >&2; exit 1; }
	@test -e $@ && $(IN) -c '' || $(PYTHON) -m venv --clear $(ENVIRONMENT)
	@rm -f $@
	@echo "Installing into $(ENVIRONMENT), a few gigabytes: some minutes the first time."
	$(IN) -m pip install --quiet --upgrade "pip>=24"
	$(IN) -m pip install --quiet -r requirements-dev.txt -c $(CONSTRAINTS)
	@touch $@
