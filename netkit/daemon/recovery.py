"""Taking over a host: what a daemon does before it answers, after a crash or a clean stop alike.

There is no clean-up code: the intent is brought up to date with what has ended meanwhile, the
default network is set as the options ask, and one reconcile does the rest. Then processes that
were created and not started are started, running ones are watched, and those that their restart
policy brings back come back.

    service = await take_over(options, events)
"""

import logging
import os
import secrets
from functools import partial
from pathlib import Path

from netaddr import IPNetwork

from netkit.core import ipam
from netkit.core import link as linking
from netkit.core.admit import container as containers
from netkit.core.admit import default
from netkit.daemon.events import Events
from netkit.daemon.options import Options
from netkit.daemon.service import Service
from netkit.engine.apply import Engine
from netkit.engine.facts import Facts
from netkit.engine.failpoint import Failpoint
from netkit.engine.registry import build
from netkit.engine.store import Store, now
from netkit.errors import ApplyError, NetkitError, SpecError
from netkit.model.names import parse_interface
from netkit.model.request import Caller, NetworkRequest
from netkit.model.spec import (
    DEFAULT_BRIDGE,
    DEFAULT_NETWORK,
    Container,
    Host,
    Intent,
    parse_address,
    parse_subnet,
)
from netkit.runtime.images import Images
from netkit.runtime.places import Places

log = logging.getLogger(__name__)

_CALLER = Caller(user="netkit", verb="daemon start")


def check(options: Options) -> None:
    """Refuse what is malformed before anything is touched. Raises SpecError."""
    if options.bridge and options.bridge != "none":
        parse_interface(options.bridge)
    for text, what in ((options.bip, "--bip"), (options.fixed_cidr, "--fixed-cidr")):
        if text:
            parse_subnet(text, what)
    for text, what in ((options.ip, "--ip"), (options.default_gateway, "--default-gateway")):
        if text:
            parse_address(text, what)
    for text in options.pools:
        ipam.parse_pool(text)
    if not options.icc and not options.iptables:
        raise SpecError("--icc=false needs --iptables=true", hint="links and icc are made of rules")


async def take_over(options: Options, events: Events) -> Service:
    """Open the state folder and make the host match it. Raises NetkitError."""
    state_dir = Path(options.state_dir)
    Places(state_dir).shut()
    store = Store(state_dir)
    if store.damaged:
        log.error("the state file was damaged: kept as %s, rebuilt from its copies", store.damaged)
    for entry in store.interrupted():
        log.warning("interrupted at %s by %s: %s; it is mended now", entry.time, entry.user, entry.verb)
    hands = build(state_dir, store.sysctls, options.variant)
    engine = Engine(store, hands.drivers, Failpoint.parse(os.environ.get("NETKIT_FAILPOINT", "")))
    facts = Facts(_host(options, state_dir), hands.network)
    service = Service(store, engine, hands, facts, Images(state_dir / "images"), events)
    try:
        back = await service.call(_settle, service, engine, options)
    except BaseException:
        service.close()
        raise
    await service.call(_resume, service, back)
    return service


def _host(options: Options, state_dir: Path) -> Host:
    """The facts that the options fix."""
    return Host(
        state_dir=str(state_dir),
        iptables=options.iptables,
        ip_forward=options.ip_forward,
        default_ip=parse_address(options.ip or "0.0.0.0", "--ip"),
        pools=tuple(ipam.parse_pool(text) for text in options.pools),
    )


