# The two to know: `make demo` and `make test`. Each target installs what it needs when run as root on Debian or Ubuntu, and
# otherwise says what is missing. Rust itself must be there.

CARGO ?= cargo
HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
TARGET_DIR := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
CALQUE := $(TARGET_DIR)/$(HOST)/release/calque
DEV_BINARIES := $(TARGET_DIR)/$(HOST)/debug

.PHONY: help build demo test stacks soak bench compat check clean tools-build tools-test root

help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

## make build   the release binary, static
build: tools-build
	$(CARGO) build --release --locked

## make demo    build and run testdata/app, as root
demo: root tools-build
	@sh scripts/install-tools.sh apt-get tar sha256sum
	$(CARGO) build --release --locked --quiet
	@CALQUE=$(CALQUE) sh scripts/demo.sh

## make test    everything that must hold, as root
test: root tools-test
	CALQUE_TEST_STRICT=1 $(CARGO) test --workspace --locked -- --include-ignored --skip soak_

## make soak    the long runs in full, as root; the log goes to docs/soak.md
soak: root tools-test
	$(CARGO) build --release --locked
	CALQUE_TEST_STRICT=1 sh scripts/soak.sh

## make stacks  the applications in testdata/stacks, as root; STACKS="php nginx" for some of them; the table goes to docs/stacks.md
stacks: root tools-build
	@sh scripts/install-tools.sh mmdebstrap tar
	$(CARGO) build --release --locked --quiet
	@CALQUE=$(CALQUE) sh scripts/stacks.sh $(STACKS)

## make bench   calque beside the builders that are installed, as root
bench: root tools-build
	@sh scripts/install-tools.sh tar sha256sum:coreutils unshare:util-linux busybox:busybox-static
	$(CARGO) build --release --locked --package calque --package bench
	$(TARGET_DIR)/$(HOST)/release/bench --calque $(CALQUE)

## make compat  the same Dockerfiles with calque and buildah, as root
compat: root tools-build
	@sh scripts/install-tools.sh buildah crun python3 busybox:busybox-static
	$(CARGO) build --release --locked
	CALQUE=$(CALQUE) python3 scripts/compat.py

## make check   formatting, lints and documentation
check: tools-build
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --workspace --locked

clean:
	$(CARGO) clean

tools-build:
	@command -v rustc >/dev/null || { echo "Rust is missing: https://rustup.rs" >&2; exit 1; }
	@sh scripts/install-tools.sh cc:build-essential

tools-test: tools-build
	@sh scripts/install-tools.sh tar sha256sum:coreutils git setpriv:util-linux mount mmdebstrap skopeo umoci

root:
	@[ "$$(id -u)" = 0 ] || { echo "this target needs root: sudo env PATH=\"\$$PATH\" make $(MAKECMDGOALS)" >&2; exit 1; }
