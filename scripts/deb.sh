#!/bin/bash
# Builds the Debian package into the target directory, and prints its name.
# Nothing but `make install` decides what is in it; docs/packaging.md says why
# this is no debhelper. PROFILE=dev takes the programs of the tests, unoptimized.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

scripts/install-needs.sh build deb >&2

target=$(realpath "${CARGO_TARGET_DIR:-target}")
revision=1
work=$(mktemp -d "${TMPDIR:-/tmp}/ipfloater-deb-XXXXXX")
trap 'rm -rf "$work"' EXIT
root=$work/root
umask 022
mkdir -p "$root/DEBIAN"
make --no-print-directory install DESTDIR="$root" PREFIX=/usr \
    ZSH_COMPLETIONS=/usr/share/zsh/vendor-completions >&2

# --- as Debian has it ------------------------------------------------------

doc=$root/usr/share/doc/ipfloater
strip --strip-unneeded --remove-section=.comment --remove-section=.note \
    "$root/usr/sbin/ipfloaterd" "$root/usr/sbin/ipfloater-remote" "$root/usr/bin/ipfloater"
mv "$doc/CHANGELOG.md" "$doc/changelog"
cp packaging/debian/changelog "$doc/changelog.Debian"
gzip -9n "$doc/changelog" "$doc/changelog.Debian" "$root"/usr/share/man/man?/*
rm "$doc"/LICENSE-* # copyright says it
sed -i -e 's/](CHANGELOG\.md)/](changelog.gz)/' -e 's/](LICENSE-[A-Z]*)/](copyright)/g' "$doc/README.md"
cp packaging/debian/copyright "$doc/copyright"
# What is linked in, with licence and source.
cargo tree --locked --edges normal --prefix none --no-dedupe \
    --format '{p} | {l} | {r}' | grep -v '^ipfloater ' | sort -u >"$doc/crates"
install -D -m 644 packaging/debian/lintian-overrides "$root/usr/share/lintian/overrides/ipfloater"

# --- what dpkg wants to know -----------------------------------------------

version=$(cargo metadata --locked --no-deps --format-version 1 |
    sed 's/.*"name":"ipfloater","version":"\([^"]*\)".*/\1/')-$revision
[[ $(dpkg-parsechangelog -l packaging/debian/changelog -S Version) == "$version" ]] ||
    fail "packaging/debian/changelog does not begin with version $version"

# dpkg-shlibdeps looks for debian/control.
mkdir "$work/debian"
printf 'Source: ipfloater\n\nPackage: ipfloater\nArchitecture: any\n' >"$work/debian/control"
depends=$(cd "$work" && dpkg-shlibdeps -O root/usr/sbin/ipfloaterd root/usr/sbin/ipfloater-remote root/usr/bin/ipfloater |
    sed -n 's/^shlibs:Depends=//p')

maintainer=$(dpkg-parsechangelog -l packaging/debian/changelog -S Maintainer)
sed -e "s|@VERSION@|$version|" -e "s|@MAINTAINER@|$maintainer|" -e "s|@DEPENDS@|$depends|" \
    -e "s|@ARCHITECTURE@|$(dpkg --print-architecture)|" \
    -e "s|@SIZE@|$(du -k -s --exclude=DEBIAN "$root" | cut -f 1)|" \
    packaging/debian/control.in >"$root/DEBIAN/control"
install -m 755 -t "$root/DEBIAN" packaging/debian/{postinst,prerm,postrm}
(cd "$root" && find etc -type f -printf '/%p\n' | sort >DEBIAN/conffiles)
(cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum >DEBIAN/md5sums)

# Nobody is to mistake what tests build for what users get.
place=$target/debian
[[ ${PROFILE:-release} == release ]] || place=$target/$PROFILE/debian
mkdir -p "$place"
deb=$place/ipfloater_${version}_$(dpkg --print-architecture).deb
dpkg-deb --root-owner-group --build "$root" "$work/deb" >&2
mv "$work/deb" "$deb" # at once, or another run might read a half
printf '%s\n' "$deb"
