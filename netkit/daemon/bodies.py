"""The request bodies of the API, typed: Docker's own and those of `/netkit/…`.

The names are Docker's. What Docker has and we have not is listed in `harmless` or `refused`, so
that the stock client, which sends all its fields always, is understood and a typing error is not
swallowed. No translation here: see `shapes`, `shapes_create` and `shapes_network`.
"""

from typing import Annotated, Any

from msgspec import Meta, field

from netkit.daemon.body import Body

Int = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
"""Go's int64, in which Docker has its numbers."""


class IpamConfig(Body, frozen=True):
    """The wished-for addresses of an endpoint."""

    ipv4_address: str = field(name="IPv4Address", default="")
    refused = {"IPv6Address": (), "LinkLocalIPs": ()}


class EndpointBody(Body, frozen=True):
    """EndpointSettings: an attachment as asked for; what only answers hold is let through."""

    ipam_config: IpamConfig = field(name="IPAMConfig", default_factory=IpamConfig)
    links: list[str] = []
    aliases: list[str] = []
    mac_address: str = ""
    driver_opts: dict[str, str] = {}
    gw_priority: Int = 0
    harmless = frozenset(
        "NetworkID EndpointID Gateway IPAddress IPPrefixLen IPv6Gateway GlobalIPv6Address "
        "GlobalIPv6PrefixLen DNSNames".split()
    )


class NetworkingBody(Body, frozen=True):
    endpoints_config: dict[str, EndpointBody] = {}


class PortBinding(Body, frozen=True):
    host_ip: str = ""
    host_port: str | int = ""


class RestartBody(Body, frozen=True):
    name: str = ""
    maximum_retry_count: Int = 0


_NO_LOG_CHANGE = ("json-file", "local")


class LogBody(Body, frozen=True):
    refused = {"Type": _NO_LOG_CHANGE}
    harmless = frozenset({"Config"})


class HostBody(Body, frozen=True):
    """HostConfig."""

    network_mode: str = "default"
    port_bindings: dict[str, list[PortBinding] | None] = {}
    publish_all_ports: bool = False
    links: list[str] = []
    dns: list[str] = []
    dns_options: list[str] = []
    dns_search: list[str] = []
    extra_hosts: list[str] = []
    auto_remove: bool = False
    restart_policy: RestartBody = RestartBody()
    log_config: LogBody = LogBody()
    memory: Int = 0
    nano_cpus: Int = 0
    pids_limit: Int = 0
    cap_add: list[str] = []
    cap_drop: list[str] = []
    privileged: bool = False
    readonly_rootfs: bool = False
    sysctls: dict[str, str] = {}
    harmless = frozenset(
        "ContainerIDFile ConsoleSize Annotations Isolation Capabilities KernelMemoryTCP "
        "CpuCount CpuPercent IOMaximumIOps IOMaximumBandwidth".split()
    )
    refused = {
        **{
            name: ()
            for name in (
                "Binds Mounts VolumesFrom VolumeDriver Devices DeviceRequests DeviceCgroupRules "
                "GroupAdd Tmpfs Ulimits StorageOpt CgroupParent Cgroup CpuShares CpuPeriod "
                "CpuQuota CpuRealtimePeriod CpuRealtimeRuntime CpusetCpus CpusetMems "
                "MemoryReservation KernelMemory OomKillDisable OomScoreAdj BlkioWeight "
                "BlkioWeightDevice BlkioDeviceReadBps BlkioDeviceWriteBps BlkioDeviceReadIOps "
                "BlkioDeviceWriteIOps MaskedPaths ReadonlyPaths LxcConf DiskQuota Init"
            ).split()
        },
        "UsernsMode": ("host",),
        "PidMode": ("private",),
        "IpcMode": ("private", "shareable"),
        "UTSMode": ("private",),
        "CgroupnsMode": ("private",),
        "Runtime": ("runc", "crun", "netkit", "io.containerd.runc.v2"),
        "ShmSize": (64 << 20,),
        "MemorySwap": (-1,),
        "MemorySwappiness": (-1,),
        "SecurityOpt": (
            ["seccomp=unconfined"],
            ["apparmor=unconfined"],
            ["label=disable"],
            ["seccomp=unconfined", "apparmor=unconfined"],
        ),
    }


