"""Images in the words of Docker's API; pure.

>>> summary(image, image.names, 0)["RepoTags"]
['busybox:latest']
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from netkit.daemon import clock

if TYPE_CHECKING:
    from netkit.runtime.images import Image


def inspect(image: "Image") -> dict[str, Any]:
    """GET /images/X/json."""
    return {
        "Id": image.id,
        "RepoTags": list(image.names),
        "RepoDigests": [],
        "Parent": "",
        "Comment": "",
        "Created": image.created,
        "DockerVersion": "",
        "Author": "",
        "Config": _config(image),
        "Architecture": image.architecture,
        "Os": "linux",
        "Size": image.size,
        "GraphDriver": {"Name": "overlayfs", "Data": {"LowerDir": ":".join(image.lowers)}},
        "RootFS": {"Type": "layers", "Layers": [image.id]},
        "Metadata": {"LastTagTime": clock.NEVER},
    }


def operation(verb: str, kind: str, name: str) -> dict[str, str]:
    """What a dry run answers: images are no resources, but are read like them."""
    sign = {"create": "+", "delete": "-"}[verb]
    return {"Verb": verb, "Kind": kind, "Name": name, "Owner": "", "Text": f"{sign} {verb} {kind} {name}"}


def summary(image: "Image", names: Sequence[str], containers: int) -> dict[str, Any]:
    """An item of GET /images/json, with those of its names that are asked for."""
    return {
        "Id": image.id,
        "ParentId": "",
        "RepoTags": list(names),
        "RepoDigests": [],
        "Created": int(clock.seconds(image.created)),
        "Size": image.size,
        "SharedSize": -1,
        "Labels": dict(image.labels) or None,
        "Containers": containers,
    }


def _config(image: "Image") -> dict[str, Any]:
    return {
        "Env": list(image.env),
        "Cmd": list(image.command) or None,
        "Entrypoint": list(image.entrypoint) or None,
        "WorkingDir": image.workdir,
        "User": image.user,
        "ExposedPorts": {f"{port}/{protocol}": {} for port, protocol in image.exposed},
        "Labels": dict(image.labels) or None,
        "StopSignal": image.stop_signal,
    }
