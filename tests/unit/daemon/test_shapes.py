"""Docker's bodies to requests, and values to Docker's bodies."""

import json

import msgspec
import pytest
from netaddr import IPAddress, IPNetwork

from netkit.daemon import clock, events, shapes, shapes_create, shapes_network
from netkit.daemon.bodies import BridgeBody, CreateBody, EndpointBody, NetworkBody
from netkit.daemon.body import decode
from netkit.daemon.hijack import DetachKeys, parse_keys
from netkit.errors import Forbidden, NotFound, SpecError, Unsupported
from netkit.model.spec import (
    Container,
    Endpoint,
    Intent,
    Link,
    Network,
    Publish,
    Restart,
)
from netkit.runtime.containers import State
from tests.unit.daemon.fake_service import TIME, image

NET = Network(
    id="11" * 32,
    name="br0",
    bridge="br0",
    subnet=IPNetwork("10.9.0.1/24"),
    gateway=IPAddress("10.9.0.1"),
    ip_range=IPNetwork("10.9.0.64/26"),
    created=TIME,
    icc=False,
)
END = Endpoint(network=NET.id, id="ee" * 32, aliases=("www",), address=IPAddress("10.9.0.65"))
WEB = Container(
    id="aa" * 32,
    name="web",
    image="box",
    image_id="sha256:1",
    lowers=("/l",),
    created=TIME,
    command=("serve", "-v"),
    exposed=((80, "tcp"), (443, "tcp")),
    publish=(Publish(port=80),),
    published=(Publish(port=80, host_port=8080),),
    endpoints={NET.id: END},
    links=(Link(target="bb" * 32, alias="database"),),
    running=True,
    raw={"HostConfig": {"NetworkMode": "br0", "ShmSize": 67108864}},
)
DB = Container(id="bb" * 32, name="db", image="box", image_id="sha256:1", lowers=(), created=TIME)
INTENT = Intent({NET.id: NET}, {WEB.id: WEB, DB.id: DB})
RUNNING = State(status="running", pid=7, started=TIME)


def create(**body):
    data = json.dumps({"Image": "box", **body}).encode()
    return shapes_create.container(decode(CreateBody, data), image(**IMAGE), {})


IMAGE = {"entrypoint": ("init",), "user": "www", "workdir": "/srv", "stop_signal": "SIGINT"}


@pytest.mark.parametrize(
    ("body", "entrypoint", "command"),
    [
        ({}, ("init",), ("sh",)),
        ({"Cmd": ["ls"]}, ("init",), ("ls",)),
        ({"Entrypoint": ["run"]}, ("run",), ()),
        ({"Entrypoint": ["run"], "Cmd": ["a"]}, ("run",), ("a",)),
        ({"Entrypoint": [""], "Cmd": ["a"]}, (), ("a",)),
        ({"Entrypoint": [], "Cmd": None}, (), ("sh",)),
    ],
)
def test_command_and_entrypoint_merge_with_the_image_s(body, entrypoint, command):
    request = create(**body)
    assert (request.entrypoint, request.command) == (entrypoint, command)


def test_the_image_fills_what_the_request_leaves_open():
    request = create(Env=["LANG=de", "A=1"], Labels={"from": "me"}, ExposedPorts={"53/udp": {}})
    assert request.env == ("LANG=de", "A=1", "PATH=/bin")
    assert (request.user, request.workdir, request.stop_signal) == ("www", "/srv", "SIGINT")
    assert request.labels == {"from": "me"}
    assert request.exposed == ((53, "udp"), (80, "tcp"))
    assert create(User="root", WorkingDir="/").user == "root"
    assert create(Env=["LANG"]).env == ("PATH=/bin",)


