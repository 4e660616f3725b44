"""The kill switch, for whoever asks about a policy while nothing is decided by it."""

from __future__ import annotations

import time

import click

from ipcwarden.cli.disable import spoken
from ipcwarden.core.record import timestamp
from ipcwarden.core.switch import is_switched_off
from ipcwarden.errors import printable
from ipcwarden.host.account import places_at
from ipcwarden.host.switch import read_switch


def tell_if_off(root: str) -> None:
    """Say on standard error that the switch is on, where it is."""
    switch = read_switch(root, places_at(root).owners)
    now = time.time_ns()
    if switch is None or not is_switched_off(switch, timestamp(now, tuple(time.gmtime(now // 10**9)))):
        return
    until = spoken(switch.until) if switch.until else "ipcwarden enable"
    because = f": {switch.reason}" if switch.reason else ""
    click.echo(printable(f"note: ipcwarden is disabled until {until}, containers start ungoverned{because}"), err=True)
