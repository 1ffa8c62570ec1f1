"""Admission of containers: creation, start with its leases and ports, stop, removal, names.

>>> intent, web = create(intent, request, host, new_id="4f…", now="…", random_name="calm_otter")
>>> intent, web = start(intent, web.id, host)
"""

import re
from collections.abc import Iterable

import msgspec

from netkit.core import link as linking
from netkit.core.admit import endpoint, find, link, ports
from netkit.errors import Conflict, NotFound, SpecError
from netkit.model import names
from netkit.model.request import ContainerRequest, EndpointRequest
from netkit.model.spec import DEFAULT_NETWORK, Container, Host, Intent

RESTART_POLICIES = ("no", "on-failure", "always", "unless-stopped")
_UNNETWORKED = ("none", "host")
_HOSTNAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LEAST_MEMORY = 6 << 20  # the least that a process can be started with, as Docker has it
_SYSCTLS = frozenset(
    f"kernel.{name}"
    for name in "msgmax msgmnb msgmni sem shmall shmmax shmmni shm_rmid_forced domainname".split()
)


class Ending(msgspec.Struct, frozen=True):
    """How a run ended: times in RFC 3339, the code as `docker run` gives it, or why it never began."""

    exit_code: int = 0
    started: str = ""
    finished: str = ""
    oom_killed: bool = False
    error: str = ""


def create(
    intent: Intent, request: ContainerRequest, host: Host, *, new_id: str, now: str, random_name: str
) -> tuple[Intent, Container]:
    """A container as asked for, stopped. Raises SpecError, NotFound, Conflict."""
    name = free_name(intent, request.name or random_name)
    _check(request)
    shared = set(ContainerRequest.__struct_fields__) & set(Container.__struct_fields__)
    copied = {field: getattr(request, field) for field in shared}
    exposed = sorted({*request.exposed, *((p.port, p.protocol) for p in request.publish)})
    hostname = request.hostname or ("" if request.mode == "host" else new_id[:12])
    copied |= {"id": new_id, "name": name, "created": now, "links": (), "endpoints": {}}
    copied |= {"exposed": tuple(exposed), "hostname": hostname, "mode": _mode(intent, request)}
    container = Container(**copied)
    for wish in _endpoints(request):
        container = endpoint.declare(intent, container, wish, host)
    intent = intent.with_container(container)
    wanted_links = [*request.links, *(pair for wish in _endpoints(request) for pair in wish.links)]
    for target, alias in wanted_links:
        intent, container = link.declare(intent, container, target, alias)
    return intent, container


def start(intent: Intent, ref: str, host: Host, again: bool = False) -> tuple[Intent, Container]:
    """The container as it is to run: addresses leased, ports chosen, links resolved.

    `again` says that its restart policy asks for it, which is counted.
    """
    container = find.container(intent, ref)
    if container.running:
        return intent, container
    _check_mode(intent, container)
    for end in sorted(container.endpoints.values(), key=lambda end: end.order):
        intent, container = endpoint.lease(intent, container, end, host)
    published = ports.choose(intent, container, host)
    for wanted in container.links:
        # One of a circle has to be first: what it is linked to opens when that one starts.
        if not link.waits(intent, container, wanted):
            link.check_open(intent, container, wanted)
    container = msgspec.structs.replace(
        container,
        running=True,
        halted=False,
        restarts=container.restarts + 1 if again else 0,
        published=published,
        link_env=_link_env(intent, container),
    )
    return intent.with_container(container), container


def stop(intent: Intent, ref: str, end: Ending) -> tuple[Intent, Container]:
    """The container at rest: its addresses and ports are free again."""
    container = find.container(intent, ref)
    ends = {k: msgspec.structs.replace(e, address=None) for k, e in container.endpoints.items()}
    container = msgspec.structs.replace(
        container,
        running=False,
        published=(),
        link_env=(),
        endpoints=ends,
        started=end.started or container.started,
        finished=end.finished,
        exit_code=end.exit_code,
        oom_killed=end.oom_killed,
        error=end.error,
    )
    return intent.with_container(container), container


def comes_back(container: Container) -> bool:
    """Whether its restart policy has it started once more after the end that it came to."""
    policy, attempts = container.restart.policy, container.restart.attempts
    if container.halted or policy == "no":
        return False
    if policy == "on-failure":
        return container.exit_code != 0 and (attempts == 0 or container.restarts < attempts)
    return True


def halt(intent: Intent, ref: str, halted: bool = True) -> tuple[Intent, Container]:
    """Note that somebody stopped it (or takes that back), for its restart policy."""
    container = msgspec.structs.replace(find.container(intent, ref), halted=halted)
    return intent.with_container(container), container


def remove(intent: Intent, ref: str) -> tuple[Intent, Container]:
    """Forget a container and the links that lead to it. Raises NotFound, Conflict while it runs."""
    container = find.container(intent, ref)
    if container.running:
        raise Conflict(
            f"container {container.name} is running",
            hint=f"stop it first, or use `netkit rm -f {container.name}`",
        )
    for parent, _ in linking.parents(intent, container.id):
        kept = tuple(item for item in parent.links if item.target != container.id)
        intent = intent.with_container(msgspec.structs.replace(parent, links=kept))
    return intent.without_container(container.id), container


