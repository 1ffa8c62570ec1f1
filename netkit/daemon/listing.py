"""Which containers `ps` and prune mean: the filters of the container list, pure.

>>> passes(row, {"status": ("running",)}, intent)
True
"""

import re
from collections.abc import Mapping
from typing import Any

from netkit.core.admit import find
from netkit.daemon.call import Filters, passes_labels
from netkit.errors import NetkitError, SpecError
from netkit.model.names import nearest
from netkit.model.spec import Intent
from netkit.model.words import parse_ports

FILTERS = frozenset(
    "ancestor before exited expose id label name network publish since status volume health is-task".split()
)
PRUNE_FILTERS = frozenset({"label", "label!", "until"})
STATUSES = ("created", "restarting", "running", "removing", "paused", "exited", "dead")


def check(filters: Filters) -> None:
    """Raise SpecError for values that can never be."""
    for status in filters.get("status", ()):
        if status not in STATUSES:
            raise SpecError(f"invalid filter 'status={status}'", hint=nearest(status, STATUSES))
    for code in filters.get("exited", ()):
        if not code.lstrip("-").isdigit():
            raise SpecError(f"invalid filter 'exited={code}'", hint="a number")


def wants_stopped(filters: Filters) -> bool:
    """Filters that ask for stopped containers need no `all=1` besides."""
    return bool({"status", "exited"} & filters.keys())


def passes(row: Mapping[str, Any], exit_code: int, filters: Filters, intent: Intent) -> bool:
    """Whether an item of the list passes every filter named."""
    return all(_holds(row, exit_code, name, values, intent) for name, values in filters.items() if values)


def _holds(
    row: Mapping[str, Any], exit_code: int, name: str, values: tuple[str, ...], intent: Intent
) -> bool:
    match name:
        case "label":
            return passes_labels(row["Labels"], values)
        case "status":
            return row["State"] in values
        case "exited":
            return row["State"] == "exited" and str(exit_code) in values
        case "id":
            return any(row["Id"].startswith(value) for value in values)
        case "name":
            return any(_matches(value, word) for value in values for word in row["Names"])
        case "ancestor":
            return any(_is_image(row, value) for value in values)
        case "network":
            return any(_is_on(row, value, intent) for value in values)
        case "before" | "since":
            return any(_older(row, value, name == "before", intent) for value in values)
        case "publish" | "expose":
            key = "PublicPort" if name == "publish" else "PrivatePort"
            return any(_has_port(row, value, key) for value in values)
        case "health":
            return "none" in values
        case _:  # volumes and tasks: there are none
            return name == "is-task" and "false" in values


def _matches(pattern: str, name: str) -> bool:
    """Docker takes names as regular expressions, with or without the slash."""
    try:
        found = re.compile(pattern)
    except re.error as err:
        raise SpecError(f"invalid filter 'name={pattern}'", hint="a regular expression") from err
    return bool(found.search(name) or found.search(name.removeprefix("/")))


def _is_image(row: Mapping[str, Any], value: str) -> bool:
    plain = row["ImageID"].removeprefix("sha256:")
    named = value in {row["Image"], row["Image"].removesuffix(":latest")} or f"{row['Image']}:latest" == value
    return named or (len(value) >= 4 and plain.startswith(value.removeprefix("sha256:")))


def _is_on(row: Mapping[str, Any], value: str, intent: Intent) -> bool:
    attached: Mapping[str, Any] = row["NetworkSettings"]["Networks"]
    if value in attached:
        return True
    try:
        wanted = find.network(intent, value).id
    except NetkitError:
        return False
    return any(end["NetworkID"] == wanted for end in attached.values())


def _older(row: Mapping[str, Any], ref: str, before: bool, intent: Intent) -> bool:
    other = find.container(intent, ref)
    own = intent.containers[row["Id"]]
    return own.created < other.created if before else own.created > other.created


def _has_port(row: Mapping[str, Any], text: str, key: str) -> bool:
    number, _, protocol = text.partition("/")
    first, last = parse_ports(number, "port")
    return any(
        first <= port.get(key, 0) <= last and port["Type"] == (protocol or "tcp") for port in row["Ports"]
    )
