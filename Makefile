# The commands of this project: `make help` lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SOURCES := junebug_turn tools tests twisted

# Nothing of the caller's environment decides which packages are used.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help setup run test compat lint format lock clean broker redis proxy promtool sqlite browser pictures audit hostile large bench bench-quick bench-cache faults docs diagrams release-check
.DEFAULT_GOAL := help

help: ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## /\1 - /p' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv, with the packages of requirements.lock

run: $(READY) ## start the daemon with a broker, simulated phones and a receiver; Ctrl-C stops them
	@exec $(BIN)/python -m tools.demo.run

# The tests mostly wait: three at a time fill two cores.  A file's tests share what they start.
test: lint broker redis proxy promtool sqlite browser ## set up, check the code and run every test
	$(BIN)/python -m pytest -n 3 --dist loadfile
	@$(MAKE) --no-print-directory bench-quick

compat: $(READY) ## the integration and fault tests on RabbitMQ 4 and Redis 8 of Debian 13, which root can install into var; certificates on the oldest Twisted
	@$(BIN)/python -m tools.compat

hostile: broker ## the hostile suite with 100,000 generated bodies, requests of the OpenAPI document, and attacks of real size
	$(PYTHON) -m venv build/hostile
	build/hostile/bin/pip install -q 'schemathesis == 4.32.5'
	HOSTILE_BODIES=100000 SCHEMATHESIS=$(CURDIR)/build/hostile/bin/schemathesis $(BIN)/python -m pytest -o faulthandler_timeout=1200 tests/integration/test_hostile*.py tests/integration/test_broker_costs.py

large: broker redis ## the tests of several processes with 5,000 messages, and of 500 channels; some minutes
	LARGE=1 $(BIN)/python -m pytest tests/integration/test_stores.py tests/integration/test_channel_stores.py \
		tests/integration/test_many_channels.py tests/integration/test_operators_api.py

faults: broker ## play every fault around the daemon under a load, and count lost messages
	@$(BIN)/python -m tools.faults

bench-cache: redis ## measure the caches, some minutes
	@$(BIN)/python -m tools.bench.cache

audit: $(READY) ## known faults in our dependencies, and dangerous patterns in our code
	$(PYTHON) -m venv build/audit
	build/audit/bin/pip install -q 'pip-audit == 2.10.1' 'bandit == 1.9.4'
	$(BIN)/python -m tests.project.audit build/audit/bin

# Two environments of their own, in build/: one that builds, and an empty one for the wheel.
release-check: $(READY) ## build the release of the last commit, install it as a user does, and name each fault
	$(PYTHON) -m venv build/release-tools
	build/release-tools/bin/pip install -q 'build == 1.6.1' 'twine == 7.0.0'
	@$(BIN)/python -m tools.release $(CURDIR)/build/release-tools/bin/python

docs: $(READY) ## write the generated files: tables, contents lists, the example file, the manual page
	@$(BIN)/python -m tools.reference

pictures: broker browser ## take the pictures of the operators' page in docs/pictures
	PICTURES=docs/pictures $(BIN)/python -m pytest -q tests/integration/test_operators_browser.py

diagrams: browser ## draw the diagrams of the documentation with Mermaid in Chromium; needs npm
	rm -rf build/mermaid && mkdir -p build/mermaid
	cd build/mermaid && npm pack --silent 'mermaid@11.17.2' && tar xzf *.tgz
	MERMAID=build/mermaid/package/dist/mermaid.min.js $(BIN)/python -m pytest -q tests/project/test_diagrams.py

lint: $(READY) ## ruff and mypy
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

format: $(READY) ## format the code
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

# No file names the index that the hashes are from.
HASHES := build/lock/bin/pip-compile -q --generate-hashes --allow-unsafe --strip-extras --no-annotate --no-header \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options

lock: ## take the newest versions that setup.cfg allows, with their hashes, into requirements.lock
	rm -rf build/lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/pip install -q --upgrade pip setuptools
	build/lock/bin/pip install -q -e '.[dev]'
	build/lock/bin/pip freeze --all --exclude-editable --exclude pip > build/requirements.in
	grep '^setuptools==' build/requirements.in > build/backend.in
	build/lock/bin/pip install -q 'pip-tools == 7.6.2'
	$(HASHES) -o build/requirements.lock build/requirements.in
	$(HASHES) -o build/requirements-run.lock -c build/requirements.in pyproject.toml build/backend.in
	@# The comment of each file stays, and none of the tool's.
	for lock in requirements.lock requirements-run.lock; do \
		{ sed -n '/^#/p' $$lock; grep -v -e '^#' -e '^$$' build/$$lock; } > build/new.lock && mv build/new.lock $$lock; \
	done
	rm -rf build/lock build/requirements*.lock build/*.in

bench: $(READY) ## measure the daemon beside its libraries, some minutes: docs/performance.md
	@$(BIN)/python -m tools.bench

bench-quick: $(READY) ## the same in less than a minute, with rougher figures
	@$(BIN)/python -m tools.bench --quick --json var/bench-quick.json

clean: ## remove everything that the commands made
	rm -rf $(VENV) build dist var *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -f twisted/plugins/dropin.cache
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

# The tests start private servers: RabbitMQ and Redis must be installed, nothing of them need run.
broker: $(READY)
	@$(BIN)/python -m tools.servers.installed rabbitmq-server

redis: $(READY)
	@$(BIN)/python -m tools.servers.installed redis-server

proxy: $(READY)
	@$(BIN)/python -m tools.servers.installed tinyproxy

# Chromium and its driver, for the tests of the operators' page.
browser: $(READY)
	@$(BIN)/python -m tools.servers.installed chromedriver

# promtool is in the package of the server, and the tests need nothing else of it.
promtool: $(READY)
	@$(BIN)/python -m tools.servers.installed prometheus

sqlite: $(READY)
	@$(BIN)/python -m tools.servers.installed sqlite3

$(READY): requirements.lock setup.cfg pyproject.toml
	@command -v $(PYTHON) >/dev/null || tools/servers/install-system.sh python3 python3-venv
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than Python 3.11: name a newer one, as in 'make PYTHON=python3.12 test'" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || tools/servers/install-system.sh python3-venv
	@# A set-up that broke off, or whose Python is gone, is made anew.
	@$(BIN)/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install -q --require-hashes -r requirements.lock
	$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	@touch $@
