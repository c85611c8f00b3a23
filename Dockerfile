# syntax=docker/dockerfile:1
#
#   docker build -t witgate .
#   docker run --rm -p 127.0.0.1:8000:8000 -e OPENAI_API_KEY witgate
#
# For several machines at once: docker buildx build --platform linux/amd64,linux/arm64 -t witgate .
# Each platform is built by its own toolchain, so a builder of the other architecture emulates it, which takes long: give
# buildx a node of each.

ARG RUST_VERSION=1.95
ARG DEBIAN=bookworm

FROM rust:${RUST_VERSION}-slim-${DEBIAN} AS build
# Cache mounts of two platforms must not be mixed.
ARG TARGETPLATFORM
WORKDIR /source
# Named here, so that a change of the sources does not fetch the target again.
RUN rustup target add wasm32-wasip2
COPY . .
# No `target-cpu`: the image runs on every CPU of its architecture. What has faster instructions finds them when it runs:
# the JSON reader picks AVX2, SSE 4.2 or plain code, the scanners use SSE2, which every x86-64 has, and plugins are compiled
# for the CPU they run on.
RUN --mount=type=cache,id=witgate-registry,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,id=witgate-target-${TARGETPLATFORM},target=/source/target,sharing=locked \
    cargo build --release --locked --package witgate \
    && install -D --strip target/release/witgate /out/witgate

FROM debian:${DEBIAN}-slim
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="witgate" \
      org.opencontainers.image.description="A gateway for language models that operators extend with WebAssembly components" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# The authorities of upstreams' certificates, as new as there are. The user has a number, so that Kubernetes can see that it
# is not root.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --system --gid 10001 witgate \
    && useradd --system --uid 10001 --gid witgate --home-dir /witgate --shell /usr/sbin/nologin witgate \
    && install --directory --owner=witgate --group=witgate /witgate /witgate/witgate-data
COPY --from=build /out/witgate /usr/local/bin/witgate

# The configuration is /witgate/witgate.yaml when there is one; better mount a folder and name the file in it by
# WITGATE_CONFIG, as a single mounted file keeps what it was when an editor replaces it. Without any, the embedded
# default listens and takes the keys it finds in the environment.
WORKDIR /witgate
# What is kept: the audit, and compiled plugins, which start faster the second time.
VOLUME ["/witgate/witgate-data"]
# Loopback would be the container's own. A file that says `server.listen` beats it. The admin listener stays on loopback,
# where the health check asks it: on an address that can be reached from outside it wants `server.admin_token`, which an
# image cannot know. compose.yaml shows how.
ENV HOST=0.0.0.0 \
    XDG_CACHE_HOME=/witgate/witgate-data/cache
EXPOSE 8000 9090

USER 10001:10001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 CMD ["witgate", "health"]
ENTRYPOINT ["witgate"]
CMD ["serve"]
