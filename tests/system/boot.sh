#!/bin/bash
# boot.sh ROOTFS: boots a Debian and holds it until standard input ends, which it
# does when the test process is gone, however that went. Prints the cgroup
# directory of the box, and the file that has what it says on its console.
#
# systemd-nspawn, in a mount namespace of our own: files are an overlay on the
# root file system with its upper layer in memory, and /run is hidden, so that
# neither the host's service manager nor its bus is reached and nspawn's locks
# are nobody's. All mounts, links and namespaces go with the last process, and
# all processes are in a PID namespace that goes with this one.
set -euo pipefail

hold() {
    # Ctrl-C is for the test; the end of standard input is what counts here.
    trap '' HUP INT TERM
    work=$(mktemp -d "${TMPDIR:-/tmp}/ipfloater-box-XXXXXX")
    cgroup=$(findmnt -rn -t cgroup2 -o TARGET | head -n 1)/${work##*/}
    trap clean_up EXIT
    mkdir "$cgroup" "$cgroup/supervisor"
    printf '%s\n' "$cgroup" "$work/console"
    (
        printf 0 >"$cgroup/supervisor/cgroup.procs"
        exec setpriv --pdeathsig KILL unshare --mount --propagation private --pid --fork \
            --kill-child --mount-proc "$0" --inside "$cgroup" "$1" "$work/console"
    ) </dev/null &
    disown # or bash tells that it was killed
    cat >/dev/null
}

clean_up() {
    rm -rf "$work"
    printf 1 >"$cgroup/cgroup.kill"
    # A killed process leaves its cgroup a moment later.
    for _ in {1..100}; do
        find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null && return
        sleep 0.05
    done
    printf '%s: cannot remove %s\n' "${0##*/}" "$cgroup" >&2
    exit 1
}

inside() {
    local cgroup=$1 rootfs=$2 console=$3 status=133
    # nspawn looks for cgroup2 here; a tree of version 1 is hidden.
    if [[ ${cgroup%/*} != /sys/fs/cgroup ]]; then
        mount -t cgroup2 none /sys/fs/cgroup
        cgroup=/sys/fs/cgroup/${cgroup##*/}
    fi
    mount -t tmpfs -o size=2G,mode=755 ipfloater-test /run
    mkdir -p /run/systemd /run/box/{upper/etc,work,root}
    chmod 755 /run/box/upper /run/box/upper/etc
    tr -d - </proc/sys/kernel/random/uuid >/run/box/upper/etc/machine-id
    mount -t overlay -o "lowerdir=$rootfs,upperdir=/run/box/upper,workdir=/run/box/work" \
        ipfloater-test /run/box/root
    while [[ $status -eq 133 ]]; do # the box asked for a reboot
        status=0
        (
            printf 0 >"$cgroup/cgroup.procs"
            # bpf: without, IPAddressDeny= and the like are silently not enforced.
            exec env -i PATH="$PATH" TERM=dumb LANG=C.UTF-8 \
                systemd-nspawn --quiet --settings=no --boot --directory=/run/box/root \
                --machine="${cgroup##*/}" --hostname=router --register=no --keep-unit \
                --private-network --resolv-conf=off --timezone=off --link-journal=no \
                --system-call-filter=bpf --console=pipe </dev/null >>"$console" 2>&1
        ) || status=$?
    done
}

case $1 in
    --inside) inside "${@:2}" ;;
    *) hold "$@" ;;
esac