def test_host_config_becomes_values():
    host = {
        "PortBindings": {
            "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}, {"HostPort": ""}],
            "53/udp": None,
            "54/udp": [{"HostIp": "0.0.0.0", "HostPort": "0"}],
        },
        "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
        "Links": ["/db:/web/database"],
        "Memory": 1 << 20,
        "PidsLimit": -1,
        "ExtraHosts": ["gw:host-gateway", "x=10.0.0.1"],
        "AutoRemove": True,
    }
    request = create(HostConfig=host)
    assert [port.describe() for port in request.publish] == [
        "127.0.0.1:8080->80/tcp",
        "0.0.0.0:0->80/tcp",
        "0.0.0.0:0->53/udp",
        "0.0.0.0:0->54/udp",
    ]
    assert [port.said for port in request.publish] == [True, False, False, True]
    assert request.restart == Restart(policy="on-failure", attempts=3)
    assert request.links == (("db", "database"),)
    assert (request.limits.memory, request.limits.pids) == (1 << 20, 0)
    assert request.extra_hosts == ("gw:host-gateway", "x:10.0.0.1")
    assert request.auto_remove


def test_a_range_of_host_ports_is_kept_for_the_start_to_choose_from():
    body = decode(
        CreateBody,
        b'{"Image": "x", "HostConfig": {"PortBindings": '
        b'{"80/tcp": [{"HostPort": "8000-8003"}], "81/tcp": [{"HostPort": "8000"}], "82/tcp": []}}}',
    )
    found = shapes_create.publications(body.host_config.port_bindings)
    assert [port.outside for port in found] == ["8000-8003", "8000", "0"]


@pytest.mark.parametrize(
    ("mode", "mentioned", "expected"),
    [
        ("default", {}, ("bridge", [])),
        ("bridge", {"default": {}}, ("bridge", ["bridge"])),
        ("br0", {"br0": None, "br1": {}}, ("br0", ["br0", "br1"])),
        ("none", {"none": {}}, ("none", [])),
        ("container:web", {}, ("container:web", [])),
    ],
)
def test_network_modes(mode, mentioned, expected):
    networking = {"EndpointsConfig": mentioned}
    request = create(HostConfig={"NetworkMode": mode}, NetworkingConfig=networking)
    assert (request.mode, [item.network for item in request.endpoints]) == expected


def test_endpoints_carry_what_is_wished_for():
    settings = {
        "IPAMConfig": {"IPv4Address": "10.9.0.7"},
        "Aliases": ["a"],
        "Links": ["db:d"],
        "MacAddress": "02-42-0A-00-00-01",
        "GwPriority": 5,
        "DriverOpts": {"com.docker.network.endpoint.ifname": "lan0"},
        "NetworkID": "",
    }
    body = decode(
        CreateBody,
        json.dumps({"Image": "x", "NetworkingConfig": {"EndpointsConfig": {"br0": settings}}}).encode(),
    )
    wish = shapes_create.endpoint("br0", body.networking_config.endpoints_config["br0"])
    assert (str(wish.ip), wish.mac, wish.interface) == ("10.9.0.7", "02:42:0a:00:00:01", "lan0")
    assert (wish.aliases, wish.links, wish.priority) == (("a",), (("db", "d"),), 5)
    with pytest.raises(SpecError, match="unknown endpoint option"):
        shapes_create.endpoint("br0", EndpointBody(driver_opts={"com.docker.network.endpoint.ifnam": "x"}))


@pytest.mark.parametrize(
    ("body", "error", "text"),
    [
        ({"HostConfig": {"Binds": ["/a:/b"]}}, Unsupported, "HostConfig.Binds"),
        ({"HostConfig": {"Mounts": [{"Target": "/a"}]}}, Unsupported, "HostConfig.Mounts"),
        ({"HostConfig": {"UsernsMode": "private"}}, Unsupported, "UsernsMode"),
        ({"HostConfig": {"PidMode": "host"}}, Unsupported, "PidMode"),
        ({"Volumes": {"/data": {}}}, Unsupported, "Volumes"),
        ({"HostConfig": {"Tmpfs": {"/run": ""}}}, Unsupported, "Tmpfs"),
        ({"HostConfig": {"Bindz": []}}, SpecError, "did you mean 'Binds'"),
        ({"HostConfig": {"PortBindings": {"80/ttp": []}}}, SpecError, "unknown protocol"),
        ({"HostConfig": {"PortBindings": {"80": [{"HostIp": "::1"}]}}}, SpecError, "not IPv4"),
        ({"HostConfig": {"RestartPolicy": {"Name": "always", "MaximumRetryCount": 2}}}, SpecError, "retry"),
        (
            {"HostConfig": {"NetworkMode": "none"}, "NetworkingConfig": {"EndpointsConfig": {"b": {}}}},
            SpecError,
            "excludes",
        ),
        ({"HostConfig": {"LogConfig": {"Type": "syslog"}}}, Unsupported, "LogConfig.Type"),
        ({"Healthcheck": {"Test": ["CMD", "x"]}}, Unsupported, "Healthcheck.Test"),
    ],
)
def test_what_cannot_be_done_is_refused_and_what_means_nothing_is_not(body, error, text):
    with pytest.raises(error) as caught:
        create(**body)
    assert text in str(caught.value)


