#!/usr/bin/python3
"""Moves a floating IP to a host over D-Bus.

    dbus_client.py 203.0.113.7 10.0.0.5

Needs python3-dbus. What goes wrong has a name, such as
org.ipfloater.Error.AddressInUse, and a message for people.
"""

import sys

import dbus


def main(floating_ip, fixed_address):
    bus = dbus.SystemBus()
    manager = dbus.Interface(
        bus.get_object("org.ipfloater", "/org/ipfloater"), "org.ipfloater.Manager"
    )
    options = dbus.Dictionary({"reassociate": dbus.Boolean(True)}, signature="sv")
    try:
        result = manager.Associate(floating_ip, fixed_address, options)
    except dbus.DBusException as error:
        print(f"{error.get_dbus_name()}: {error.get_dbus_message()}", file=sys.stderr)
        return 1
    moved = "is now with" if result["changed"] else "was already with"
    print(f"{result['floating_ip']} {moved} {result['fixed_address']}, {result['state']}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
