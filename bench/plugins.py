"""Peers that are programs: CNI's bridge plugin and netavark, each in a host of its own."""

import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from bench.hosts import Space

_CNI = Path("/usr/lib/cni")
_NETAVARK = "/usr/lib/podman/netavark"


class Plugin:
    """A host and a container's namespace, between which a program makes and removes a link."""

    name = ""

    def __init__(self):
        self.host, self.inside = Space(self.name), Space("ctr")
        self.folder = Path(tempfile.mkdtemp(prefix="nkb-"))

    def close(self):
        self.inside.close()
        self.host.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def timed(self, argv, text, **environment):
        began = time.perf_counter()
        done = subprocess.run(
            self.host.argv(*argv),
            input=text,
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
        )
        took = time.perf_counter() - began
        if done.returncode != 0:
            raise RuntimeError(f"{self.name}: {done.stdout[-300:]} {done.stderr[-300:]}")
        return took


class Cni(Plugin):
    """One `bridge` ADD or DEL with host-local addresses, a gateway and masquerading."""

    name = "cni"

    def attach(self):
        return self._do("ADD")

    def detach(self):
        return self._do("DEL")

    def _do(self, verb):
        ipam = {"type": "host-local", "subnet": "10.99.0.0/16", "dataDir": str(self.folder)}
        config = {"cniVersion": "1.0.0", "name": "bench", "type": "bridge", "bridge": "cni0"}
        config |= {"isGateway": True, "ipMasq": True, "ipam": ipam}
        return self.timed(
            [str(_CNI / "bridge")],
            json.dumps(config),
            CNI_COMMAND=verb,
            CNI_CONTAINERID="bench",
            CNI_NETNS=self.inside.path,
            CNI_IFNAME="eth0",
            CNI_PATH=str(_CNI),
        )


class Netavark(Plugin):
    """One `setup` or `teardown` of a bridge network."""

    name = "netavark"

    def attach(self):
        return self._do("setup")

    def detach(self):
        return self._do("teardown")

    def _do(self, verb):
        network = {
            "name": "bench",
            "id": "2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9",
            "driver": "bridge",
            "network_interface": "nv0",
            "subnets": [{"subnet": "10.98.0.0/16", "gateway": "10.98.0.1"}],
            "ipv6_enabled": False,
            "internal": False,
            "dns_enabled": False,
            "ipam_options": {"driver": "host-local"},
        }
        request = {
            "container_id": "6ce776ea58b5",
            "container_name": "bench",
            "networks": {"bench": {"static_ips": ["10.98.0.2"], "interface_name": "eth0"}},
            "network_info": {"bench": network},
        }
        argv = [_NETAVARK, "--config", str(self.folder), verb, self.inside.path]
        return self.timed(argv, json.dumps(request))
