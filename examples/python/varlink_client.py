#!/usr/bin/env python3
"""Moves a floating IP to a host over varlink, and tells what is so then.

    varlink_client.py 203.0.113.7 10.0.0.5 [SOCKET]

Needs the module varlink of PyPI.
"""

import sys

import varlink

SOCKET = "/run/ipfloater/org.ipfloater"


def everything(ipfloater):
    """All addresses that are not free. An answer has at most 1,000 of them."""
    after = None
    while True:
        page = ipfloater.List(after=after)
        yield from page["addresses"]
        after = page.get("next")
        if after is None:
            return


def main(floating_ip, fixed_address, socket=SOCKET):
    with varlink.Client.new_with_address(f"unix:{socket}") as client:
        with client.open("org.ipfloater") as ipfloater:
            try:
                result = ipfloater.Associate(
                    floating_ip=floating_ip, fixed_address=fixed_address, reassociate=True
                )
            except varlink.VarlinkError as error:
                name, parameters = error.error(), error.parameters()
                print(f"{name}: {parameters['message']}", file=sys.stderr)
                return 1
            address = result["address"]
            print(f"{address['floating_ip']} -> {address['fixed_address']}, {address['state']}")
            for other in everything(ipfloater):
                host = other.get("fixed_address", "nobody")
                print(f"  {other['floating_ip']} {other['state']}: {host}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
