#!/bin/bash
# Shows what IP Floater does, on a router that exists only for the show: a
# client, a router, a switch and two hosts, each a network namespace. Every
# command is printed with what it says, and what it should say is checked.
# Nothing outside the namespaces is touched; all is gone at the end.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

require_root "the demo makes network namespaces and a router in one of them"
scripts/install-needs.sh build demo

# Whom the daemon runs as here: nobody, in no list of users. Debian Policy 9.2.2
# reserves the numbers 65000 to 65533, and systemd's own users end at 65519.
readonly USER_ID=65530
readonly CLIENT_IP=203.0.113.9
readonly FLOATING=203.0.113.227
readonly WEB_IP=192.168.1.40
readonly FRONT_IP=192.168.1.32

work=$(mktemp -d "${TMPDIR:-/tmp}/ipfloater-demo-XXXXXX")
chmod 755 "$work" # for that user to go through
lab=ipfloater-${work##*-}
declare -a places=(client router switch web front)
daemon='' # its process id
output='' # what the last command said

# --- taking everything away again ------------------------------------------

clean_up() {
    local status=$? place pids
    trap - EXIT INT TERM HUP
    disown -a # or bash reports each process that is killed here
    for place in "${places[@]}"; do
        [[ -e /run/netns/$lab-$place ]] || continue
        pids=$(ip netns pids "$lab-$place" 2>/dev/null) || true
        # shellcheck disable=SC2086  # one word for each process
        [[ -z $pids ]] || kill -KILL $pids 2>/dev/null || true
        ip netns delete "$lab-$place" || true
    done
    rm -rf "$work"
    exit "$status"
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# --- showing ---------------------------------------------------------------

title() {
    printf '\n\033[1m%s\033[0m\n' "$*"
}
# Colours are for terminals.
[[ -t 1 ]] || title() { printf '\n%s\n' "$*"; }

# inside PLACE COMMAND…
inside() {
    ip netns exec "$lab-$1" "${@:2}"
}

# shown PLACE COMMAND…: prints the command and what it says; it may fail.
shown() {
    local place=$1 status=0
    shift
    printf '  %s# %s\n' "$place" "$(words "$@")"
    output=$(inside "$place" "$@" 2>&1) || status=$?
    if [[ $status -eq 124 ]]; then
        output="(no answer)" # timeout(1) says so
    fi
    [[ -z $output ]] || printf '      %s\n' "${output//$'\n'/$'\n      '}"
    return "$status"
}

# run PLACE COMMAND…: the same, and it must succeed.
run() {
    shown "$@" || give_up "that command failed"
}

# The command as one would type it.
words() {
    local word line=''
    for word in "$@"; do
        case $word in
            *[!a-zA-Z0-9_./:=,+@%-]* | '') line+=" '$word'" ;;
            *) line+=" $word" ;;
        esac
    done
    printf '%s' "${line# }"
}

# expect TEXT: the last command said so.
expect() {
    [[ $output == *"$1"* ]] || give_up "expected to see: $1"
}

give_up() {
    printf '\nThe demo stops: %s.\n' "$1" >&2
    if [[ -s $work/log ]]; then
        printf 'The last words of ipfloaterd:\n' >&2
        tail -n 20 "$work/log" | sed 's/^/    /' >&2
    fi
    exit 1
}

# Waits for a command to succeed, 10 s at most.
eventually() {
    local what=$1 try
    shift
    for try in {1..100}; do
        "$@" >/dev/null 2>&1 && return
        sleep 0.1
    done
    give_up "waited for $what in vain ($try times)"
}

# --- the lab ---------------------------------------------------------------

picture() {
    cat <<END

       client   $CLIENT_IP           somewhere outside
          |
          |     203.0.113.0/24
          |
    wan0  |     203.0.113.1           floating IPs: 203.0.113.227 and .228
       router                         ipfloaterd runs here
    lan0  |     192.168.1.1
          |
     -----+-----+-----                192.168.1.0/24, private
          |     |
         web  front
         .40   .32                    web server, front-end of a cluster
END
}

# link PLACE INTERFACE ADDRESS PLACE INTERFACE: a cable between two places.
link() {
    ip link add "$2" netns "$lab-$1" type veth peer name "$5" netns "$lab-$4"
    inside "$1" ip address add "$3" dev "$2"
    inside "$1" ip link set "$2" up
    inside "$4" ip link set "$5" up
}

build_lab() {
    local place host
    for place in "${places[@]}"; do
        ip netns add "$lab-$place"
        inside "$place" ip link set lo up
    done
    inside switch ip link add br0 type bridge
    inside switch ip link set br0 up
    link client eth0 $CLIENT_IP/24 router wan0
    inside router ip address add 203.0.113.1/24 dev wan0
    inside router ip route add default via $CLIENT_IP
    link router lan0 192.168.1.1/24 switch port0
    link web eth0 $WEB_IP/24 switch port1
    link front eth0 $FRONT_IP/24 switch port2
    for place in port0 port1 port2; do
        inside switch ip link set "$place" master br0
    done
    for host in web front; do
        inside "$host" ip route add default via 192.168.1.1
    done
    inside router sysctl -qw net.ipv4.ip_forward=1
}

