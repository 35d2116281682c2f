# Sourced by the other scripts: where things are, and how to complain.
# shellcheck shell=bash

# cargo may be where rustup puts it, and ip(8) where only root looks.
PATH="$PATH:${HOME:-/root}/.cargo/bin:/usr/sbin:/sbin"
export PATH

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

# What costs minutes to make and outlives a clone.
# shellcheck disable=SC2034  # lint.sh uses it
CACHE=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/ipfloater

fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

note() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
}

require_root() {
    [[ $(id -u) -eq 0 ]] || fail "root is needed: $1"
}
