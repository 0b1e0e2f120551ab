#!/bin/sh
# Compiles the static binary on this machine and lays out what the offline images copy:
#   deploy/bin/rootfs/merklekv
#   deploy/bin/rootfs/etc/ssl/certs/ca-certificates.crt
# Usage: deploy/rootfs.sh LDFLAGS   (GOARCH chooses another architecture)
set -eu

cd "$(dirname "$0")/.."
root=deploy/bin/rootfs
rm -rf "$root"
mkdir -p "$root/etc/ssl/certs"

for certs in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem; do
	[ ! -f "$certs" ] || break
done
if [ ! -f "$certs" ]; then
	echo "rootfs.sh: no CA certificates found on this machine; install the package ca-certificates" >&2
	exit 1
fi
cp -L "$certs" "$root/etc/ssl/certs/ca-certificates.crt"
chmod 0644 "$root/etc/ssl/certs/ca-certificates.crt"

CGO_ENABLED=0 GOOS=linux go build -trimpath -ldflags "$1" -o "$root/merklekv" ./cmd/merklekv
chmod 0755 "$root/merklekv"
