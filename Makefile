# Everything one does with this project; `make` lists it. Needs Go 1.26 or Docker, most targets both.
.DEFAULT_GOAL := help
SHELL := /bin/sh

# The last tag of the form v1.2.3; before the first one, a version that is none, with the commit.
VERSION  ?= $(shell git describe --tags --match 'v[0-9]*' --dirty 2>/dev/null | sed 's/^v//' | grep . || \
	echo "0.0.0-dev+$$(git describe --always --dirty 2>/dev/null || echo unknown)")
REVISION ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
# Of the commit, not of the build: the same source gives the same binary.
CREATED  ?= $(shell TZ=UTC0 git log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd 2>/dev/null || echo unknown)
LDFLAGS  := -s -w -X main.version=$(VERSION) -X main.commit=$(REVISION) -X main.date=$(CREATED)

MKV_IMAGE        ?= merklekv/node:local
MKV_BROKER_IMAGE ?= merklekv/broker:local
export MKV_IMAGE MKV_BROKER_IMAGE

GO_IMAGE  ?= golang:1.26
FUZZTIME  ?= 10s
COMPOSE   := deploy/compose.sh
STAMP     := --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) --build-arg CREATED=$(CREATED)
# A module proxy of one's own goes into the compiling stage; the public one needs nothing.
PROXY     := $(if $(GOPROXY),--build-arg GOPROXY=$(GOPROXY)) $(if $(GOSUMDB),--build-arg GOSUMDB=$(GOSUMDB))
# Everything but the tests that start containers: those compile a whole Compose, with -race for minutes.
UNIT_PACKAGES = $$(go list ./... | grep -v '/test/cluster$$')

# The engine builds with BuildKit only through buildx; without it, say so instead of failing.
ifeq ($(shell docker buildx version >/dev/null 2>&1 && echo yes),)
export DOCKER_BUILDKIT := 0
export COMPOSE_DOCKER_CLI_BUILD := 0
endif

.PHONY: help
help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

## --- the cluster

.PHONY: up
up: image ## build the images, start three nodes and the broker, wait until all are healthy
	@echo "$(COMPOSE) up -d --no-build"; $(COMPOSE) up -d --no-build || { \
		echo; echo 'make: the cluster did not start. Is a port taken? Every one can be changed, for example'; \
		echo '      MKV_NODE1_PORT=17878 make up   (deploy/README.md lists them); make down removes what was begun'; \
		exit 1; }
	deploy/wait-healthy.sh 60
	@deploy/listen.sh

.PHONY: demo
demo: image ## the point of it in half a minute: a node is cut off, and what its repair costs
	go run ./test/demo

.PHONY: down
down: ## stop and remove the containers, keep the volumes: the data are there at the next up
	$(COMPOSE) down

.PHONY: reset
reset: ## the same, and delete the volumes with all data (asks first; ASK=no does not)
	@if [ "$(ASK)" != no ]; then \
		printf 'Delete the volumes of all three nodes, and all data in them? [y/N] '; read -r answer; \
		[ "$$answer" = y ] || { echo 'Nothing was changed.'; exit 1; }; \
	fi
	$(COMPOSE) down --volumes --remove-orphans

.PHONY: logs
logs: ## follow the logs of all containers
	$(COMPOSE) logs -f --tail=100

## --- building

.PHONY: build
build: ## the binary for this machine: bin/merklekv
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/merklekv ./cmd/merklekv

.PHONY: image
image: ## both images: compiled here when Go is installed, else in a golang image
	@if command -v go >/dev/null 2>&1; then $(MAKE) --no-print-directory image-local; \
	else $(MAKE) --no-print-directory image-compiled; fi

.PHONY: image-local
image-local:
	deploy/rootfs.sh '$(LDFLAGS)'
	docker build -q $(STAMP) --target node-local -t $(MKV_IMAGE) .
	docker build -q $(STAMP) --target broker-local -t $(MKV_BROKER_IMAGE) .

.PHONY: image-compiled
image-compiled:
	docker build $(STAMP) $(PROXY) --build-arg GO_IMAGE=$(GO_IMAGE) -t $(MKV_IMAGE) .
	docker build -q $(STAMP) $(PROXY) --build-arg GO_IMAGE=$(GO_IMAGE) --target broker -t $(MKV_BROKER_IMAGE) .

