#!/usr/bin/env bash
# Installs what a fresh Debian 12 or Ubuntu lacks, and says so. usage: infra/setup.sh run|test
#   run   a C and C++ compiler and make, for librdkafka and zstd, which are built from source;
#         OpenSSL's headers and pkg-config, for TLS to brokers and object stores, and libcurl's,
#         for tokens of OAUTHBEARER
#   test  also Java 17 and Maven, for a real Apache Kafka; kcat; iproute2, for hosts with networks of their own; and a Python environment in
#         target/python with pyarrow, confluent-kafka, duckdb, polars, pandas and datasets, for the
#         readers that are not ours, transformers (without torch), for exported models, moto, for an S3 server,
#         math-verify, another judge of answers, and check-jsonschema, kubernetes-validate, promql-parser
#         and hadolint, for the files of infra/deploy
# Nothing is touched that is there already.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:?run or test}

say() { printf 'setup: %s\n' "$*" >&2; }

missing=()
need() { command -v "$1" >/dev/null 2>&1 || missing+=("$2"); }
need gcc gcc
need g++ g++
need make make
need pkg-config pkg-config
# By the file that is needed, and not by a program: `openssl` is there without its headers.
pkg-config --exists openssl 2>/dev/null || missing+=(libssl-dev)
pkg-config --exists libcurl 2>/dev/null || missing+=(libcurl4-openssl-dev)
if [ "$what" = test ]; then
  need java openjdk-17-jre-headless
  need mvn maven
  need kcat kcat
  # Hosts with networks of their own: ip and tc, unshare and nsenter.
  need ip iproute2
  need tc iproute2
  need nsenter util-linux
  need python3 python3
  python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
fi
if [ ${#missing[@]} -gt 0 ]; then
  say "installing with apt-get: ${missing[*]}"
  root=()
  [ "$(id -u)" = 0 ] || root=(sudo)
  "${root[@]}" apt-get update -qq
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >&2
fi
command -v cargo >/dev/null || { say "cargo is missing: install Rust with rustup, then run this again"; exit 1; }

if [ "$what" = test ]; then
  requirements=tests/python/requirements.txt
  stamp=target/python/.installed
  if ! cmp -s "$requirements" "$stamp"; then
    say "installing into target/python with pip: $(tr '\n' ' ' < "$requirements")"
    rm -rf target/python
    mkdir -p target
    python3 -m venv target/python
    target/python/bin/pip install --quiet --disable-pip-version-check -r "$requirements"
    cp "$requirements" "$stamp"
  fi
fi
