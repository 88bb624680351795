# make run    builds, then trains the built-in task through an embedded broker
# make test   everything a contributor must pass, a real Apache Kafka included
# make check-transformers  exported models, loaded by transformers; TORCH_PYTHON has torch and transformers
# make check-peft  adapters of a short run, loaded by peft; PEFT_PYTHON has torch, transformers and peft
# make check-vllm  a short run with a real vLLM server on this machine's CPU, killed once; installs 6 GB into target/python-vllm
# make check-sglang  the same with SGLang; 10 GB into target/python-sglang
# make chaos  kills roles and brokers until 200 kills are survived at every point: some ten minutes
# make fuzz   every fuzz target for a minute (FUZZ_SECONDS=n), from the kept corpus; needs cargo-fuzz
# make wheel  the Python package, into target/wheels
# make dist   the program for people without Rust, as an archive in target/dist
# make check-python  the Python package with PyTorch: rules, training, kills; TORCH_PYTHON has torch, torchdata and pyarrow
# make check-adapters  TRL, verl and Hugging Face's Trainer over a run, on a CPU; installs 6 GB into target/python-adapters
# make bench-stores  the same rollouts through the log, TransferQueue and a queue of Ray: speed, and what kills leave
# All but check-python install what a fresh Debian 12 or Ubuntu lacks, and say so: infra/setup.sh.

.PHONY: run test faulty chaos lint build fuzz wheel dist check-transformers check-peft check-vllm check-sglang check-python \
  check-adapters bench-stores
.DEFAULT_GOAL := build

# One job may take long to print its first line on two cores; cargo shows its own progress.
build:
	@infra/setup.sh run
	cargo build --release --locked --bin vintage

# ARGS="--seed 1 --steps 100" is passed on.
run: build
	target/release/vintage run $(ARGS)

lint:
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets --locked -- -D warnings

# The program with the points at which the tests kill it.
faulty:
	cargo build --release --workspace --bin vintage-faulty --features vintage-cli/faults --locked

test:
	@infra/setup.sh test
	cargo fmt --all --check
	cargo build --release --workspace --all-targets --locked
	@$(MAKE) --no-print-directory faulty wheel
	cargo test --release --workspace --locked
	cargo clippy --release --workspace --all-targets --locked -- -D warnings

# The test of exported models again, with a Python that has torch: 5.6 GB, too much for `make test`,
# where transformers reads everything but the model itself.
TORCH_PYTHON ?= python3
check-transformers: build
	TORCH_PYTHON=$(TORCH_PYTHON) cargo test --release -p vintage-tests --locked --test it -- every_family

# ARGS="--kills 500 --seed 1 --points store.,learner." is passed on.
chaos:
	@infra/setup.sh test
	@$(MAKE) --no-print-directory faulty
	cargo build --release --workspace --bins --locked
	target/release/chaos $(ARGS)

# The crates are those of a build of the workspace: infra/python/Cargo.toml.
WHEEL_VENV ?= target/python-wheel
wheel:
	@infra/setup.sh run
	@infra/python/setup.sh $(WHEEL_VENV)
	rm -rf target/wheels
	$(WHEEL_VENV)/bin/maturin build --quiet --release --locked --compatibility linux \
	  --manifest-path infra/python/Cargo.toml --interpreter $(WHEEL_VENV)/bin/python --out target/wheels

dist: build
	infra/deploy/dist.sh target/release/vintage target/dist

# The wheel is unpacked, not installed: TORCH_PYTHON stays as it is.
check-python: build wheel
	rm -rf target/wheel
	$(WHEEL_VENV)/bin/python -m zipfile -e target/wheels/vintage-*.whl target/wheel
	PYTHONPATH=target/wheel:infra/python/tests $(TORCH_PYTHON) -m unittest discover -v -s infra/python/tests
	PYTHONPATH=target/wheel:infra/python/tests $(TORCH_PYTHON) -m unittest discover -v -s infra/python/tests/torch_tests

# ADAPTERS_VENV=DIR takes an installation that is there already.
ADAPTERS_VENV ?= target/python-adapters
# Ray listens on every interface: in a network of its own there is loopback alone.
ALONE = RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=disabled \
  unshare --map-root-user --net sh -c 'ip link set lo up && exec "$$@"' alone
check-adapters: build wheel
	@infra/python/adapters.sh $(ADAPTERS_VENV)
	rm -rf target/wheel
	$(WHEEL_VENV)/bin/python -m zipfile -e target/wheels/vintage-*.whl target/wheel
	PYTHONPATH=target/wheel:infra/python/tests $(ALONE) $(ADAPTERS_VENV)/bin/python -W ignore -m unittest discover -v \
	  -s infra/python/tests/adapter_tests

# ARGS="--groups 64 --rounds 6" is passed on. A Kafka broker is started and ended: make test has installed what it needs.
bench-stores: build wheel
	@infra/python/adapters.sh $(ADAPTERS_VENV)
	rm -rf target/wheel
	$(WHEEL_VENV)/bin/python -m zipfile -e target/wheels/vintage-*.whl target/wheel
	PYTHONPATH=target/wheel $(ALONE) $(ADAPTERS_VENV)/bin/python -W ignore infra/python/bench/stores.py $(ARGS)

PEFT_PYTHON ?= python3
check-peft: build
	rm -rf target/peft-run
	target/release/vintage run --quiet --out target/peft-run --steps 5 --set warm_start.steps=1000 \
	  --set learner.lora.rank=4 --set learner.optimizer.lr=0.003
	$(PEFT_PYTHON) tests/python/adapter.py target/peft-run

# VLLM_VENV=DIR takes an installation that is there already.
VLLM_VENV ?= target/python-vllm
check-vllm: build
	@infra/vllm.sh $(VLLM_VENV)
	$(VLLM_VENV)/bin/python tests/python/servers.py vllm target/release/vintage $(VLLM_VENV) target/vllm-run

SGLANG_VENV ?= target/python-sglang
check-sglang: build
	@infra/sglang.sh $(SGLANG_VENV)
	$(SGLANG_VENV)/bin/python tests/python/servers.py sglang target/release/vintage $(SGLANG_VENV) target/sglang-run

FUZZ_SECONDS ?= 60
FUZZ = cargo fuzz run --fuzz-dir tests/fuzz -s none

# Inputs that break a promise are written to tests/fuzz/artifacts; new inputs of interest go to target/fuzz-corpus.
fuzz:
	@for target in answer config footer headers message; do \
	  mkdir -p target/fuzz-corpus/$$target; \
	  $(FUZZ) $$target target/fuzz-corpus/$$target tests/fuzz/corpus/$$target -- \
	    -max_total_time=$(FUZZ_SECONDS) -max_len=16384 -rss_limit_mb=1024 -timeout=10 || exit 1; \
	done
