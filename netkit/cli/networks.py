"""`netkit network`: create, look at, connect, disconnect, remove.

netkit network create --subnet 10.5.0.0/24 --no-icc lab
"""

from typing import Any

import click

from netkit.cli import completion
from netkit.cli.base import Door, Lazy, each, mapping, verb
from netkit.cli.daemon import switch
from netkit.cli.inspect import show, with_template
from netkit.cli.wishes import endpoint_body
from netkit.model.spec import parse_subnet
from netkit.model.words import parse_ipv4, parse_mac

_ICC = "com.docker.network.bridge.enable_icc"
_MTU = "com.docker.network.driver.mtu"


@click.group("network", cls=Lazy)
def network() -> None:
    """Networks on this host."""


@verb("create", changes=True, quiet=True)
@click.argument("name")
@click.option("--driver", "-d", default="bridge", show_default=True)
@click.option("--subnet", default="", metavar="CIDR")
@click.option("--ip-range", "--fixed-cidr", default="", metavar="CIDR", help="Where addresses come from.")
@click.option("--gateway", default="", metavar="IP")
@click.option("--aux-address", multiple=True, metavar="NAME=IP", help="Addresses that are somebody else's.")
@switch("internal", False, "No way in or out.")
@switch("icc", True, "Let its containers talk to each other without links.")
@click.option("--mtu", type=int, default=0)
@click.option("--opt", "-o", multiple=True, metavar="KEY=VALUE")
@click.option("--label", multiple=True, metavar="KEY=VALUE")
@switch("attachable", True, "Accepted for Docker's sake.")
def create(door: Door, name: str, opt: tuple[str, ...], label: tuple[str, ...], **given: Any) -> None:
    """Create a network."""
    options = mapping(opt, "--opt")
    if not given["icc"]:
        options[_ICC] = "false"
    if given["mtu"]:
        options[_MTU] = str(given["mtu"])
    pool = {
        "Subnet": str(parse_subnet(given["subnet"])) if given["subnet"] else "",
        "IPRange": str(parse_subnet(given["ip_range"], "ip range")) if given["ip_range"] else "",
        "Gateway": parse_ipv4(given["gateway"], "gateway") if given["gateway"] else "",
    }
    auxiliary = mapping(given["aux_address"], "--aux-address")
    config: dict[str, Any] = {key: value for key, value in pool.items() if value}
    if auxiliary:
        config["AuxiliaryAddresses"] = {k: parse_ipv4(v, f"--aux-address {k}=") for k, v in auxiliary.items()}
    body = {
        "Name": name,
        "Driver": given["driver"],
        "Internal": given["internal"],
        "IPAM": {"Config": [config] if config else []},
        "Options": options,
        "Labels": mapping(label, "--label"),
    }
    answer = door.change("POST", "/networks/create", body)
    door.said(answer["Id"], answer)


@verb("ls", quiet=True)
@click.option("--no-trunc", is_flag=True)
@click.option("--filter", "-f", "filters", multiple=True, metavar="KEY=VALUE")
def ls(door: Door, no_trunc: bool, filters: tuple[str, ...]) -> None:
    """List networks."""
    from netkit.cli.wishes import filter_words

    found = door.client.get("/networks", filters=filter_words(filters))
    cut = None if no_trunc else 12
    if door.quiet and not door.as_json:
        for net in found:
            click.echo(net["Id"][:cut])
        return
    rows = ((net["Id"][:cut], net["Name"], net["Driver"], net["Scope"], _subnet(net)) for net in found)
    door.rows(("NETWORK ID", "NAME", "DRIVER", "SCOPE", "SUBNET"), rows, found)


@verb("inspect")
@click.argument("names", nargs=-1, required=True, shell_complete=completion.networks)
@with_template
def inspect(door: Door, names: tuple[str, ...], template: str) -> None:
    """Show networks in full."""
    show(door, names, template, ["network"])


@verb("rm", changes=True)
@click.argument("names", nargs=-1, required=True, shell_complete=completion.networks)
@click.option("--force", "-f", is_flag=True, help="A network that does not exist is no error.")
def rm(door: Door, names: tuple[str, ...], force: bool) -> None:
    """Remove networks."""
    each(door, names, lambda name: door.change("DELETE", f"/networks/{name}"), missing_is_fine=force)


@verb("connect", changes=True)
@click.argument("name", shell_complete=completion.networks)
@click.argument("container", shell_complete=completion.containers)
@click.option("--ip", default="", metavar="IP")
@click.option("--mac-address", default="", metavar="MAC")
@click.option("--interface", default="", help="Name of the interface inside the container.")
@click.option("--alias", multiple=True)
@click.option("--link", multiple=True, metavar="NAME:ALIAS", shell_complete=completion.targets)
@click.option("--gw-priority", type=int, default=0, help="The highest has the default route.")
def connect(door: Door, name: str, container: str, **wish: Any) -> None:
    """Attach a container, running or not, to a network."""
    ip, mac = wish["ip"], wish["mac_address"]
    config = endpoint_body(
        ip=parse_ipv4(ip) if ip else "",
        mac=parse_mac(mac) if mac else "",
        interface=wish["interface"],
        aliases=wish["alias"],
        priority=wish["gw_priority"],
        links=wish["link"],
    )
    door.change("POST", f"/networks/{name}/connect", {"Container": container, "EndpointConfig": config})
    door.done({"Network": name, "Container": container})


@verb("disconnect", changes=True)
@click.argument("name", shell_complete=completion.networks)
@click.argument("container", shell_complete=completion.containers)
@click.option("--force", "-f", is_flag=True)
def disconnect(door: Door, name: str, container: str, force: bool) -> None:
    """Detach a container from a network."""
    door.change("POST", f"/networks/{name}/disconnect", {"Container": container, "Force": force})
    door.done({"Network": name, "Container": container})


@verb("alias", changes=True)
@click.argument("name", shell_complete=completion.networks)
@click.argument("container", shell_complete=completion.containers)
@click.option("--add", multiple=True, metavar="ALIAS")
@click.option("--rm", "remove", multiple=True, metavar="ALIAS")
def alias(door: Door, name: str, container: str, add: tuple[str, ...], remove: tuple[str, ...]) -> None:
    """Change a container's aliases on a network."""
    body = {"Container": container, "Add": list(add), "Remove": list(remove)}
    door.change("POST", f"/netkit/networks/{name}/aliases", body)
    door.done({"Network": name, **body})


@verb("prune", changes=True)
@click.option("--force", "-f", is_flag=True, help="Do not ask.")
@click.option("--filter", "filters", multiple=True, metavar="KEY=VALUE")
def prune(door: Door, force: bool, filters: tuple[str, ...]) -> None:
    """Remove the networks that no container is attached to."""
    from netkit.cli.wishes import filter_words

    if not (force or door.dry_run):
        click.confirm("Remove all networks that no container is attached to?", abort=True, err=True)
    answer = door.change("POST", "/networks/prune", filters=filter_words(filters))
    door.said("\n".join(answer["NetworksDeleted"] or ["nothing to remove"]), answer)


def _subnet(net: dict[str, Any]) -> str:
    pools = (net.get("IPAM") or {}).get("Config") or []
    return pools[0].get("Subnet", "") if pools else ""


for _command in (create, ls, inspect, rm, connect, disconnect, alias, prune):
    network.add_command(_command)