def _settle(service: Service, engine: Engine, options: Options) -> list[Container]:
    """Bring the intent up to date, then the kernel; returns what is to be started again."""
    ended = [c for c in service.intent.containers.values() if c.running and not _alive(service, c)]
    for container in ended:
        state = service.runtime.status(container.id)
        end = containers.Ending(
            exit_code=state.exit_code,
            started=state.started,
            finished=state.finished or now(),
            oom_killed=state.oom,
        )
        engine.adjust(partial(_ended, container=container, end=end))
    if not any(net.default for net in service.intent.networks.values()):
        _reconcile(service)  # a bridge of a forgotten one would be in the way of the new one
    host, new_id, time = service.host(links=True), secrets.token_hex(32), now()
    _warn_of_absent(service.host(wanted=()))
    if options.bridge == "none":
        engine.adjust(lambda intent: (default.drop_default(intent), None))
        _reconcile(service)
    else:
        request = _default_network(options)
        engine.adjust(lambda intent: _set_default(intent, request, host, new_id=new_id, now=time))
        _reconcile(service)
    for container in ended:
        if container.auto_remove:
            service.runtime.remove(container.id)
    for name in service.runtime.sweep(service.intent.containers.keys()):
        log.info("removed what was left of %s", name)
    return [c for c in service.intent.containers.values() if _comes_back(c)]


def _warn_of_absent(host: Host) -> None:
    """An address may come later than the daemon does, so that this is no reason not to start."""
    at = host.default_ip
    if int(at) and not any(at in own for own in host.own):
        log.warning("this host has no address %s (--ip): no port can be published there until it has", at)


def _reconcile(service: Service) -> None:
    """Make the host match the intent. A NIC or bridge that has gone is no reason to serve nobody."""
    try:
        service.mend(_CALLER)
    except ApplyError as err:
        if not err.passed:
            raise
        log.error("%s; left until `netkit reconcile`: %s", err, "; ".join(err.left))


def _comes_back(container: Container) -> bool:
    """Whether its restart policy has it run when the daemon starts; `always` means always."""
    if container.running or not container.started:
        return False
    return container.restart.policy == "always" or containers.comes_back(container)


def _set_default(
    intent: Intent, request: NetworkRequest, host: Host, *, new_id: str, now: str
) -> tuple[Intent, object]:
    """Leave the default network as it is where the options ask for nothing else."""
    changed, network_ = default.set_default(intent, request, host, new_id=new_id, now=now)
    return (intent, network_) if intent.networks.get(network_.id) == network_ else (changed, network_)


def _ended(intent: Intent, container: Container, end: containers.Ending) -> tuple[Intent, Container]:
    intent, stopped = containers.stop(intent, container.id, end)
    return containers.remove(intent, container.id) if container.auto_remove else (intent, stopped)


def _alive(service: Service, container: Container) -> bool:
    return service.runtime.status(container.id).status in {"created", "running", "paused"}


def _default_network(options: Options) -> NetworkRequest:
    """What `--bip`, `--bridge`, `--fixed-cidr`, `--icc` and the like ask for."""
    bip: IPNetwork | None = parse_subnet(options.bip, "--bip") if options.bip else None
    if bip is not None and options.bridge:
        raise SpecError("--bip and --bridge exclude each other", hint="a bridge has its own address")
    if bip is not None and bip.ip == bip.cidr.ip:
        raise SpecError(f"--bip {bip} names no host address", hint="for example 10.211.55.1/24")
    gateway = options.default_gateway
    return NetworkRequest(
        name=DEFAULT_NETWORK,
        bridge=options.bridge or DEFAULT_BRIDGE,
        adopt=bool(options.bridge),
        subnet=bip,
        ip_range=parse_subnet(options.fixed_cidr, "--fixed-cidr") if options.fixed_cidr else None,
        router=parse_address(gateway, "--default-gateway") if gateway else None,
        icc=options.icc,
        masquerade=options.ip_masq,
        mtu=options.mtu,
    )


def _resume(service: Service, back: list[Container]) -> None:
    """Start what was only created, watch what runs, bring back what is to come back."""
    for container in tuple(service.intent.containers.values()):
        if container.running:
            service.resume(container)
    for container in linking.targets_first(service.intent, back):
        try:
            service.start(container.id, Caller(user="netkit", verb="restart policy"), again=True)
        except NetkitError as err:
            log.error("container %s could not be started again: %s", container.name, err)
