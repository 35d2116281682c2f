#!/usr/bin/env python3
"""Drives a daemon with a varlink client that is not ours: `varlink` of PyPI.

    varlink_client.py SOCKET FIXED_ADDRESS

Reads the interface from the daemon itself, gives the host a floating IP, sees
it in every way of reading, watches it go, and leaves the daemon as it was.
Prints a line for each step; the exit code is 0 when all of them went well. To
be run as root or as the daemon's user, with at least one free address.
"""

import sys

import varlink


def refused(name, call, *arguments, **named):
    """Expects the error of that name, and returns its parameters."""
    try:
        call(*arguments, **named)
    except varlink.VarlinkError as error:
        assert error.error() == name, f"{error.error()} instead of {name}"
        return error.parameters() or {}
    raise AssertionError(f"{name} was expected")


def step(text):
    print(text, flush=True)


def describe(client):
    """What the daemon tells about itself."""
    interfaces = client.get_interfaces()
    assert set(interfaces) >= {"org.ipfloater", "org.varlink.service"}
    for interface in interfaces:
        assert client.get_interface(interface).name == interface
    methods = client.get_interface("org.ipfloater").members
    for name in ("Allocate", "Associate", "Disassociate", "Release", "List", "Describe",
                 "ListPools", "GetStatus", "GetVersion", "History", "Monitor"):
        assert name in methods, name
    step("the interface is understood")


def read(daemon):
    """What anybody may read."""
    version = daemon.GetVersion()
    assert version["api_version"] >= 1
    assert daemon.GetStatus()["state"] in ("running", "degraded")
    assert daemon.ListPools()["pools"]
    step(f"ipfloaterd {version['version']} answers")


def change(daemon, watcher, fixed):
    """From the pool to the host and back, watched by somebody else."""
    events = watcher.Monitor(_more=True)
    first = next(events)
    while not first["ready"]:
        first = next(events)
    sequence = first["sequence"]

    made = daemon.Associate(fixed_address=fixed)
    address = made["address"]
    floating = address["floating_ip"]
    assert made["changed"] and address["fixed_address"] == fixed
    assert not daemon.Associate(fixed_address=fixed)["changed"]
    step(f"{fixed} has {floating}")

    assert daemon.Describe(address=fixed)["address"]["floating_ip"] == floating
    listed = daemon.List(filter={"fixed_address": fixed})["addresses"]
    assert [row["floating_ip"] for row in listed] == [floating]
    pages = list(daemon.List(_more=True))
    assert any(row["floating_ip"] == floating for page in pages for row in page["addresses"])
    step("every way of reading shows it")

    error = refused("org.ipfloater.TargetInUse", daemon.Associate,
                    fixed_address=fixed, floating_ip=another(daemon, floating))
    assert error["floating_ip"] == floating
    step("a second floating IP is refused")

    untied = daemon.Disassociate(address=floating)
    assert untied["previous_fixed_address"] == fixed
    assert daemon.Release(address=floating)["address"]["state"] == "free"
    assert not daemon.Release(address=floating)["changed"]
    step(f"{floating} is free again")

    verbs = []
    while "release" not in verbs:
        told = next(events)
        sequence += 1
        assert told["sequence"] == sequence, "events without gaps"
        verbs.append(told["event"]["verb"])
    asked = [verb for verb in verbs if verb not in ("activate", "defer", "repair")]
    assert asked == ["allocate", "associate", "disassociate", "release"], asked
    step("all of it was told as it happened")

    history = daemon.History(address=floating, limit=100)["events"]
    assert "release" in [event["verb"] for event in history]
    step("all of it is in the log")


def another(daemon, floating):
    """Another address of a pool than this one, free or not."""
    for pool in daemon.ListPools()["pools"]:
        for part in pool["addresses"]:
            for address in part.split("-"):
                if address != floating and (":" in address) == (":" in floating):
                    return address
    raise AssertionError("the pools have one address only")


def wrong(daemon):
    """What is wrong is refused by name."""
    invalid = refused("org.ipfloater.InvalidAddress", daemon.Describe, address="010.0.0.1")
    assert invalid["field"] == "address" and invalid["message"]
    refused("org.ipfloater.InvalidArgument", daemon.List, limit=0)
    refused("org.varlink.service.ExpectedMore", daemon.Monitor)
    step("what is wrong is refused by name")


def main():
    """All steps, in order."""
    socket, fixed = sys.argv[1:]
    with varlink.Client(address=f"unix:{socket}") as client:
        describe(client)
        with client.open("org.ipfloater") as daemon, client.open("org.ipfloater") as watcher:
            read(daemon)
            change(daemon, watcher, fixed)
            wrong(daemon)
    step("done")


if __name__ == "__main__":
    main()
