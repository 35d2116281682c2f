#!/bin/bash
# boot.sh NAME ROOTFS CONSOLE: boots a Debian and holds it until standard input
# ends, which it does when the test process is gone, however that went. The
# first line of output is the cgroup directory of the box. What the box says on
# its console goes to the file CONSOLE.
#
# systemd-nspawn, in a mount namespace of our own: files are an overlay on the
# root file system with its upper layer in memory, and /run is hidden, so that
# neither the host's service manager nor its bus is reached and nspawn's locks
# are nobody's. All mounts, links and namespaces go with the last process.
set -euo pipefail

hold() {
    cgroup=$(findmnt -rn -t cgroup2 -o TARGET | head -n 1)/ipfloater-test-$1
    mkdir "$cgroup" "$cgroup/supervisor"
    trap clean_up EXIT
    printf '%s\n' "$cgroup"
    # Should this very shell be killed, the box goes all the same: each process
    # dies with its parent.
    setpriv --pdeathsig KILL unshare --mount --propagation private \
        "$0" --inside "$cgroup" "$@" </dev/null &
    disown # or bash tells that it was killed
    cat >/dev/null
}

clean_up() {
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
    local cgroup=$1 name=$2 rootfs=$3 console=$4 status=133
    printf '%s\n' $$ >"$cgroup/supervisor/cgroup.procs"
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
            printf '%s\n' "$BASHPID" >"$cgroup/cgroup.procs"
            # bpf: without, IPAddressDeny= and the like are silently not enforced.
            exec env -i PATH="$PATH" TERM=dumb LANG=C.UTF-8 setpriv --pdeathsig KILL \
                systemd-nspawn --quiet --settings=no --boot --directory=/run/box/root \
                --machine="$name" --hostname=router --register=no --keep-unit \
                --private-network --resolv-conf=off --timezone=off --link-journal=no \
                --system-call-filter=bpf --console=pipe </dev/null >>"$console" 2>&1
        ) || status=$?
    done
}

case $1 in
    --inside) inside "${@:2}" ;;
    *) hold "$@" ;;
esac
