"""`netkit bridge`: a bridge and the network on it, in one word; and the host's links put into it.

netkit bridge add br0 --address 192.168.100.1/24
"""

from typing import Any

import click

from netkit.cli import completion
from netkit.cli.base import Door, Lazy, each, verb
from netkit.cli.daemon import switch
from netkit.model.names import parse_interface
from netkit.model.spec import parse_subnet


@click.group("bridge", cls=Lazy)
def bridge() -> None:
    """Bridges, each with the network on it."""


@verb("add", changes=True, quiet=True)
@click.argument("name")
@click.option("--address", default="", metavar="CIDR", help="The bridge's own; a free subnet without it.")
@click.option("--fixed-cidr", default="", metavar="CIDR", help="Where containers' addresses come from.")
@switch("icc", True, "Let its containers talk to each other without links.")
@switch("ip-masq", True, "Masquerade what leaves it.")
@switch("internal", False, "No way in or out.")
@click.option("--mtu", type=int, default=0)
@click.option("--adopt", is_flag=True, help="Use a bridge that exists; it is never removed.")
def add(door: Door, name: str, **given: Any) -> None:
    """Make a bridge, and a network of the same name on it."""
    parse_interface(name)
    address, fixed = given["address"], given["fixed_cidr"]
    body = {
        "Name": name,
        "Address": str(parse_subnet(address, "address")) if address else "",
        "FixedCidr": str(parse_subnet(fixed, "fixed-cidr")) if fixed else "",
        "Icc": given["icc"],
        "IpMasq": given["ip_masq"],
        "Internal": given["internal"],
        "Mtu": given["mtu"],
        "Adopt": given["adopt"],
    }
    answer = door.change("POST", "/netkit/bridges", body)
    door.said(answer["Name"] if door.quiet else f"{answer['Name']} {answer['Address']}", answer)


@verb("ls", quiet=True)
def ls(door: Door) -> None:
    """List bridges."""
    found = door.client.get("/netkit/bridges")
    if door.quiet and not door.as_json:
        for row in found:
            click.echo(row["Name"])
        return
    titles = ("BRIDGE", "NETWORK", "ADDRESS", "RANGE", "MTU", "ICC", "ADOPTED", "PORTS", "CONTAINERS")
    door.rows(titles, (_row(each_) for each_ in found), found)


@verb("show")
@click.argument("name", shell_complete=completion.bridges)
def show(door: Door, name: str) -> None:
    """Show one bridge."""
    found = door.client.get(f"/netkit/bridges/{name}")
    if door.as_json:
        door.json(found)
        return
    for key, value in found.items():
        click.echo(f"{key}: {', '.join(value) if isinstance(value, list) else value}")


@verb("rm", changes=True)
@click.argument("names", nargs=-1, required=True, shell_complete=completion.bridges)
def rm(door: Door, names: tuple[str, ...]) -> None:
    """Remove bridges and their networks; an adopted one stays and is only let go."""
    each(door, names, lambda name: door.change("DELETE", f"/netkit/bridges/{name}"))


@verb("attach", changes=True)
@click.argument("name", shell_complete=completion.bridges)
@click.argument("interface")
def attach(door: Door, name: str, interface: str) -> None:
    """Put an interface of the host into a bridge."""
    door.change("POST", f"/netkit/bridges/{name}/attach", {"Interface": interface})
    door.done({"Bridge": name, "Interface": interface})


@verb("detach", changes=True)
@click.argument("name", shell_complete=completion.bridges)
@click.argument("interface")
def detach(door: Door, name: str, interface: str) -> None:
    """Take an interface of the host out of a bridge."""
    door.change("POST", f"/netkit/bridges/{name}/detach", {"Interface": interface})
    door.done({"Bridge": name, "Interface": interface})


def _row(found: dict[str, Any]) -> tuple[Any, ...]:
    words = ("Name", "Network", "Address", "IPRange", "Mtu")
    flags = ("yes" if found[key] else "no" for key in ("Icc", "Adopted"))
    return (*(found[key] for key in words), *flags, ",".join(found["Ports"]), found["Containers"])


for _command in (add, ls, show, rm, attach, detach):
    bridge.add_command(_command)
