# make setup | demo | test | fuzz | soak | lint | format | bench | bench-peers | docs | generate
# make screenshots | wheel | binary | deb | sbom | binary-lock | clean
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
PEERS := $(VENV)/.peers

# The time in what is built, so that the same sources give the same bytes.
export SOURCE_DATE_EPOCH ?= $(or $(shell git log -1 --format=%ct 2>/dev/null),315532800)

# The executable is made of Debian's Python: its headers, library and standard library.
DEBIAN_PYTHON ?= /usr/bin/python3.11
BINARY := dist/asyd-$(shell uname -m)
WHEELS := build/binary/wheels
DEB_REVISION ?= 1

.PHONY: setup demo test fuzz soak lint format bench bench-peers docs generate screenshots clean
.PHONY: wheel wheels binary deb sbom binary-lock

setup: $(STAMP)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "ASys needs Python 3.11 or newer; name one: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "No virtual environment could be made; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(STAMP)
	@$(BIN)/python examples/ooda.py

# What lacks privileges here is left out and named at the end; .ci/run lets nothing be left out.
test: $(STAMP)
	$(BIN)/python -m pytest --numprocesses 4 --dist worksteal --cov --cov-report=
	$(BIN)/python tools/branch_coverage.py

# 10 million inputs over all targets, guided by coverage; logs, inputs and crashes in build/fuzz.
# Shorter, or one target alone: make fuzz FUZZ="--only frames channel --executions 100000".
fuzz: $(STAMP)
	PYTHONPATH=tests:. $(BIN)/python -m fuzz.campaign $(FUZZ)

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)
	$(BIN)/python -m benchmarks $(BENCH)

# Beside what people use today; `make bench-peers BENCH=--write-docs` puts it on their page.
# OpenSSH comes from Debian: apt-get install openssh-client openssh-server procps
bench-peers: $(PEERS)
	$(BIN)/python -m benchmarks.peers $(BENCH)

$(PEERS): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,peers]'
	@touch $@

# 10 minutes of 5,000 sessions; docs/resilience.md says what must hold.
soak: $(STAMP)
	$(BIN)/python -m benchmarks.soak $(SOAK)

# The documentation as a site, in build/site; nothing in it or for it comes from the network.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "The site is in build/site; to look at it with search: $(BIN)/python -m http.server -d build/site"

generate: $(STAMP)
	$(BIN)/python -m asys.isa.export > docs/instructions.md.new
	mv docs/instructions.md.new docs/instructions.md

# What `asys top` draws, kept by the tests; look at the difference before you commit it.
screenshots: $(STAMP)
	ASYS_WRITE_SCREENS=1 $(BIN)/python -m pytest -q tests/tui/test_screens.py

wheel: $(STAMP)
	rm -f dist/asys-*.whl
	umask 022; $(BIN)/python -m hatchling build --target wheel --directory dist >&2

# That wheel, and those of all that asyd and asys need, pinned by hash.
wheels: wheel
	rm -rf $(WHEELS)
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --require-hashes --no-deps \
	  --only-binary :all: --python-version 3.11 --implementation cp \
	  --abi cp311 --abi abi3 --abi none --platform manylinux_2_34_x86_64 \
	  --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 \
	  --requirement packaging/binary/requirements.txt --dest $(WHEELS)
	cp dist/asys-*.whl $(WHEELS)

# One file that runs without Python, see docs/guides/binary.md.
binary: wheels
	PYTHONHASHSEED=0 $(DEBIAN_PYTHON) -P -s packaging/binary/build.py $(WHEELS) $(BINARY)

# A package for Debian 12 with its SBOM beside it, see docs/guides/debian.md. What has been built
# before, of the same version, is followed by: make deb DEB_REVISION=2
deb: wheels
	rm -f dist/asyd_*.deb*
	PYTHONPATH=packaging/binary PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1 $(DEBIAN_PYTHON) -P -s \
	  packaging/debian/package.py $(WHEELS) dist $(DEB_REVISION)
	$(BIN)/python packaging/binary/sbom.py dist/asyd_*.deb

# What is in the wheel and in the executable, as CycloneDX.
sbom: binary
	$(BIN)/python packaging/binary/sbom.py $(BINARY) dist/asys-*.whl

binary-lock: $(STAMP)
	$(BIN)/python packaging/binary/lock.py > packaging/binary/requirements.new
	mv packaging/binary/requirements.new packaging/binary/requirements.txt

clean:
	rm -rf $(VENV) build dist .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache
