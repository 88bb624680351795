#!/usr/bin/env bash
# Packs a built program for people without Rust. usage: infra/deploy/dist.sh PROGRAM FOLDER
# Writes FOLDER/vintage-VERSION-x86_64-linux.tar.gz and its .sha256. The archive needs the C library of the system
# that the program was built on or a newer one, and Debian's libcurl4, libssl3 and zlib1g or their like.
set -euo pipefail
cd "$(dirname "$0")/../.."
program=${1:?program} folder=${2:?folder}

version=$("$program" --version | cut -d ' ' -f 2)
name="vintage-$version-$(uname -m)-linux"
staged=$(mktemp -d)
trap 'rm -rf "$staged"' EXIT
mkdir -p "$folder" "$staged/$name/completions"
install -m 0755 "$program" "$staged/$name/vintage"
strip --strip-debug "$staged/$name/vintage"
install -m 0644 LICENSE README.md CHANGELOG.md "$staged/$name"
for shell in bash zsh fish; do
  "$program" completions "$shell" > "$staged/$name/completions/vintage.$shell"
done
# Equal bytes for an equal program: no owner, no time, one order.
tar --create --directory "$staged" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 "$name" \
  | gzip --no-name > "$folder/$name.tar.gz"
(cd "$folder" && sha256sum "$name.tar.gz" > "$name.tar.gz.sha256")
echo "$folder/$name.tar.gz"
