#!/bin/bash
# Formatting, lints, shell scripts, manual pages, and what we depend on.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

DENY=0.20.2

# cargo-deny comes from crates.io, once, into a cache outside the clone. Built
# with little optimization: it runs for a second and is compiled for minutes.
cargo_deny() {
    local root=$CACHE/cargo-deny-$DENY
    if [[ ! -x $root/bin/cargo-deny ]]; then
        note "building cargo-deny $DENY, once, into $root; this takes some minutes"
        CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
            CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_TARGET_DIR=$root/build \
            cargo install --locked --quiet --root "$root" --version "$DENY" cargo-deny
        rm -rf "$root/build"
    fi
    "$root/bin/cargo-deny" "$@"
}

step() {
    printf '\n== %s\n' "$*"
    "$@"
}

scripts/install-needs.sh build lint

step cargo fmt --all --check
step cargo clippy --locked --all-targets -- -D warnings
# Links to private items are fine where those are documented as well.
RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" step cargo doc --locked --no-deps --document-private-items --lib
step shellcheck --external-sources scripts/*.sh .ci/run tests/system/*.sh examples/shell/*.sh src/cli/complete.bash packaging/debian/{postinst,prerm,postrm}
step mandoc -T lint -W warning docs/man/*.[158]
# Not `advisories`: its database is a git repository on the internet, and what
# is found there depends on the day, not on the commit.
step cargo_deny --locked check --hide-inclusion-graph bans licenses sources

printf '\nmake lint: all is well\n'
