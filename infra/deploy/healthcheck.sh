#!/usr/bin/env bash
# Asks a role for its health. usage: healthcheck.sh [PATH [PORT]], for example healthcheck.sh /readyz
# The image has no HTTP client, so that bash asks by itself. Exit code 0 if the answer is 200.
set -euo pipefail
path=${1:-/healthz}
port=${2:-9400}
exec 3<>"/dev/tcp/127.0.0.1/$port"
printf 'GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n' "$path" >&3
answer=$(cat <&3)
status=${answer%%$'\r'*}
body=${answer#*$'\r\n\r\n'}
[[ $body != "$answer" ]] || body=
printf '%s: %s\n' "$status" "${body:0:200}"
[[ $status == "HTTP/1.1 200 "* ]]