# On port 80 of a place: says where one is, and whom it sees.
serve() {
    local place=$1
    cat >"$work/serve.py" <<'END'
import socketserver, sys

class Answer(socketserver.BaseRequestHandler):
    def handle(self):
        text = f"this is {sys.argv[1]}; you come from {self.client_address[0]}\n"
        self.request.sendall(text.encode())

class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

Server(("0.0.0.0", 80), Answer).serve_forever()
END
    ip netns exec "$lab-$place" python3 "$work/serve.py" "$place" >"$work/$place.log" 2>&1 &
    eventually "the service of $place" inside "$place" bash -c 'cat </dev/tcp/127.0.0.1/80'
}

# ask PLACE ADDRESS: connects to port 80 and prints the answer. Longer than the
# 3 s in which Linux gives up on a neighbour: a connection that ended before
# would leave the next one to hear of that.
ask() {
    shown "$1" timeout 5 bash -c "cat </dev/tcp/$2/80"
}

# --- the daemon ------------------------------------------------------------

configure() {
    cat >ipfloaterd.conf <<'END'
[IPFLOATER]
IP_POOL=203.0.113.227,203.0.113.228
PRIVATE_IP_RANGES=192.168.1.0/24
OUTSIDE_INTERFACE=wan0
END
    sed 's/^/      /' ipfloaterd.conf
}

start_daemon() {
    local -a command=(ipfloaterd --config ipfloaterd.conf --state-directory state
        --runtime-directory run --no-dbus --user "$USER_ID")
    printf '  router# %s &\n' "$(words "${command[@]}")"
    ip netns exec "$lab-router" "${command[@]}" >>"$work/log" 2>&1 &
    daemon=$!
    eventually "ipfloaterd" inside router ipfloater ippool
}

# end_daemon SIGNAL
end_daemon() {
    printf '  router# kill -%s ipfloaterd\n' "$1"
    kill "-$1" "$daemon"
    wait "$daemon" 2>/dev/null || true
}

# --- the story -------------------------------------------------------------

title "Building ipfloaterd and ipfloater"
cargo build --locked --bins
PATH=$(realpath "${CARGO_TARGET_DIR:-target}")/debug:$PATH
export IPFLOATER_SOCKET=$work/run/org.ipfloater
cd "$work"

title "A router with an outside client and two hosts on a private network"
picture
build_lab
for place in client web front; do
    serve "$place"
done

title "The configuration, ipfloaterd.conf, and the daemon"
configure
start_daemon
run router ipfloater ippool
expect $FLOATING

title "A floating IP that nobody has answers nobody"
if ask client $FLOATING; then
    give_up "$FLOATING answered, and it belongs to no host yet"
fi

title "One for the web server: allocated and associated in one step"
run router ipfloater getip $WEB_IP
expect "$FLOATING -> $WEB_IP"

title "Now the outside reaches the web server by it"
ask client $FLOATING || give_up "$FLOATING does not answer"
expect "this is web; you come from $CLIENT_IP"

title "The web server reaches the outside, and is seen with it"
ask web $CLIENT_IP || give_up "web does not reach the outside"
expect "this is client; you come from $FLOATING"

title "So does a host of the private network: hairpin"
ask front $FLOATING || give_up "front does not reach web by its floating IP"
expect "this is web"

title "The floating IP moves to the other host"
run router ipfloater associate $FLOATING $FRONT_IP --reassociate
ask client $FLOATING || give_up "$FLOATING does not answer any more"
expect "this is front; you come from $CLIENT_IP"
ask front $CLIENT_IP || give_up "front does not reach the outside"
expect "this is client; you come from $FLOATING"

title "The daemon stops, is killed and starts again; the traffic does not notice"
ip netns exec "$lab-client" ping -i 0.05 $FLOATING >"$work/ping" 2>&1 &
ping=$!
printf '  client# ping -i 0.05 %s &\n' "$FLOATING"
sleep 0.5
end_daemon TERM
sleep 0.5
start_daemon
end_daemon KILL
sleep 0.5
start_daemon
sleep 0.5
printf '  client# kill -INT ping\n'
kill -INT "$ping"
wait "$ping" || true
tail -n 3 "$work/ping" | sed 's/^/      /'
# Each number up to the last one has its answer.
answered=$(grep -c ' bytes from ' "$work/ping") || true
last=$(sed -n 's/.* icmp_seq=\([0-9]*\) .*/\1/p' "$work/ping" | tail -n 1)
[[ $answered -gt 20 && $answered -eq $last ]] || give_up "$answered of ${last:-0} pings were answered"

title "How the kernel knows"
run router nft list map inet ipfloater floating_to_fixed4
expect "$FLOATING : $FRONT_IP"

title "The web server gets one again: the next that is free"
run router ipfloater getip $WEB_IP
expect "203.0.113.228 -> $WEB_IP"
ask client 203.0.113.228 || give_up "203.0.113.228 does not answer"
expect "this is web"

title "The live router"
run router ipfloater status
expect "$FLOATING"
expect "$FRONT_IP"