.PHONY: image-golang
image-golang: ## the compiling path of the Dockerfile, with the local toolchain where no registry answers
	image=$$(deploy/go-image.sh $(GO_IMAGE)) && \
	$(MAKE) --no-print-directory image-compiled GO_IMAGE=$$image \
		MKV_IMAGE=merklekv/node:golang MKV_BROKER_IMAGE=merklekv/broker:golang && \
	docker run --rm --network none merklekv/node:golang version
	MKV_TEST_IMAGES=required MKV_IMAGE=merklekv/node:golang MKV_BROKER_IMAGE=merklekv/broker:golang \
		go test -v -count=1 -run 'TestImages|TestLastWritesOutliveAStop' ./test/cluster

.PHONY: cross
cross: ## compile for every architecture that images are meant for
	@for arch in amd64 arm64; do \
		echo "linux/$$arch"; \
		CGO_ENABLED=0 GOOS=linux GOARCH=$$arch go build -trimpath -ldflags '$(LDFLAGS)' \
			-o bin/merklekv-linux-$$arch ./cmd/merklekv || exit 1; \
	done

## --- checking

.PHONY: test
test: lint unit price seeds kills cross image image-golang cluster ## everything, the real cluster included

.PHONY: unit
unit: ## all tests but the real cluster, with the race detector
	go test -race -timeout 10m $(UNIT_PACKAGES)

# Sets of a million keys are too much for the race detector.
.PHONY: price
price: ## the bytes and round trips of repair sessions, and the index's bytes a key
	go test -count=1 -run 'Price|OneSided|Memory' ./pkg/antientropy ./pkg/merkle

.PHONY: seeds
seeds: ## as many simulated clusters as two minutes allow, and 200 with the race detector
	go run ./test/sim -seeds 1000000 -for $(or $(FOR),120s)
	go test -race -count=1 -run 'TestSeeds$$' ./test/sim -sim.for 1s -sim.least 200

.PHONY: kills
kills: ## KILLS (300) times: write to a node, kill -9, start it again, look for what was acknowledged; journals after power cuts and flipped bits
	go test -count=1 -run 'TestCrashImages|TestFlippedBytes' ./pkg/journal/disk
	go test -v -count=1 -timeout 30m -parallel 4 -run Kill ./test/durability -durability.kills $(or $(KILLS),300)

.PHONY: cluster
cluster: export TESTCONTAINERS_RYUK_DISABLED := true
cluster: export TESTCONTAINERS_HOST_OVERRIDE := 127.0.0.1
cluster: export MKV_TEST_IMAGES := required
cluster: image ## the tests on a real cluster, with images of what is here now
	go test -v -count=1 -timeout 12m ./test/cluster/...

.PHONY: bench
bench: ## measure, against Redis where it is installed
	go run ./test/bench $(ARGS)

.PHONY: sim
sim: ## SEEDS (1000) simulated clusters, each of which can be had again
	go run ./test/sim -seeds $(or $(SEEDS),1000)

.PHONY: soak
soak: ## SEEDS (20000) of them, until known bugs are found when they are built in, and KILLS (5000)
	go run ./test/sim -seeds $(or $(SEEDS),20000)
	go run ./test/sim -museum
	go test -v -count=1 -timeout 5h -parallel 4 -run Kill ./test/durability -durability.kills $(or $(KILLS),5000)
	MERKLEKV_TEST_CRASH_IMAGES=$(or $(IMAGES),10000) go test -v -count=1 -timeout 5h -run TestCrashImages ./pkg/journal/disk

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (10s)
	deploy/fuzz.sh $(FUZZTIME)

.PHONY: lint
lint: ## gofmt, go vet, staticcheck, shell syntax
	@unformatted=$$(gofmt -l cmd pkg test); \
	[ -z "$$unformatted" ] || { echo "gofmt has to touch (run make fmt):"; echo "$$unformatted"; exit 1; }
	go vet ./...
	go tool staticcheck ./...
	@for script in deploy/*.sh; do sh -n $$script || exit 1; done; bash -n .ci/run

.PHONY: fmt
fmt: ## format all Go code
	gofmt -w cmd pkg test
