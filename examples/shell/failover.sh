#!/bin/sh
# failover.sh FLOATING HOST...: moves the floating IP to the first of the hosts
# that answers a ping, over D-Bus. It stays where it is when that one has it.
set -eu

floating=$1
shift

for host; do
    if ping -c 1 -W 1 "$host" >/dev/null 2>&1; then
        busctl --quiet call org.ipfloater /org/ipfloater org.ipfloater.Manager \
            Associate 'ssa{sv}' "$floating" "$host" 1 reassociate b true
        echo "$floating is with $host"
        exit 0
    fi
done
echo "none of the hosts answers; $floating stays where it is" >&2
exit 1