def test_all_that_the_stock_client_sends_by_default_is_taken():
    host = {
        "Binds": None,
        "ContainerIDFile": "",
        "LogConfig": {"Type": "", "Config": {}},
        "NetworkMode": "bridge",
        "PortBindings": {},
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "AutoRemove": False,
        "VolumeDriver": "",
        "VolumesFrom": None,
        "ConsoleSize": [24, 80],
        "CapAdd": None,
        "CapDrop": None,
        "CgroupnsMode": "",
        "Dns": [],
        "DnsOptions": [],
        "DnsSearch": [],
        "ExtraHosts": None,
        "GroupAdd": None,
        "IpcMode": "",
        "Cgroup": "",
        "Links": None,
        "OomScoreAdj": 0,
        "PidMode": "",
        "Privileged": False,
        "PublishAllPorts": False,
        "ReadonlyRootfs": False,
        "SecurityOpt": None,
        "UTSMode": "",
        "UsernsMode": "",
        "ShmSize": 0,
        "Isolation": "",
        "CpuShares": 0,
        "Memory": 0,
        "NanoCpus": 0,
        "CgroupParent": "",
        "BlkioWeight": 0,
        "BlkioWeightDevice": [],
        "BlkioDeviceReadBps": [],
        "CpuPeriod": 0,
        "CpuQuota": 0,
        "CpusetCpus": "",
        "Devices": [],
        "DeviceCgroupRules": None,
        "DeviceRequests": None,
        "MemoryReservation": 0,
        "MemorySwap": 0,
        "MemorySwappiness": -1,
        "OomKillDisable": False,
        "PidsLimit": 0,
        "Ulimits": [],
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
        "MaskedPaths": None,
        "ReadonlyPaths": None,
    }
    request = create(
        Hostname="",
        Domainname="",
        User="",
        AttachStdin=False,
        AttachStdout=True,
        AttachStderr=True,
        Tty=False,
        OpenStdin=False,
        StdinOnce=False,
        Env=None,
        Cmd=["true"],
        Volumes={},
        WorkingDir="",
        Entrypoint=None,
        OnBuild=None,
        Labels={},
        HostConfig=host,
        NetworkingConfig={
            "EndpointsConfig": {
                "bridge": {
                    "IPAMConfig": None,
                    "Links": None,
                    "Aliases": None,
                    "MacAddress": "",
                    "DriverOpts": None,
                    "GwPriority": 0,
                    "NetworkID": "",
                    "EndpointID": "",
                    "Gateway": "",
                    "IPAddress": "",
                    "IPPrefixLen": 0,
                    "IPv6Gateway": "",
                    "GlobalIPv6Address": "",
                    "GlobalIPv6PrefixLen": 0,
                    "DNSNames": None,
                }
            }
        },
    )
    assert (request.command, request.mode) == (("true",), "bridge")


def test_networks_from_docker_s_words():
    body = {
        "Name": "br0",
        "IPAM": {
            "Driver": "default",
            "Options": {},
            "Config": [
                {
                    "Subnet": "10.211.55.0/24",
                    "IPRange": "10.211.55.64/26",
                    "Gateway": "10.211.55.1",
                    "AuxiliaryAddresses": {"nas": "10.211.55.9"},
                }
            ],
        },
        "Options": {
            "com.docker.network.bridge.name": "br7",
            "com.docker.network.bridge.enable_icc": "false",
            "com.docker.network.driver.mtu": "1450",
            "com.docker.network.bridge.host_binding_ipv4": "127.0.0.1",
        },
        "ConfigFrom": {"Network": ""},
        "Scope": "local",
        "EnableIPv6": False,
    }
    request = shapes_network.request(decode(NetworkBody, json.dumps(body).encode()))
    assert (str(request.subnet), str(request.ip_range)) == ("10.211.55.0/24", "10.211.55.64/26")
    assert (request.bridge, request.icc, request.masquerade, request.mtu) == ("br7", False, None, 1450)
    assert request.auxiliary == {"nas": IPAddress("10.211.55.9")}
    assert request.host_binding == IPAddress("127.0.0.1")


