# make demo     runs the main job: plans enforced on traffic, with a report
# make test     passes every test: Rust, Python, Node
# make test-shuttle  models concurrent code: thousands of thread schedules each
# make test-planted  plants bugs in the library, one after the other: the simulator must find each
# make simulate  SIM_SEEDS runs of SIM_OPS operations each: several engines, faults, clocks that step
# make bench    measures beside the raw statement and beside governor, moka and quick_cache: prints ratios
# make bench-python  measures the wheel beside limits, pyrate-limiter and cachetools: prints ratios
# make bench-node  measures the addon beside rate-limiter-flexible, express-rate-limit and lru-cache: prints ratios
# make lint     format, lints, docs
# make fuzz     runs every fuzz target for FUZZ_SECONDS seconds each (needs a nightly toolchain)

SHELL := /bin/bash
export CARGO_TARGET_DIR ?= $(CURDIR)/target
TARGET := $(CARGO_TARGET_DIR)
VENV := $(TARGET)/venv
DEMO := $(TARGET)/demo
FUZZ_SECONDS := 30
PYTEST := -p no:cacheprovider -o asyncio_default_fixture_loop_scope=function
SIM_SEEDS := 2000
SIM_OPS := 5000

.PHONY: demo test test-rust test-shuttle test-planted test-python test-node simulate bench bench-python bench-node lint fuzz rust postgres pooler redis python node

demo: rust
	cargo build --release --locked --package replay
	mkdir -p $(DEMO)
	$(TARGET)/release/make-traffic > $(DEMO)/traffic.csv
	$(TARGET)/release/replay --plans examples/plans/tender-search.toml --subject user --plan plan \
	    --cost searches=1 --cost exports=exports --report $(DEMO)/report.html $(DEMO)/traffic.csv
	@echo
	@echo "Three weeks of made-up traffic of a search engine with four plans, decided one by one on SQLite."
	@echo "Look at: which plan denies most, who hit a limit first, and which plan would have helped."
	@echo "Then open $(DEMO)/report.html in a browser, or replay traffic of your own: $(TARGET)/release/replay --help"

test: test-rust test-shuttle test-python test-node

test-rust: rust postgres pooler redis
	cargo test --workspace --all-features --locked

test-shuttle: rust
	RUSTFLAGS="--cfg shuttle" cargo test --package quotum --lib --no-default-features --locked \
	    --target-dir $(TARGET)/shuttle models
	RUSTFLAGS="--cfg shuttle" cargo test --package quotum --test rate_schedules --no-default-features --locked \
	    --target-dir $(TARGET)/shuttle

# Optimised a little: a thousand runs of a bug that is hard to find take a minute otherwise.
test-planted: rust
	RUSTFLAGS="--cfg planted" CARGO_PROFILE_TEST_OPT_LEVEL=1 cargo test --package quotum --test simulator \
	    --no-default-features --features conformance --locked --target-dir $(TARGET)/planted -- \
	    --nocapture every_planted_bug_is_found

simulate: rust
	QUOTUM_SIM_SEEDS=$(SIM_SEEDS) QUOTUM_SIM_OPS=$(SIM_OPS) cargo test --release --package quotum --test simulator \
	    --no-default-features --features conformance --locked -- --nocapture

test-python: rust python postgres redis
	test -x $(VENV)/bin/python || python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --force-reinstall ./bindings-python
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r bindings-python/tests/requirements.txt
	cd $(VENV) && bin/python -m pytest $(PYTEST) $(CURDIR)/bindings-python/tests
	cd $(VENV) && bin/python -m pytest $(PYTEST) $(CURDIR)/examples/tender-search
	cd $(VENV) && bin/python -m pytest $(PYTEST) $(CURDIR)/examples/chat

# Against the packed package, as it is installed.
test-node: rust node python postgres redis
	cd bindings-node && npm ci --no-audit --no-fund && npm run --silent build && npm test --silent
	cd examples/job-platform-express && npm ci --no-audit --no-fund && npm test --silent
	cd examples/chat-fastify && npm ci --no-audit --no-fund && npm test --silent

bench: rust postgres redis
	cargo bench --locked --package quotum-benches
	cargo run --quiet --release --locked --package quotum-benches --bin ratios
	cargo run --quiet --release --locked --package quotum-benches --bin rates
	cargo run --quiet --release --locked --package quotum-benches --bin decisions
	cargo run --quiet --release --locked --package quotum-benches --features postgres --bin postgres
	cargo run --quiet --release --locked --package quotum-benches --features redis --bin redis
	cargo run --quiet --release --locked --package quotum-benches --features postgres,redis --bin leases

bench-python: rust python redis
	test -x $(VENV)/bin/python || python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --force-reinstall ./bindings-python
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r benches/python/requirements.txt
	$(VENV)/bin/python benches/python/run.py

bench-node: rust node redis
	cd bindings-node && npm ci --no-audit --no-fund && npm run --silent build
	cd benches/node && npm ci --no-audit --no-fund && node run.mjs

lint: rust
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features --locked -- -D warnings
	cargo clippy --package quotum --no-default-features --all-targets --locked -- -D warnings
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	cargo clippy --manifest-path fuzz/Cargo.toml --target-dir $(TARGET)/fuzz --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --all-features --no-deps --locked

fuzz: rust
	@cargo +nightly --version >/dev/null || { echo "a nightly toolchain is missing: rustup toolchain install nightly"; exit 1; }
	@command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
	for target in $$(cd fuzz && cargo +nightly fuzz list); do \
	    (cd fuzz && cargo +nightly fuzz run $$target -- -max_total_time=$(FUZZ_SECONDS)) || exit 1; done

rust:
	@command -v cargo >/dev/null || { echo "cargo is missing: install Rust 1.89 or newer with rustup"; exit 1; }
	@cargo --version | awk '{ split($$2, v, "."); exit !(v[1] > 1 || v[2] >= 89) }' || { echo "Rust 1.89 or newer is needed, this is $$(cargo --version): rustup update"; exit 1; }
	@command -v cc >/dev/null && command -v c++ >/dev/null || { echo "a C or C++ compiler is missing: apt-get install build-essential"; exit 1; }

# Tests start a server of their own: only its programs are needed.
postgres:
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || \
	    { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
	      apt-get update -qq && apt-get install -y -qq --no-install-recommends postgresql >/dev/null; } || \
	    { echo "a PostgreSQL server is missing: apt-get install postgresql"; exit 1; }

pooler:
	@test -x /usr/sbin/pgbouncer || command -v pgbouncer >/dev/null || \
	    { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
	      apt-get update -qq && apt-get install -y -qq --no-install-recommends pgbouncer >/dev/null; } || \
	    { echo "PgBouncer is missing: apt-get install pgbouncer"; exit 1; }

redis:
	@{ command -v redis-server && command -v redis-cli && command -v openssl; } >/dev/null || \
	    { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
	      apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server openssl >/dev/null; } || \
	    { echo "a Redis server or openssl is missing: apt-get install redis-server openssl"; exit 1; }

python:
	@command -v python3 >/dev/null || { echo "python3 is missing: apt-get install python3 python3-venv"; exit 1; }
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "Python 3.10 or newer is needed"; exit 1; }
	@python3 -c 'import venv, ensurepip' 2>/dev/null || { echo "venv is missing: apt-get install python3-venv"; exit 1; }

node:
	@command -v node >/dev/null || { echo "node is missing: install Node 20 or newer"; exit 1; }
	@node -e 'process.exit(+(parseInt(process.versions.node) < 20))' || { echo "Node 20 or newer is needed"; exit 1; }
