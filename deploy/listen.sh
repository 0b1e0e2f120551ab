#!/bin/sh
# Prints where the running cluster listens, and a first line to try.
set -eu

cd "$(dirname "$0")/.."
address() { ./deploy/compose.sh port "$1" "$2" 2>/dev/null || echo '-'; }

printf '\n%-8s %-22s %s\n' '' 'clients' 'health and metrics'
for node in node1 node2 node3; do
	printf '%-8s %-22s http://%s/readyz?verbose\n' "$node" "$(address $node 7878)" "$(address $node 9878)"
done
broker=$(address broker 1883)
printf '%-8s %s (MQTT)\n\n' broker "$broker"

first=$(address node1 7878)
third=$(address node3 7878)
cat <<EOF
Try:  echo 'SET user:alice "Alice Johnson"' | nc -N ${first%:*} ${first##*:}
      echo 'GET user:alice' | nc -N ${third%:*} ${third##*:}
Then: make logs, make down, make test
EOF
