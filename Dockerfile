# Two ways to the same images:
#
#   docker build --target node-local   .   the binary that `make image` compiled on this machine
#   docker build --target broker-local .   the same, as the broker; neither needs a registry
#   docker build                       .   compile here, in GO_IMAGE: the node
#   docker build --target broker       .   the same, as the broker
#
# The order matters. The classic builder runs every stage above its target, so the stages that need
# no registry come first, and what they copy may be absent: a fresh clone has no deploy/bin, a COPY
# whose patterns all match nothing is an error, hence the licence beside the pattern.

ARG GO_IMAGE=golang:1.26

FROM scratch AS broker-local
ARG VERSION=dev
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="merklekv-broker" \
      org.opencontainers.image.description="MQTT broker of a MerkleKV cluster" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
COPY LICENSE deploy/bin/rootf[s] /
COPY --chown=65532:65532 deploy/rootfs/data /data
USER 65532:65532
EXPOSE 1883
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=2s --timeout=3s --start-period=10s --retries=5 CMD ["/merklekv", "health", "--broker"]
ENTRYPOINT ["/merklekv"]
CMD ["broker"]

# A node may run the broker in its own process, so it keeps that port too.
FROM broker-local AS node-local
LABEL org.opencontainers.image.title="merklekv" \
      org.opencontainers.image.description="Leaderless replicated key-value store: one node"
EXPOSE 7878 9878
HEALTHCHECK --interval=2s --timeout=3s --start-period=10s --retries=5 CMD ["/merklekv", "health"]
CMD []

FROM ${GO_IMAGE} AS build
ARG VERSION=dev
ARG REVISION=unknown
ARG CREATED=unknown
# Set from outside where the module proxy is not the public one; unset they change nothing.
ARG GOPROXY
ARG GOSUMDB
WORKDIR /src
COPY go.mod go.sum ./
COPY cmd cmd
COPY pkg pkg
RUN mkdir -p /out/etc/ssl/certs \
 && cp /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/ \
 && CGO_ENABLED=0 GOTOOLCHAIN=local go build -trimpath -buildvcs=false \
      -ldflags "-s -w -X main.version=${VERSION} -X main.commit=${REVISION} -X main.date=${CREATED}" \
      -o /out/merklekv ./cmd/merklekv

FROM scratch AS broker
ARG VERSION=dev
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="merklekv-broker" \
      org.opencontainers.image.description="MQTT broker of a MerkleKV cluster" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
COPY LICENSE /
COPY --from=build /out /
COPY --chown=65532:65532 deploy/rootfs/data /data
USER 65532:65532
EXPOSE 1883
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=2s --timeout=3s --start-period=10s --retries=5 CMD ["/merklekv", "health", "--broker"]
ENTRYPOINT ["/merklekv"]
CMD ["broker"]

FROM broker AS node
LABEL org.opencontainers.image.title="merklekv" \
      org.opencontainers.image.description="Leaderless replicated key-value store: one node"
EXPOSE 7878 9878
HEALTHCHECK --interval=2s --timeout=3s --start-period=10s --retries=5 CMD ["/merklekv", "health"]
CMD []
