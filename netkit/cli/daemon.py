"""`netkit daemon`: the options of one daemon, in the words that Docker's users know.

netkit daemon -H unix:///run/netkit/netkit.sock --icc=false --fixed-cidr 10.211.55.64/26
"""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from netkit.cli.base import Command
from netkit.client import DEFAULT_HOST, DEFAULT_STATE_DIR

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
_LEVELS = click.Choice(["debug", "info", "warning", "error"])


def switch(name: str, default: bool, text: str) -> Callable[[Decorated], Decorated]:
    """`--name`, `--no-name`, and (through `base.Command`) `--name=true|false`."""
    return click.option(f"--{name}/--no-{name}", name.replace("-", "_"), default=default, help=text)


@click.command("daemon", cls=Command)
@click.option("--host", "-H", "hosts", multiple=True, default=(), metavar="URL", help="Where to listen.")
@click.option("--state-dir", default=DEFAULT_STATE_DIR, show_default=True, help="Where state is kept.")
@click.option("--bridge", "-b", default="", help="Use an existing bridge; none for no default network.")
@click.option("--bip", default="", metavar="CIDR", help="Address of the default bridge.")
@click.option("--fixed-cidr", default="", metavar="CIDR", help="Range that containers get addresses from.")
@click.option(
    "--default-gateway", default="", metavar="IP", help="Router of the default network, if not the bridge."
)
@switch("icc", True, "Let containers of the default network talk to each other.")
@switch("iptables", True, "Write firewall rules.")
@switch("ip-forward", True, "Turn net.ipv4.ip_forward on.")
@switch("ip-masq", True, "Masquerade what leaves the default network.")
@click.option("--ip", default="", metavar="IP", help="Default host address of published ports.")
@click.option("--mtu", type=int, default=0, help="MTU of the default network; 0 is the uplink's.")
@click.option("--default-address-pool", "pools", multiple=True, metavar="base=CIDR,size=N")
@click.option("--log-level", type=_LEVELS, default="info", show_default=True)
@click.option("--iptables-variant", "variant", type=click.Choice(["auto", "nft", "legacy"]), default="auto")
def daemon(hosts: tuple[str, ...], **given: Any) -> None:
    """Run a daemon in the foreground.

    Its host is the network namespace it is started in.
    """
    import os

    from netkit.daemon.main import serve
    from netkit.daemon.options import Options

    where = hosts or (os.environ.get("NETKIT_HOST") or DEFAULT_HOST,)
    raise click.exceptions.Exit(serve(Options(hosts=where, **given)))
