#!/bin/bash
# build.sh: as scripts/deb.sh, but in a Debian 12. For machines with a C library
# newer than that one's: what is linked there does not run on Debian 12. Cargo
# and its crates are those of the machine, and nothing is fetched.
set -euo pipefail

inside() {
    local source=$1 rootfs=$2 root=/run/box/root directory
    mount -t tmpfs -o size=2G,mode=755 ipfloater-test /run
    mkdir -p /run/box/{upper,work,root}
    mount -t overlay -o "lowerdir=$rootfs,upperdir=/run/box/upper,workdir=/run/box/work" \
        ipfloater-test "$root"
    for directory in /dev /proc "$source" "$CARGO_TARGET_DIR" "$CARGO_HOME" "$RUSTUP_HOME"; do
        mkdir -p "$root$directory"
        mount --rbind "$directory" "$root$directory"
    done
    exec chroot "$root" env -i HOME=/root LANG=C.UTF-8 PATH="$CARGO_HOME/bin:$PATH" PROFILE=dev \
        CARGO_HOME="$CARGO_HOME" RUSTUP_HOME="$RUSTUP_HOME" CARGO_NET_OFFLINE=true \
        CARGO_TARGET_DIR="$CARGO_TARGET_DIR" ${RUSTUP_TOOLCHAIN:+RUSTUP_TOOLCHAIN="$RUSTUP_TOOLCHAIN"} \
        "$source/scripts/deb.sh"
}

if [[ ${1:-} == --inside ]]; then
    inside "${@:2}"
fi

here=$(dirname "$(realpath "$0")")
source=${here%/tests/system}
rootfs=$("$here/rootfs.sh" bookworm gcc libc6-dev make dpkg-dev)
export CARGO_HOME=${CARGO_HOME:-$HOME/.cargo}
export RUSTUP_HOME=${RUSTUP_HOME:-$HOME/.rustup}
# A room of its own: cargo does not see that the C library is another.
CARGO_TARGET_DIR=$(cd "$source" && realpath "${CARGO_TARGET_DIR:-target}")/bookworm
export CARGO_TARGET_DIR
mkdir -p "$CARGO_TARGET_DIR"
exec unshare --mount --propagation private "$here/build.sh" --inside "$source" "$rootfs"
