#!/bin/sh
# Waits until every container of the Compose project is healthy; `up --wait` for a Compose that has none.
# Usage: deploy/wait-healthy.sh [SECONDS]   (default 60)
# Exit 1, with the end of the log of each container that is not healthy, when time is up or one ended.
set -eu

cd "$(dirname "$0")/.."
limit=${1:-60}
deadline=$(($(date +%s) + limit))

# Compose is asked once: it takes longer to start than a container takes to become healthy.
ids=$(./deploy/compose.sh ps -q)

# One line a container: name, state, health.
states() {
	[ -n "$ids" ] || return 0
	# shellcheck disable=SC2086 # a list of ids
	docker inspect --format \
		'{{.Name}} {{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}' $ids
}

complain() {
	echo "wait-healthy.sh: $1" >&2
	states | awk '$3 != "healthy"' | while read -r name state health; do
		echo "--- ${name#/}: $state, $health; the end of its log:" >&2
		docker logs --tail 20 "${name#/}" >&2
	done
	exit 1
}

while :; do
	now=$(states)
	[ -n "$now" ] || complain "no container of this project runs; start it with: make up"
	case $now in
	*" exited "* | *" dead "*) complain "a container has ended" ;;
	esac
	echo "$now" | grep -qv ' running healthy$' || exit 0
	[ "$(date +%s)" -lt "$deadline" ] || complain "not all healthy within $limit s"
	sleep 0.3
done
