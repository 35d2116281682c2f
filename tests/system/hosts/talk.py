"""talk.py ADDRESS...: talks to port 7 of each, over TCP and UDP, on connections
that last until standard input ends. Then says how it was."""

import select
import socket
import struct
import sys

PATIENCE = 2  # seconds; what takes longer is lost
TOTAL_RETRANSMISSIONS = 100  # where struct tcp_info has them, linux/tcp.h


def connect(address, kind):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connection = socket.socket(family, kind)
    connection.settimeout(PATIENCE)
    connection.connect((address, 7))
    return connection


tcp = [connect(address, socket.SOCK_STREAM) for address in sys.argv[1:]]
udp = [connect(address, socket.SOCK_DGRAM) for address in sys.argv[1:]]
for connection in tcp:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
print("talking", flush=True)

rounds = lost = 0
while not select.select([sys.stdin], [], [], 0.005)[0]:
    rounds += 1
    said = b"%016d" % rounds
    for connection in tcp + udp:
        connection.send(said)
    for connection in tcp:
        assert connection.recv(16, socket.MSG_WAITALL) == said
    for connection in udp:
        try:
            # A late answer to an earlier round is no answer to this one.
            while connection.recv(16) != said:
                pass
        except TimeoutError:
            lost += 1

retransmitted = 0
for connection in tcp:
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    retransmitted += struct.unpack_from("I", info, TOTAL_RETRANSMISSIONS)[0]
print(f"{rounds} rounds, {lost} lost, {retransmitted} retransmitted")
