# `make demo` and `make test` need python3 >= 3.11 with venv, and nothing else.
PYTHON ?= python3
BIN := .venv/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check
LOCKED = $(PIP) --require-hashes --no-compile --only-binary :all:
FROM_SOURCE := nkeys # all that has no wheel; what builds it is locked, and installed before
HALF = $(LOCKED) --no-binary $(FROM_SOURCE) --no-build-isolation --no-deps -r
STAMP := .venv/.installed
SELDOM_RUN := '/(mypy|mypyc|pip|selenium|setuptools|pygments/lexers|_?tests)/' # two fifths of what there is to compile
unexport PYTHONDONTWRITEBYTECODE # the tests start hundreds of processes, and each would compile everything anew

.PHONY: setup demo test test-units check bench bench-scale picture asyncapi fuzz fuzz-bus faults faults-bugs mutants sbom audit-dependencies lock clean

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml client/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Heirloom needs Python 3.11 or newer; found " + sys.version.split()[0] + ". Set PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv
	sed -nE '/^(pip|setuptools|wheel|packaging)==/,/[^\]$$/p' requirements.lock > .venv/tools.lock
	$(LOCKED) -r .venv/tools.lock # the pip that Python brings takes half as long again
	awk '/^[a-z]/ {n++} {print > ".venv/half-" n % 2 ".lock"}' requirements.lock
	$(HALF) .venv/half-0.lock & $(HALF) .venv/half-1.lock && wait $$! # pip uses one core
	$(BIN)/python -m pip check # a half cannot know whether the lock file is complete
	$(BIN)/python -m compileall -qq -j 0 -x $(SELDOM_RUN) .venv # on all cores, where pip would use one
	PYTHONWARNINGS=ignore $(PIP) --no-deps --no-build-isolation -e . -e ./client
	@touch $@

demo: setup
	@$(BIN)/heirloom demo

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=client $(BIN)/lint-imports

test: check
	$(BIN)/pytest -n 4 --dist worksteal

test-units: setup # what starts no service: some thousand tests of each room by itself
	$(BIN)/pytest -n 4 --dist worksteal tests/events tests/service tests/projections tests/notary

bench: setup
	$(BIN)/python -m bench

bench-scale: setup # a log of a million commits; some minutes
	$(BIN)/python -m bench scale

picture: setup # the console's, for the README; needs Chromium
	$(BIN)/python -m tests.console.picture docs/pictures/console.png

asyncapi: setup # the document of every subject, after a change of an endpoint
	$(BIN)/python -m heirloom.asyncapi

fuzz: setup # a million arbitrary inputs to the parsers, a tenth of that to the endpoints; N=… and SEED=…
	$(BIN)/python -m tests.fuzz $(or $(N),1000000) $(SEED)

fuzz-bus: setup # a million arbitrary PUB and HPUB lines to a running service; N=… and SEED=…
	$(BIN)/python -m tests.fuzz bus $(or $(N),1000000) $(SEED)

faults: setup # a cluster of three under every fault there is; SECONDS=1200 and SEED=…
	$(BIN)/python -m tests.faults --seconds $(or $(SECONDS),1200) $(if $(SEED),--seed $(SEED))

faults-bugs: setup # every seeded bug must be caught
	$(BIN)/python -m tests.faults --bugs $(if $(SEED),--seed $(SEED))

mutants: setup # faults put into the code one at a time, each to be noticed by the module's own tests; goes on where it stopped; MODULES="decide notary/merkle_tree.py"
	@$(BIN)/python -m tests.mutants $(MODULES)

sbom: setup # CycloneDX: what the lock file pins, its licences and dependencies, and the broker's Go modules
	$(BIN)/python .ci/sbom.py build/sbom.cdx.json

audit-dependencies: setup # fails with 1 on a known vulnerability, with 2 when the advisory database says nothing
	$(BIN)/python .ci/audit_dependencies.py

lock: # needs uv; writes hashed pins for every platform
	uv pip compile --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --extra dev --output-file requirements.lock pyproject.toml

clean:
	rm -rf .venv build *.egg-info