class HealthBody(Body, frozen=True):
    refused = {"Test": (["NONE"],)}
    harmless = frozenset({"Interval", "Timeout", "Retries", "StartPeriod", "StartInterval"})


class CreateBody(Body, frozen=True):
    """POST /containers/create: Config with HostConfig and NetworkingConfig inside.

    `entrypoint` tells null (the image's) from an empty list or [""] (none at all).
    """

    image: str
    cmd: list[str] | str = []
    entrypoint: list[str] | str | None = None
    env: list[str] = []
    labels: dict[str, str] = {}
    user: str = ""
    working_dir: str = ""
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    hostname: str = ""
    domainname: str = ""
    exposed_ports: dict[str, dict[str, Any] | None] = {}
    stop_signal: str = ""
    stop_timeout: Int = 10
    mac_address: str = ""
    healthcheck: HealthBody = HealthBody()
    host_config: HostBody = HostBody()
    networking_config: NetworkingBody = NetworkingBody()
    harmless = frozenset(
        "AttachStdin AttachStdout AttachStderr ArgsEscaped OnBuild Shell Name PortSpecs "
        "Platform PublishService".split()
    )
    refused = {
        name: () for name in "Volumes NetworkDisabled VolumeDriver Memory MemorySwap CpuShares Cpuset".split()
    }


class PoolBody(Body, frozen=True):
    """One entry of IPAM.Config."""

    subnet: str = ""
    ip_range: str = field(name="IPRange", default="")
    gateway: str = ""
    auxiliary_addresses: dict[str, str] = {}
    harmless = frozenset({"Network"})


class IpamBody(Body, frozen=True):
    driver: str = "default"
    config: list[PoolBody] = []
    refused = {"Options": ()}


class NetworkBody(Body, frozen=True):
    """POST /networks/create."""

    name: str
    driver: str = "bridge"
    enable_ipv4: bool = field(name="EnableIPv4", default=True)
    ipam: IpamBody = field(name="IPAM", default_factory=IpamBody)
    internal: bool = False
    attachable: bool = False
    options: dict[str, str] = {}
    labels: dict[str, str] = {}
    harmless = frozenset({"CheckDuplicate"})
    refused = {
        "EnableIPv6": (),
        "Ingress": (),
        "ConfigOnly": (),
        "ConfigFrom": ({"Network": ""},),
        "Scope": ("local",),
    }


class ConnectBody(Body, frozen=True):
    container: str
    endpoint_config: EndpointBody = EndpointBody()


class DisconnectBody(Body, frozen=True):
    container: str
    force: bool = False


class ExecBody(Body, frozen=True):
    """POST /containers/{id}/exec."""

    cmd: list[str] | str
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    detach_keys: str = ""
    tty: bool = False
    env: list[str] = []
    user: str = ""
    working_dir: str = ""
    privileged: bool = False
    harmless = frozenset({"ConsoleSize", "Detach", "Container"})


class ExecStartBody(Body, frozen=True):
    detach: bool = False
    tty: bool = False
    harmless = frozenset({"ConsoleSize", "DetachKeys"})


class UpdateBody(Body, frozen=True):
    """POST /containers/{id}/update: the restart policy is what can be changed."""

    restart_policy: RestartBody = RestartBody()
    refused = {name: accepted for name, accepted in HostBody.refused.items()} | {
        "Memory": (),
        "NanoCpus": (),
        "PidsLimit": (),
    }


class BridgeBody(Body, frozen=True):
    """POST /netkit/bridges."""

    name: str
    address: str = ""
    fixed_cidr: str = ""
    icc: bool | None = None
    ip_masq: bool | None = None
    internal: bool = False
    mtu: Int = 0
    adopt: bool = False
    labels: dict[str, str] = {}


class InterfaceBody(Body, frozen=True):
    interface: str


class PublishBody(Body, frozen=True):
    publish: list[str]


class LinkBody(Body, frozen=True):
    parent: str
    target: str
    alias: str = ""


class AliasBody(Body, frozen=True):
    container: str
    add: list[str] = []
    remove: list[str] = []
