# make run    builds, then trains the built-in task through an embedded broker: the main job
# make test   everything a contributor must pass, a real Apache Kafka included
# Both install what a fresh Debian 12 or Ubuntu lacks, and say so: infra/setup.sh.

.PHONY: run test lint build
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

test:
	@infra/setup.sh test
	cargo fmt --all --check
	cargo build --release --workspace --all-targets --locked
	cargo test --release --workspace --locked
	cargo clippy --release --workspace --all-targets --locked -- -D warnings
