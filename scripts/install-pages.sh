#!/bin/bash
# install-pages.sh DIRECTORY PREFIX: README.md and the pages of docs/, all in one
# directory, with the examples below it. Links lead to where `make install` puts what
# they name; of what it does not install, such as sources, the words alone stay.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

doc=$1
share=$2/share/ipfloater

install -D -m 644 -t "$doc" README.md ARCHITECTURE.md CHANGELOG.md SECURITY.md docs/*.md
install -D -m 644 -t "$doc/examples" examples/README.md
sed -i \
    -e 's#](docs/\([^)/]*\.md\)#](\1#g' \
    -e 's#](\.\./\([A-Z]*\.md\)#](\1#g' \
    -e 's#](\.\./examples/#](examples/#g' \
    -e 's#](\.\./polkit/ipfloater\.rules)#](examples/ipfloater.rules)#g' \
    -e 's#](interfaces/\(org\.ipfloater\.Manager\.xml\))#](/usr/share/dbus-1/interfaces/\1)#g' \
    -e "s#](interfaces/\\([^)]*\\))#]($share/\\1)#g" \
    -e 's#\[\([^]]*\)\](\(\.\./\)\?\(src\|tests\|docs/man\|man\|CONTRIBUTING\.md\)[^)]*)#\1#g' \
    "$doc"/*.md
sed -i \
    -e 's#](\.\./polkit/ipfloater\.rules)#](ipfloater.rules)#g' \
    -e 's#](\.\./docs/#](../#g' \
    "$doc/examples/README.md"
