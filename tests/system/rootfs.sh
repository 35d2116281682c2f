#!/bin/bash
# rootfs.sh SUITE [PACKAGE…]: prints the directory of a Debian of that suite for
# the boxes, and makes it first where it is not there yet. It is named after this
# file and the packages, so that an edit makes a new one; one that nothing used
# for a month is removed.
set -euo pipefail

suite=$1
cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/ipfloater
rootfs=$cache/rootfs-$suite-$(printf '%s ' "$@" | cat "$0" - | sha256sum | cut -c 1-12)

# What a router has, what the package depends on (a box has no network to get it
# from), and what the tests look with.
packages=(
    systemd systemd-sysv libpam-systemd dbus polkitd sudo login passwd adduser init-system-helpers
    nftables iproute2 conntrack procps iputils-ping python3-minimal python3-dbus jq less lintian
    prometheus prometheus-node-exporter openssh-server openssh-client openssl
    bash-completion zsh fish sqlite3 iptables curl tcpdump
    "${@:2}"
)

customize() {
    local root=$1 user unit
    : >"$root/etc/machine-id"
    rm -f "$root/etc/hostname" "$root/etc/resolv.conf"
    printf '127.0.0.1 localhost\n::1 localhost\n' >"$root/etc/hosts"
    for user in alice bob admin; do
        chroot "$root" useradd --create-home --shell /bin/bash "$user"
        printf '%s:%s\n' "$user" "$user" | chroot "$root" chpasswd
    done
    # Members of sudo are polkit's administrators on Debian.
    chroot "$root" usermod --append --groups sudo admin
    # A session of logind without a password, for what a test does as a user.
    cat >"$root/etc/pam.d/ipfloater-test" <<'END'
auth     required  pam_permit.so
account  required  pam_permit.so
session  required  pam_unix.so
session  required  pam_systemd.so
END
    # What would run on its own while a test looks, and what a box cannot have.
    for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
        e2scrub_all.timer fstrim.timer man-db.timer getty@.service console-getty.service \
        systemd-networkd-wait-online.service prometheus.service prometheus-node-exporter.service ssh.service ssh.socket; do
        ln -sf /dev/null "$root/etc/systemd/system/$unit"
    done
    rm -rf "$root/etc/systemd/system/getty.target.wants" "$root/usr/sbin/policy-rc.d"
}

mirror() {
    # The one that apt uses here; on other systems Debian's own.
    # shellcheck disable=SC2016  # apt fills in $(SITE)
    apt-get indextargets --format '$(SITE)' 2>/dev/null |
        grep -m 1 -E '/debian/?$' || printf 'http://deb.debian.org/debian\n'
}

if [[ ! -d $rootfs ]]; then
    mkdir -p "$cache"
    exec 9>"$cache/rootfs-$suite.lock"
    flock 9
    if [[ ! -d $rootfs ]]; then
        printf 'making a Debian %s for the tests, once, in %s\n' "$suite" "$rootfs" >&2
        rm -rf --one-file-system "$cache/making-$suite".*
        making=$(mktemp -d "$cache/making-$suite.XXXXXX")
        chmod 755 "$making"
        if ! mmdebstrap --quiet --mode=root --variant=minbase --format=directory \
            --include="$(IFS=,; printf '%s' "${packages[*]}")" \
            --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Retries "3"' \
            --aptopt='Acquire::Languages "none"' --dpkgopt=force-unsafe-io \
            "$suite" "$making/root" "$(mirror)" >"$making/log" 2>&1 9>&- </dev/null; then
            tail -n 25 "$making/log" >&2
            exit 1
        fi
        customize "$making/root"
        mv "$making/root" "$rootfs"
        rm -rf --one-file-system "$making"
    fi
    find "$cache" -maxdepth 1 -name "rootfs-$suite-*" ! -path "$rootfs" -mtime +30 \
        -exec rm -rf --one-file-system {} +
    exec 9>&-
fi
touch "$rootfs"
printf '%s\n' "$rootfs"