def rename(intent: Intent, ref: str, name: str) -> tuple[Intent, Container]:
    """Give a container another name. Raises NotFound, Conflict, SpecError."""
    container = find.container(intent, ref)
    changed = msgspec.structs.replace(container, name=free_name(intent, name))
    return intent.with_container(changed), changed


def free_name(intent: Intent, name: str) -> str:
    """A valid container name that nobody has. Raises SpecError, Conflict."""
    name = names.parse_name(name, "container")
    for other in intent.containers.values():
        if other.name == name:
            raise Conflict(
                f"the container name {name!r} is in use by container {other.id[:12]}",
                hint="remove or rename that one, or choose another name",
            )
    return name


def _check(request: ContainerRequest) -> None:
    policy = request.restart.policy
    if policy not in RESTART_POLICIES:
        raise SpecError(f"unknown restart policy {policy!r}", hint=names.nearest(policy, RESTART_POLICIES))
    if request.auto_remove and policy != "no":
        raise SpecError("--rm and --restart exclude each other", hint="give one of them")
    _check_words(request)
    _check_name_service(request)
    if not (request.command or request.entrypoint):
        raise SpecError("no command specified", hint="the image has none: name one after the image")
    if request.mode in _UNNETWORKED or request.mode.startswith("container:"):
        if request.publish or request.publish_all:
            raise SpecError(f"ports cannot be published in network mode {request.mode}", hint="leave -p out")
        if request.endpoints:
            raise SpecError(f"network mode {request.mode} excludes other networks", hint="leave them out")


def _check_words(request: ContainerRequest) -> None:
    """What the OCI runtime would refuse, or take and not keep, once everything else is made."""
    if request.workdir and not request.workdir.startswith("/"):
        raise SpecError(f"working folder {request.workdir!r} is not absolute", hint="begin it with /")
    if request.hostname and not _HOSTNAME.fullmatch(request.hostname):
        raise SpecError(f"invalid host name {request.hostname!r}", hint="letters, digits, - and . only")
    if 0 < request.limits.memory < _LEAST_MEMORY:
        raise SpecError(f"a memory limit of {request.limits.memory} bytes is too small", hint="at least 6m")
    for name in request.sysctls:
        if not name.startswith(("net.", "fs.mqueue.")) and name not in _SYSCTLS:
            own = "net.…, fs.mqueue.… and kernel.shm…, kernel.msg… are"
            raise SpecError(f"sysctl {name} is not the container's own", hint=own)
        if name.startswith("net.") and request.mode == "host":
            raise SpecError(f"sysctl {name} would change the host's network", hint="leave it out")


def _check_name_service(request: ContainerRequest) -> None:
    """What becomes a part of a line of hosts or resolv.conf must not end that line."""
    named = {
        "domain name": (request.domainname,),
        "DNS server": request.dns,
        "search domain": request.dns_search,
        "DNS option": [word for option in request.dns_options for word in option.split(" ")],
    }
    for what, words in named.items():
        if bad := next((word for word in words if " " in word or not word.isprintable()), None):
            raise SpecError(f"invalid {what} {bad!r}", hint="one word, without blanks or line breaks")


def _mode(intent: Intent, request: ContainerRequest) -> str:
    """ "" for a container with endpoints, else none, host or container:ID."""
    if request.mode.startswith("container:"):
        return "container:" + find.container(intent, request.mode.removeprefix("container:")).id
    return request.mode if request.mode in _UNNETWORKED else ""


def _endpoints(request: ContainerRequest) -> Iterable[EndpointRequest]:
    """What to attach to, in the order declared; without any word on it, the default network."""
    if request.mode in _UNNETWORKED or request.mode.startswith("container:"):
        return ()
    first = DEFAULT_NETWORK if request.mode in {"", "default"} else request.mode
    if any(wish.network == first for wish in request.endpoints):
        return sorted(request.endpoints, key=lambda wish: wish.network != first)
    if request.mode in {"", "default"} and request.endpoints:
        return request.endpoints
    return (EndpointRequest(network=first), *request.endpoints)


def _check_mode(intent: Intent, container: Container) -> None:
    if not container.mode.startswith("container:"):
        return
    other = intent.containers.get(container.mode.removeprefix("container:"))
    if other is None or not other.running:
        raise NotFound(
            f"the container whose network {container.name} uses is not running",
            hint="start it first",
        )


def _link_env(intent: Intent, container: Container) -> tuple[str, ...]:
    words: list[str] = []
    for wanted in container.links:
        target = intent.containers[wanted.target]
        if address := linking.shared_address(container, target):
            path = f"/{container.name}/{wanted.alias}"
            words += linking.environment(path, wanted.alias, address, target.exposed, target.env)
    return tuple(words)
