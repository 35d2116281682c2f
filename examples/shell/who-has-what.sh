#!/bin/sh
# who-has-what.sh: floating IP, state, fixed address and owner of each address that
# is not free, separated by tabs, over varlink. Needs varlinkctl (systemd 255 or
# newer) and jq.
set -eu

socket=/run/ipfloater/org.ipfloater
after=null
while [ "$after" != end ]; do
    page=$(varlinkctl --json=short call "$socket" org.ipfloater.List "{\"after\":$after}")
    printf '%s\n' "$page" | jq -r '.addresses[]
        | [.floating_ip, .state, .fixed_address // "-", .owner // "-"] | @tsv'
    after=$(printf '%s\n' "$page" | jq -c '.next // "end"')
    [ "$after" != '"end"' ] || after=end
done