@pytest.mark.parametrize(
    ("body", "error", "text"),
    [
        ({"Options": {"com.docker.network.bridge.enable_ic": "1"}}, SpecError, "bridge.enable_icc"),
        ({"Options": {"com.docker.network.driver.mtu": "big"}}, SpecError, "mtu"),
        ({"Options": {"com.docker.network.bridge.host_binding_ipv4": "x"}}, SpecError, "host_binding_ipv4"),
        ({"Options": {"com.docker.network.bridge.enable_icc": "maybe"}}, SpecError, "true or false"),
        ({"Driver": "null"}, Forbidden, "only one instance"),
        ({"Driver": "overlay"}, NotFound, "no network driver"),
        ({"IPAM": {"Driver": "dhcp"}}, NotFound, "IPAM driver"),
        ({"IPAM": {"Config": [{}, {}]}}, Unsupported, "one subnet"),
        ({"IPAM": {"Config": [{"Subnet": "fd00::/64"}]}}, SpecError, "invalid subnet"),
        ({"EnableIPv4": False}, Unsupported, "without IPv4"),
        ({"Scope": "swarm"}, Unsupported, "Scope"),
    ],
)
def test_networks_that_cannot_be_made(body, error, text):
    with pytest.raises(error) as caught:
        shapes_network.request(decode(NetworkBody, json.dumps({"Name": "br0", **body}).encode()))
    assert text in str(caught.value)


def test_a_bridge_body_keeps_the_gateway_in_its_address():
    request = shapes_network.bridge_request(BridgeBody(name="br0", address="192.168.100.1/24"))
    assert (request.name, request.bridge, str(request.subnet)) == ("br0", "br0", "192.168.100.1/24")


def test_a_router_beside_the_bridge_is_asked_for_and_shown_as_docker_does():
    pool = {"Subnet": "10.9.0.3/24", "AuxiliaryAddresses": {"DefaultGatewayIPv4": "10.9.0.1"}}
    body = {"Name": "br0", "IPAM": {"Config": [pool]}}
    request = shapes_network.request(decode(NetworkBody, json.dumps(body).encode()))
    assert (str(request.router), request.auxiliary) == ("10.9.0.1", {})
    shown = shapes_network.summary(msgspec.structs.replace(NET, address=IPAddress("10.9.0.3")))
    assert shown["IPAM"]["Config"][0] == {
        "Subnet": "10.9.0.0/24",
        "Gateway": "10.9.0.3",
        "IPRange": "10.9.0.64/26",
        "AuxiliaryAddresses": {"DefaultGatewayIPv4": "10.9.0.1"},
    }


def test_a_network_as_docker_shows_it():
    body = shapes_network.inspect(NET, INTENT)
    assert body["IPAM"]["Config"] == [
        {"Subnet": "10.9.0.0/24", "Gateway": "10.9.0.1", "IPRange": "10.9.0.64/26"}
    ]
    assert body["Options"]["com.docker.network.bridge.enable_icc"] == "false"
    assert body["Containers"] == {
        WEB.id: {
            "Name": "web",
            "EndpointID": END.id,
            "MacAddress": "02:42:0a:09:00:41",
            "IPv4Address": "10.9.0.65/24",
            "IPv6Address": "",
        }
    }
    assert shapes_network.bridge(NET, INTENT)["Containers"] == 1


