# The same image as `make image` lays out: one static binary, nothing else.
FROM rust:1.95-bookworm AS build
# The image's own toolchain, whatever components rust-toolchain.toml names for developers.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    install -D "$(tools/static.sh release)" /out/postern && install -d -m 1777 /out/tmp

FROM scratch
COPY --from=build /out/ /
USER 65532:65532
ENTRYPOINT ["/postern"]
