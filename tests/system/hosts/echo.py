"""Gives back what it gets on port 7, over TCP and UDP, IPv4 and IPv6."""

import socket
import threading


def tcp():
    listener = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("::", 7))
    listener.listen()
    while True:
        threading.Thread(target=answer, args=[listener.accept()[0]], daemon=True).start()


def answer(peer):
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while said := peer.recv(64):
        peer.sendall(said)


threading.Thread(target=tcp, daemon=True).start()
udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
udp.bind(("::", 7))
while True:
    said, whom = udp.recvfrom(64)
    udp.sendto(said, whom)
