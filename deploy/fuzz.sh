#!/bin/sh
# Runs every fuzz target of the project, one after the other.
# Usage: deploy/fuzz.sh [TIME]   (time a target, default 10s)
set -eu

cd "$(dirname "$0")/.."
time=${1:-10s}
found=0
for dir in $(grep -rlE '^func Fuzz[A-Z]' --include='*_test.go' cmd pkg test | xargs -n1 dirname | sort -u); do
	for target in $(grep -hoE '^func Fuzz[A-Za-z0-9_]+' "$dir"/*_test.go | cut -c6- | sort); do
		found=$((found + 1))
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "./$dir"
	done
done
[ "$found" -gt 0 ] || { echo "fuzz.sh: no fuzz target found" >&2; exit 1; }
echo "fuzz.sh: $found targets, nothing found in $time each"
