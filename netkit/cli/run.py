"""`netkit run` and `netkit create`: a container from the words of the command line.

netkit run -d --network br0 --link db:db -p 8080:80 box httpd -f
"""

import contextlib
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

import click

from netkit.cli import completion
from netkit.cli.base import Door, demand_terminal, mapping, verb
from netkit.cli.wishes import network_wish, parse_bytes, wish_body
from netkit.errors import NetkitError, SpecError
from netkit.model.names import nearest, parse_name
from netkit.model.words import parse_expose, parse_ipv4, parse_link, parse_mac, parse_publication

_POLICIES = ("no", "on-failure", "always", "unless-stopped")
_DAEMON_ERROR, _NOT_EXECUTABLE, _NOT_FOUND = 125, 126, 127
_NEVER = "0001-01-01T00:00:00Z"
_WORDS = {"ignore_unknown_options": False, "allow_interspersed_args": False}


def shared(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that run and create have in common."""
    many: dict[str, Any] = {"multiple": True}
    networks = {**many, "shell_complete": completion.networks}
    restart: dict[str, Any] = {"shell_complete": completion.fixed(*_POLICIES), "metavar": "POLICY"}
    options = [
        click.option("--interactive", "-i", is_flag=True, help="Keep stdin open."),
        click.option("--tty", "-t", "terminal", is_flag=True, help="Give it a terminal."),
        click.option("--rm", "remove", is_flag=True, help="Remove it when it has ended."),
        click.option("--name", default=""),
        click.option("--network", "--net", "networks", metavar="NAME|name=…,ip=…", **networks),
        click.option("--network-alias", "aliases", **many),
        click.option("--ip", default="", metavar="IP"),
        click.option("--mac-address", default="", metavar="MAC"),
        click.option("--link", "links", metavar="NAME:ALIAS", shell_complete=completion.targets, **many),
        click.option("--publish", "-p", "ports", metavar="[IP:][HOST]:CONTAINER[/PROTO]", **many),
        click.option("--publish-all", "-P", is_flag=True, help="Publish all exposed ports."),
        click.option("--expose", "exposed", metavar="PORT[/PROTO]", **many),
        click.option("--env", "-e", "env", metavar="KEY=VALUE|KEY", **many),
        click.option("--env-file", "env_files", shell_complete=completion.files, **many),
        click.option("--workdir", "-w", default=""),
        click.option("--user", "-u", default=""),
        click.option("--hostname", "-h", default=""),
        click.option("--domainname", default=""),
        click.option("--memory", "-m", default="", metavar="BYTES", help="For example 64m."),
        click.option("--cpus", type=float, default=0.0),
        click.option("--pids-limit", type=int, default=0),
        click.option("--cap-add", **many),
        click.option("--cap-drop", **many),
        click.option("--privileged", is_flag=True),
        click.option("--read-only", is_flag=True),
        click.option("--restart", default="no", help="no, on-failure[:N], always, …", **restart),
        click.option("--label", "-l", "labels", metavar="KEY=VALUE", **many),
        click.option("--add-host", "hosts", metavar="NAME:IP", **many),
        click.option("--dns", **many),
        click.option("--dns-search", **many),
        click.option("--dns-option", **many),
        click.option("--sysctl", "sysctls", metavar="KEY=VALUE", **many),
        click.option("--entrypoint", default=None),
        click.option("--stop-signal", default=""),
        click.option("--stop-timeout", type=int, default=None),
        click.option("--cidfile", default="", shell_complete=completion.files),
        click.argument("image", shell_complete=completion.images),
        click.argument("argv", nargs=-1, type=click.UNPROCESSED),
    ]
    for option in reversed(options):
        function = option(function)
    return function


@verb("create", changes=True, quiet=True, context_settings=_WORDS)
@shared
def create(door: Door, **given: Any) -> None:
    """Make a container and do not start it."""
    # Whoever starts it with -i is to end its stdin, as if it had been run.
    made = _create(door, given, attached=True)
    door.said(made["Id"], made)


@verb("run", changes=True, quiet=True, context_settings=_WORDS)
@click.option("--detach", "-d", is_flag=True, help="Leave it in the background and print its id.")
@click.option("--detach-keys", default="")
@shared
def run(door: Door, detach: bool, detach_keys: str, **given: Any) -> None:
    """Make a container and start it."""
    from netkit.cli.base import told

    if given["interactive"] and given["terminal"] and not (detach or door.dry_run):
        demand_terminal()
    try:
        if given["remove"] and given["restart"] != "no":
            raise SpecError("--rm and --restart exclude each other", hint="give one of them")
        made = _create(door, given, attached=not detach, start=True)
        with _taken_back(door, made["Id"], given["cidfile"]):
            if detach:
                door.change("POST", f"/containers/{made['Id']}/start")
                door.said(made["Id"], made)
                return
            from netkit.cli.streams import follow

            stdin, removed = given["interactive"], given["remove"]
            terminal = given["terminal"]
            code = follow(
                door, made["Id"], terminal=terminal, stdin=stdin, detach_keys=detach_keys, removed=removed
            )
    except NetkitError as err:
        told(err)
        raise click.exceptions.Exit(_code_of(err)) from err
    raise click.exceptions.Exit(code)


@contextlib.contextmanager
def _taken_back(door: Door, made: str, cidfile: str) -> Iterator[None]:
    """A container that could not be started is not left behind: an error changes nothing."""
    try:
        yield
    except NetkitError:
        with contextlib.suppress(NetkitError):
            if door.client.get(f"/containers/{made}/json")["State"]["StartedAt"] > _NEVER:
                raise
            door.client.delete(f"/containers/{made}")
        if cidfile:
            _remove(cidfile)
        raise


def _create(door: Door, given: dict[str, Any], *, attached: bool, start: bool = False) -> Any:
    body = create_body(given, attached=attached)
    name = parse_name(given["name"], "container") if given["name"] else ""
    with _cidfile("" if door.dry_run else given["cidfile"]) as noted:
        made = door.change("POST", "/containers/create", body, name=name, start=start and door.dry_run)
        noted.write(made["Id"])
    return made


@contextlib.contextmanager
def _cidfile(name: str) -> Iterator[IO[str]]:
    """A new file for the id, opened before anything is made, and gone where nothing is made."""
    if not name:
        yield io.StringIO()
        return
    try:
        file = open(name, "x")  # noqa: SIM115
    except FileExistsError as err:
        raise SpecError(f"{name} exists already", hint="remove it, or name another") from err
    except OSError as err:
        raise SpecError(f"cannot write {name}: {err.strerror}", hint="name another file") from err
    try:
        with file:
            yield file
    except BaseException:
        _remove(name)
        raise


def _remove(name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name)


def _code_of(err: NetkitError) -> int:
    """As `docker run`: 125 the daemon's fault, 126 not executable, 127 not found."""
    if err.status != SpecError.status:  # a file of the host's that is missing is no fault of the words
        return _DAEMON_ERROR
    if re.search(r"executable file not found|no such file or directory", err.message):
        return _NOT_FOUND
    if re.search(r"permission denied|is a directory", err.message):
        return _NOT_EXECUTABLE
    return _DAEMON_ERROR


def create_body(given: dict[str, Any], *, attached: bool) -> dict[str, Any]:
    """The body of POST /containers/create, as Docker's client would send it."""
    stdin = given["interactive"]
    body: dict[str, Any] = {
        "Image": given["image"],
        "Cmd": list(given["argv"]) or None,
        "Env": environment(given["env"], given["env_files"]),
        "WorkingDir": given["workdir"],
        "User": given["user"],
        "Hostname": given["hostname"],
        "Domainname": given["domainname"],
        "Labels": mapping(given["labels"], "--label"),
        "Tty": given["terminal"],
        "OpenStdin": stdin,
        "StdinOnce": stdin and attached,
        "AttachStdin": stdin and attached,
        "AttachStdout": attached,
        "AttachStderr": attached,
        "ExposedPorts": _exposed(given),
        "HostConfig": _host_config(given),
        "NetworkingConfig": {"EndpointsConfig": {}},
    }
    if given["entrypoint"] is not None:
        body["Entrypoint"] = [given["entrypoint"]] if given["entrypoint"] else [""]
    if given["stop_signal"]:
        body["StopSignal"] = given["stop_signal"]
    if given["stop_timeout"] is not None:
        body["StopTimeout"] = given["stop_timeout"]
    mode, endpoints = _networks(given)
    body["HostConfig"]["NetworkMode"] = mode
    body["NetworkingConfig"]["EndpointsConfig"] = endpoints
    return body


def environment(pairs: Iterable[str], files: Iterable[str]) -> list[str]:
    """Variables from files and words; a bare name takes our own value."""
    words = [word for name in files for word in _file_words(name)]
    found = []
    for word in [*words, *pairs]:
        if "=" in word:
            found.append(word)
        elif word in os.environ:
            found.append(f"{word}={os.environ[word]}")
    return found


def _file_words(name: str) -> Iterator[str]:
    """The variables in a file, a line each. As Docker: what is before a name is cut off, a value is kept."""
    try:
        with open(name, encoding="utf-8-sig", newline="\n") as file:
            lines = file.read().split("\n")
    except (OSError, UnicodeDecodeError) as err:
        reason = err.strerror if isinstance(err, OSError) else "it is no UTF-8 text"
        raise SpecError(f"cannot read {name}: {reason}", hint="one KEY=VALUE a line") from err
    for line in lines:
        text = line.removesuffix("\r").lstrip()
        variable = text.partition("=")[0]
        if not text or text.startswith("#"):
            continue
        if not variable:
            raise SpecError(f"no variable name on line {line!r} of {name}", hint="one KEY=VALUE a line")
        if set(variable) & set(" \t"):
            raise SpecError(f"variable {variable!r} in {name} has blanks", hint="write it as KEY=VALUE")
        yield text


def _exposed(given: dict[str, Any]) -> dict[str, Any]:
    pairs = [pair for text in given["exposed"] for pair in parse_expose(text)]
    pairs += [(port.port, port.protocol) for text in given["ports"] for port in parse_publication(text)]
    return {f"{port}/{protocol}": {} for port, protocol in pairs}


def _host_config(given: dict[str, Any]) -> dict[str, Any]:
    policy, _, attempts = given["restart"].partition(":")
    if policy not in _POLICIES or (attempts and not attempts.isdigit()):
        raise SpecError(f"unknown restart policy {given['restart']!r}", hint=nearest(policy, _POLICIES))
    return {
        "PortBindings": _bindings(given["ports"]),
        "PublishAllPorts": given["publish_all"],
        "Links": [":".join(parse_link(link)) for link in given["links"]],
        "AutoRemove": given["remove"],
        "RestartPolicy": {"Name": policy, "MaximumRetryCount": int(attempts or 0)},
        "Memory": parse_bytes(given["memory"]) if given["memory"] else 0,
        "NanoCpus": _nano_cpus(given["cpus"]),
        "PidsLimit": given["pids_limit"] or None,
        "CapAdd": list(given["cap_add"]),
        "CapDrop": list(given["cap_drop"]),
        "Privileged": given["privileged"],
        "ReadonlyRootfs": given["read_only"],
        "ExtraHosts": list(given["hosts"]),
        "Dns": [parse_ipv4(server, "name server") for server in given["dns"]],
        "DnsSearch": list(given["dns_search"]),
        "DnsOptions": list(given["dns_option"]),
        "Sysctls": mapping(given["sysctls"], "--sysctl"),
    }


def _nano_cpus(cpus: float) -> int:
    if not 0 <= cpus < 1_000_000:  # which "nan" is not either
        raise SpecError(f"invalid number of cpus {cpus:g}", hint="for example 1.5")
    return round(cpus * 1_000_000_000)


def _bindings(ports: Iterable[str]) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for text in ports:
        for port in parse_publication(text):
            place = {"HostIp": port.host_ip, "HostPort": port.outside if port.host_port else ""}
            found.setdefault(f"{port.port}/{port.protocol}", []).append(place)
    return found


def _networks(given: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The network mode, which is the first network, and every network's endpoint."""
    wishes = [network_wish(text) for text in given["networks"]] or [{"name": "default"}]
    first = wishes[0]
    if given["ip"]:
        first["ip"] = parse_ipv4(given["ip"])
    if given["mac_address"]:
        first["mac-address"] = parse_mac(given["mac_address"])
    if given["aliases"]:
        first["aliases"] = [*first.get("aliases", ()), *given["aliases"]]
    mode = first["name"]
    if mode in {"host", "none"} or mode.startswith("container:"):
        if len(wishes) > 1 or wish_body(first):
            raise SpecError(
                f"network mode {mode} excludes other networks, addresses and aliases", hint="leave them out"
            )
        return mode, {}
    names = ["bridge" if wish["name"] == "default" else wish["name"] for wish in wishes]
    for name in names:
        if name in {"host", "none"} or name.startswith("container:") or names.count(name) > 1:
            raise SpecError(f"network {name} is given beside others, or twice", hint="leave it out")
    endpoints = {name: wish_body(wish) for name, wish in zip(names, wishes, strict=True)}
    plain = len(wishes) == 1 and not any(endpoints.values())
    return mode, {} if plain else endpoints