def test_a_container_as_docker_shows_it():
    body = shapes.inspect(WEB, INTENT, RUNNING, "/state")
    assert (body["Name"], body["Path"], body["Args"]) == ("/web", "serve", ["-v"])
    assert body["State"]["Running"]
    assert (body["State"]["Pid"], body["State"]["FinishedAt"]) == (7, "0001-01-01T00:00:00Z")
    assert body["HostConfig"]["NetworkMode"] == "br0"
    assert body["HostConfig"]["ShmSize"] == 67108864
    assert body["HostConfig"]["Links"] == ["/db:/web/database"]
    assert body["HostConfig"]["PortBindings"] == {"80/tcp": [{"HostIp": "", "HostPort": ""}]}
    settings = body["NetworkSettings"]
    assert settings["Ports"] == {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "443/tcp": None}
    assert settings["SandboxKey"] == f"/state/netns/{WEB.id}"
    end = settings["Networks"]["br0"]
    assert (end["IPAddress"], end["IPPrefixLen"], end["Gateway"]) == ("10.9.0.65", 24, "10.9.0.1")
    assert end["DNSNames"] == ["web", "www", WEB.id[:12]]
    json.dumps(body)


def test_a_stopped_container_has_no_address_and_no_ports():
    ends = {NET.id: msgspec.structs.replace(END, address=None)}
    web = msgspec.structs.replace(WEB, running=False, published=(), endpoints=ends)
    state = State(status="exited", exit_code=3, started=TIME, finished=TIME)
    body = shapes.inspect(web, INTENT, state, "/state")
    assert (body["State"]["Status"], body["State"]["ExitCode"], body["State"]["Pid"]) == ("exited", 3, 0)
    assert body["NetworkSettings"]["Ports"] == {}
    assert body["NetworkSettings"]["Networks"]["br0"]["IPAddress"] == ""
    row = shapes.summary(web, INTENT, state, clock.seconds(TIME) + 300)
    assert (row["Status"], row["Ports"]) == ("Exited (3) 5 minutes ago", [])


def test_a_row_of_ps():
    row = shapes.summary(WEB, INTENT, RUNNING, clock.seconds(TIME) + 7200)
    assert row["Status"] == "Up 2 hours"
    assert {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"} in row["Ports"]
    assert {"PrivatePort": 443, "Type": "tcp"} in row["Ports"]
    assert shapes.summary(DB, INTENT, State("created"), 0.0)["Names"] == ["/db", "/web/database"]


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (0.4, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (61, "About a minute"),
        (301, "5 minutes"),
        (3600, "About an hour"),
        (7200, "2 hours"),
        (3600 * 50, "2 days"),
        (3600 * 24 * 20, "2 weeks"),
        (3600 * 24 * 90, "3 months"),
        (3600 * 24 * 800, "2 years"),
    ],
)
def test_spans_of_time_read_as_docker_prints_them(span, text):
    assert clock.spell(span) == text


def test_moments():
    assert clock.parse_moment("12.5", 0) == 12.5
    assert clock.parse_moment("1h30m", 10_000) == 10_000 - 5400
    assert clock.parse_moment("1970-01-01T00:01:00Z", 0) == 60
    with pytest.raises(SpecError):
        clock.parse_moment("yesterday", 0)


def test_detach_keys_across_reads():
    keys = DetachKeys("")
    assert keys.feed(b"a\x10") == (b"a", False)
    assert keys.feed(b"b") == (b"\x10b", False)
    assert keys.feed(b"\x10") == (b"", False)
    assert keys.feed(b"\x10") == (b"\x10", False)
    assert keys.feed(b"\x11rest") == (b"", True)
    assert parse_keys("ctrl-@,ctrl-_,x") == b"\0\x1fx"
    for bad in ("ctrl-1", "ab", ""):
        with pytest.raises(SpecError):
            parse_keys(bad)


@pytest.mark.parametrize(
    ("filters", "passes"),
    [
        ({}, True),
        ({"type": ["container"]}, True),
        ({"type": ["network", "container"]}, True),
        ({"event": ["exec_create"]}, True),
        ({"event": ["start"]}, False),
        ({"container": ["web"]}, True),
        ({"container": ["aaaa"]}, True),
        ({"network": ["web"]}, False),
        ({"label": ["tier=front"]}, True),
        ({"label": ["tier=back"]}, False),
        ({"image": ["box"], "type": ["network"]}, False),
    ],
)
def test_event_filters(filters, passes):
    attributes = {"name": "web", "image": "box", "tier": "front"}
    event = events.Event("container", "exec_create: ls -l", "aaaabbbb", attributes, 0)
    assert events.matches(event, filters) is passes
