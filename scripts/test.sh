#!/bin/bash
# Runs all tests: units, programs, and real packets in network namespaces.
# Leaves Debian packages, the target directory and .cache/.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# A varlink client that is not ours, for the tests that hold our server against
# somebody else's idea of the protocol.
VARLINK=31.0.0

python_with_varlink() {
    local venv=$PWD/.cache/python-varlink-$VARLINK
    if [[ ! -x $venv/bin/python3 ]] || ! "$venv/bin/python3" -c 'import varlink' 2>/dev/null; then
        note "putting varlink $VARLINK from PyPI into ${venv#"$PWD"/}"
        rm -rf "$venv"
        python3 -m venv "$venv"
        "$venv/bin/pip" --quiet --disable-pip-version-check install "varlink==$VARLINK"
    fi
    printf '%s\n' "$venv/bin/python3"
}

require_root "the tests make network namespaces, and an ipfloaterd in each"
scripts/install-needs.sh build test system
IPFLOATER_TEST_PYTHON=$(python_with_varlink)
export IPFLOATER_TEST_PYTHON

log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
cargo test --locked --no-fail-fast --lib --bins --tests 2>&1 | tee "$log" || status=$?
cargo test --locked --no-fail-fast --doc 2>&1 | tee -a "$log" || status=$?

# `test result: ok. 12 passed; 0 failed; 1 ignored; …`, once for each program.
awk '/^test result:/ { passed += $4; failed += $6; ignored += $8; programs++ }
     END { printf "\nmake test: %d passed, %d failed, %d ignored, in %d test programs\n",
                  passed, failed, ignored, programs }' "$log"
if [[ $status -ne 0 ]]; then
    fail "not everything passed; see above"
fi
echo "make test: all is well"
