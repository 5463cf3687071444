PORT ?= 8080
PYTHON ?= python3
BIN = .venv/bin
EXTRAS = docs,llm,notebooks,postgres,redis,servers,test

.DEFAULT_GOAL = help
.PHONY: help serve test check docs notebooks wheel bench lock

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' Makefile

serve: .venv/serve ## build the site and serve it with every recipe (PORT=8080)
	@$(BIN)/cookbook serve --port $(PORT)

test: .venv/all ## the whole suite: servers, browser, notebooks, benchmarks' small form
	@$(BIN)/python -m tests

check: .venv/all ## the fast part: lint, types, shape, recipes by TestClient (R=csv_export: one recipe)
	@$(BIN)/python -m tests --fast $(if $(R),--recipe $(R))

docs: .venv/all ## write all that is generated: lists, transcripts, notebooks' outputs, the site
	$(BIN)/python -m cookbook.notebook keep
	$(BIN)/python -m cookbook.generated
	$(BIN)/python -m cookbook.transcript
	$(BIN)/python -m cookbook.starter
	$(BIN)/python -m cookbook.pairs
	$(BIN)/python -m tests.kit.compare
	$(BIN)/python -m tests.kit.diagnosis
	$(BIN)/python -m tests.kit.attacks
	$(BIN)/python -m tests.kit.workers
	$(BIN)/python -m tests.kit.failures
	$(BIN)/python -m tests.kit.tokens
	$(BIN)/python -m tests.kit.stalled
	$(BIN)/python -m tests.kit.cancelled
	$(BIN)/python -m tests.kit.local_tokens
	$(BIN)/python -m tests.kit.own_tests
	$(BIN)/python -m tests.kit.layers
	$(BIN)/python -m tests.kit.costs
	$(BIN)/python -m tests.kit.feeds
	$(BIN)/python -m tests.kit.formats
	$(BIN)/python -m tests.kit.parsers
	$(BIN)/python -m tests.kit.watched
	$(BIN)/python -m tests.kit.typed_client
	$(BIN)/mkdocs build --strict

notebooks: .venv/all ## open the notebooks in JupyterLab, as copies of your own
	@$(BIN)/python -m cookbook.notebook open

wheel: .venv/serve ## build a wheel that serves the site without the repository, in dist/
	@$(BIN)/python -c "from cookbook import site; site.is_stale() and site.build()"
	@$(BIN)/uv build --wheel --build-constraints requirements.lock -o dist

bench: .venv/all ## measure, and write the tables and charts that the pages show
	$(BIN)/python -m benchmarks

lock: .venv/all ## renew requirements.lock: every version, with hashes, for every platform
	$(BIN)/uv pip compile --quiet --upgrade --universal --generate-hashes --all-extras \
		--group build --no-emit-index-url --no-header pyproject.toml -o requirements.lock

# uv installs what the lock names, and checks every hash; pip only installs uv.
.venv/uv: requirements.lock
	@echo "Creating .venv"
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv .venv
	@awk '/^[^ ]/ {uv = /^uv==/} uv' requirements.lock > .venv/uv.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r .venv/uv.txt
	@touch $@

.venv/serve: .venv/uv pyproject.toml
	@echo "Installing the locked versions"
	@$(BIN)/uv pip install -e '.[docs,llm,postgres,redis]' -c requirements.lock -b requirements.lock
	@touch $@

.venv/all: .venv/uv pyproject.toml
	@echo "Installing the locked versions, with all that the tests need"
	@$(BIN)/uv pip install -e '.[$(EXTRAS)]' -c requirements.lock -b requirements.lock
	@touch $@ .venv/serve
