#!/bin/bash
# Installs the Debian packages that a task needs: build, demo, test, deb, system
# or lint.
# Does nothing, and needs no root, where the programs are there already.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

declare -a missing=()

# need PACKAGE TEST…: the package is missing when the test fails.
need() {
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}

have() {
    command -v "$1"
}

build_needs() {
    need gcc have cc
    need libc6-dev test -e /usr/include/stdio.h
}

demo_needs() {
    need iproute2 have ip
    need iputils-ping have ping
    need nftables have nft
    need python3 have python3
}

test_needs() {
    demo_needs
    need procps have sysctl
    need conntrack have conntrack
    need iptables have iptables
    need tcpdump have tcpdump
    need iperf3 have iperf3
    need dbus-daemon have dbus-daemon
    need systemd have busctl
    need polkitd have pkttyagent
    need strace have strace
    need python3-venv python3 -c 'import ensurepip, venv'
}

deb_needs() {
    need binutils have strip
    need dpkg-dev have dpkg-shlibdeps
    need make have make
}

# What boots Debian in the system tests.
system_needs() {
    deb_needs
    need mmdebstrap have mmdebstrap
    need systemd-container have systemd-nspawn
    need util-linux have setpriv
}

lint_needs() {
    need shellcheck have shellcheck
    need mandoc have mandoc
}

[[ $# -gt 0 ]] || fail "say what for: build, demo, test, deb, system or lint"
for task in "$@"; do
    case $task in
        build | demo | test | deb | system | lint) "${task}_needs" ;;
        *) fail "there is no task $task; there are build, demo, test, deb, system and lint" ;;
    esac
done

[[ ${#missing[@]} -gt 0 ]] || exit 0
mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)

have apt-get >/dev/null || fail "install these first: ${missing[*]} (Debian's names)"
require_root "to install ${missing[*]} with apt-get"

apt() {
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 -qq "$@" </dev/null
}

# Only dpkg's lock can be waited for, not that of the package lists, which a
# machine's own daily update holds for a while.
update() {
    local try
    for try in {1..12}; do
        ! apt update || return 0
        note "no package lists yet ($try of 12); again in 5 s"
        sleep 5
    done
    fail "apt-get update fails; see above"
}

note "installing ${missing[*]}"
update
apt install -y --no-install-recommends "${missing[@]}" >/dev/null
