#!/bin/sh
# failover.sh FLOATING HOST...: moves the floating IP to the first of the hosts
# that answers a ping, over D-Bus. It stays where it is when that one has it. When it
# is not in force yet, because the neighbours are asked for it or another machine has
# it, that is said, and `ipfloater status` tells why. Needs jq.
set -eu

floating=$1
shift

for host; do
    if ping -c 1 -W 1 "$host" >/dev/null 2>&1; then
        result=$(busctl --json=short call org.ipfloater /org/ipfloater org.ipfloater.Manager \
            Associate 'ssa{sv}' "$floating" "$host" 1 reassociate b true)
        case $(printf '%s\n' "$result" | jq -r '.data[0].state.data') in
            active) echo "$floating is with $host" ;;
            *) echo "$floating goes to $host, and is not in force yet" ;;
        esac
        exit 0
    fi
done
echo "none of the hosts answers; $floating stays where it is" >&2
exit 1
