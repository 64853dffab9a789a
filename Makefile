# Two commands are enough: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# The tests start thousands of processes, each of which would compile all of its modules again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-long test-guest test-qemu test-browser test-slow test-all bench iscsi-conformance virtio-spec fuzz mutation lint format docs clean

# The environment holds what the commands need; the tests' and the linters' packages come when they are first wanted.
$(VENV)/.base: pyproject.toml tools/bootstrap.py
	$(PYTHON) tools/bootstrap.py $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.test: $(VENV)/.base
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,unicorn]'
	touch $@

$(VENV)/.fuzz: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,unicorn,fuzz]'
	touch $@

$(VENV)/.mutation: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,unicorn,mutation]'
	touch $@

$(VENV)/.lint: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,unicorn,lint]'
	touch $@

# All of the tests' and the linters' at once.
$(VENV)/.all: $(VENV)/.base
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,unicorn,lint,mutation]'
	touch $(VENV)/.test $(VENV)/.lint $(VENV)/.mutation $@

demo: $(VENV)/.base
	$(BIN)/guestsim demo

test: $(VENV)/.test
	$(BIN)/python -m pytest -n auto

# What takes longest of the tests that need nothing else.
test-long: $(VENV)/.test
	$(BIN)/python -m pytest -n auto -m 'long and not slow'

# A stock Linux kernel in a real QEMU works on our devices (needs Debian's packages: see .ci/run).
test-guest: $(VENV)/.test
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m guest tests/guest

# A live QEMU and its tools as the reference.
test-qemu: $(VENV)/.test
	$(BIN)/python -m pytest -n auto --dist worksteal -m qemu

# Pages in headless Chromium (Debian's package).
test-browser: $(VENV)/.test
	$(BIN)/python -m pytest -m browser tests/browser

# Long property runs.
test-slow: $(VENV)/.test
	HYPOTHESIS_PROFILE=slow $(BIN)/python -m pytest -n auto --dist worksteal -m slow

test-all: test test-long test-qemu test-browser test-slow test-guest

bench: $(VENV)/.test
	$(BIN)/python -m benchmarks.run
	$(BIN)/python -m benchmarks.in_guest

# libiscsi's conformance suite on our iSCSI export and on tgtd; writes docs/iscsi-conformance.md.
iscsi-conformance: $(VENV)/.test
	$(BIN)/python -m tools.iscsi_conformance

# Whether VIRTIO's statements are still those of a checkout of oasis-tcs/virtio-spec: make virtio-spec SPEC=FOLDER.
virtio-spec: $(VENV)/.test
	$(BIN)/python -m tools.conformance extract $(SPEC)

# The pages that are written from tables.
docs: $(VENV)/.test
	$(BIN)/python -m tools.conformance
	$(BIN)/python -m tools.reference
	$(BIN)/python tools/ata_registers.py
	$(BIN)/python tools/scsi_table.py
	$(BIN)/python tools/ata_table.py

# SECONDS of fuzzing over all targets; FUZZ="--target ahci-disk --seed 1" and other options: docs/fuzzing.md.
SECONDS ?= 60
fuzz: $(VENV)/.fuzz
	$(BIN)/python -m fuzz --seconds $(SECONDS) $(FUZZ)

# SAMPLE mutants of the rings and the register code against their tests; MUTATION=--write records it in docs/mutation.md.
SAMPLE ?= 50
SEED ?= 1
mutation: $(VENV)/.mutation
	$(BIN)/python -m tools.mutation --sample $(SAMPLE) --seed $(SEED) $(MUTATION)

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .cache build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
