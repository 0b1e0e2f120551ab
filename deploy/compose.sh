#!/bin/sh
# Runs Compose: the plug-in (v2) when it answers, else docker-compose (1.29.2 is enough).
# Usage: deploy/compose.sh up -d, and so on; arguments are handed on as they are.
set -eu

cd "$(dirname "$0")/.."
if docker compose version >/dev/null 2>&1; then
	exec docker compose "$@"
fi
if command -v docker-compose >/dev/null 2>&1; then
	exec docker-compose "$@"
fi
echo "compose.sh: neither 'docker compose' nor 'docker-compose' answers; install one of them" >&2
echo "            (Debian, Ubuntu: apt-get install docker-compose)" >&2
exit 1
