#!/bin/sh
# Makes sure that there is an image with a Go toolchain, and prints its name: the argument of
# `docker build --build-arg GO_IMAGE=...`. Where no registry answers, the toolchain of this machine
# is imported: GOROOT, a static busybox as the shell, and the CA certificates.
# Usage: deploy/go-image.sh [NAME]   (default golang:1.26)
#   MKV_GO_IMAGE_LOCAL=1   import without asking a registry
set -eu

wanted=${1:-golang:1.26}

say() { echo "go-image.sh: $*" >&2; }

if [ "${MKV_GO_IMAGE_LOCAL:-0}" != 1 ]; then
	if docker image inspect "$wanted" >/dev/null 2>&1 || docker pull -q "$wanted" >/dev/null 2>&1; then
		echo "$wanted"
		exit 0
	fi
	say "no registry answers for $wanted, importing the local toolchain"
fi

command -v go >/dev/null || { say "no local Go to import either; install Go 1.26"; exit 1; }
goroot=$(go env GOROOT)
version=$(go env GOVERSION)
image=merklekv/golang:$version
if docker image inspect "$image" >/dev/null 2>&1; then
	echo "$image"
	exit 0
fi

busybox=$(command -v busybox || true)
if [ -z "$busybox" ] || ldd "$busybox" >/dev/null 2>&1; then
	say "no static busybox found; install the package busybox-static"
	exit 1
fi

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir -p "$stage/bin" "$stage/tmp" "$stage/root" "$stage/etc/ssl/certs" "$stage/usr/local/go"
chmod 1777 "$stage/tmp"
cp "$busybox" "$stage/bin/busybox"
for tool in sh mkdir cp rm ls cat; do
	ln -s busybox "$stage/bin/$tool"
done
cp -L /etc/ssl/certs/ca-certificates.crt "$stage/etc/ssl/certs/"
# What compiling needs; documentation and Go's own tests stay behind.
for part in VERSION go.env bin pkg src lib; do
	cp -R "$goroot/$part" "$stage/usr/local/go/"
done

tar -C "$stage" -cf - . | docker import \
	--change 'ENV PATH=/usr/local/go/bin:/bin' \
	--change 'ENV GOPATH=/go' \
	--change 'WORKDIR /go' \
	--message "Go toolchain $version of this machine" \
	- "$image" >/dev/null
say "imported $version as $image"
echo "$image"
