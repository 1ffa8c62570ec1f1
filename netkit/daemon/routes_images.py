"""Images: list, inspect, import from a tar, remove.

A tar is unpacked while it comes in, in a thread of its own that pulls from the connection, so
that its size is the disk's matter only. Nothing is pulled from registries.
"""

import asyncio
import fnmatch
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, BinaryIO, cast

import msgspec
from aiohttp import StreamReader, web

from netkit.daemon import shapes_image
from netkit.daemon.call import Call, answer, empty, passes_labels
from netkit.errors import SpecError, Unsupported

if TYPE_CHECKING:
    from netkit.runtime.images import Image

_FILTERS = frozenset({"reference", "dangling", "label", "before", "since", "until"})
_OFFICIAL = ("docker.io/library/", "index.docker.io/library/", "docker.io/")
_REPOSITORY = re.compile(r"[a-z0-9]+([._/:-]+[a-z0-9]+)*")
_TAG = re.compile(r"\w[\w.-]{0,127}")


async def index(call: Call) -> web.Response:
    """GET /images/json."""
    filters = call.filters(_FILTERS)
    used = Counter(container.image_id for container in call.service.intent.containers.values())
    images = await asyncio.to_thread(call.service.images.all)
    references = filters.get("reference", ())
    shown = ((image, _named(image, references)) for image in images if _passes(image, filters))
    return answer(
        [shapes_image.summary(i, names, used[i.id]) for i, names in shown if names or not references]
    )


async def show(call: Call) -> web.Response:
    """GET /images/X/json."""
    image = await asyncio.to_thread(call.service.images.get, plain_name(call.ref))
    return answer(shapes_image.inspect(image))


async def create(call: Call) -> web.Response:
    """POST /images/create?fromSrc=-&repo=&tag=: the body is a tar of a root file system."""
    if call.text("fromSrc") != "-":
        wanted = call.text("fromImage") or call.text("fromSrc")
        raise Unsupported(
            f"image {wanted} cannot be pulled: netkit has no registry client",
            hint="netkit image import FILE.tar NAME",
        )
    name = _tagged(plain_name(call.text("repo")), call.text("tag"))
    if call.dry_run:
        return answer({"Operations": [shapes_image.operation("create", "image", name)]})
    changes = call.request.query.getall("changes", [])
    stream = cast(BinaryIO, _Upload(call.request.content))
    image = await asyncio.to_thread(call.service.images.import_tar, stream, name, changes)
    call.service.events.publish("image", "import", image.id, {"name": name})
    line = msgspec.json.encode({"status": image.id}) + b"\r\n"
    return web.Response(body=line, content_type="application/json")


async def remove(call: Call) -> web.Response:
    """DELETE /images/X."""
    ref = plain_name(call.ref)
    image = await asyncio.to_thread(call.service.images.get, ref)
    in_use: dict[str, list[str]] = defaultdict(list)
    for container in call.service.intent.containers.values():
        in_use[container.image_id].append(container.name)
    # On the engine's thread, so that no container is made of it meanwhile.
    untagged, deleted = await call.run(call.service.images.remove, ref, in_use, call.dry_run)
    if call.dry_run:
        names = [shapes_image.operation("delete", "image name", name) for name in untagged]
        content = [shapes_image.operation("delete", "image", deleted)] if deleted else []
        return answer({"Operations": [*names, *content]})
    for name in untagged:
        call.service.events.publish("image", "untag", image.id, {"name": name})
    gone = [{"Untagged": name} for name in untagged]
    if deleted:
        gone.append({"Deleted": deleted})
        call.service.events.publish("image", "delete", deleted, {"name": ref})
    return answer(gone)


async def tag(call: Call) -> web.Response:
    """POST /images/X/tag?repo=&tag=."""
    name = _tagged(plain_name(call.text("repo")), call.text("tag"))
    image = await asyncio.to_thread(call.service.images.tag, plain_name(call.ref), name)
    call.service.events.publish("image", "tag", image.id, {"name": name})
    return empty(201)


def plain_name(ref: str) -> str:
    """A name without the registry that clients put before it."""
    for prefix in _OFFICIAL:
        ref = ref.removeprefix(prefix)
    return ref


class _Upload:
    """The body of a request as a file for a thread to read."""

    def __init__(self, content: StreamReader) -> None:
        self._content = content
        self._loop = asyncio.get_running_loop()

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; b"" at the end. Raises what the connection raises."""
        return asyncio.run_coroutine_threadsafe(self._content.read(size), self._loop).result()


def _tagged(repository: str, tag: str) -> str:
    """The full name of an image to be. Raises SpecError."""
    name, _, own_tag = repository.partition(":")
    tag = tag or own_tag or "latest"
    if not _REPOSITORY.fullmatch(name) or not _TAG.fullmatch(tag):
        raise SpecError(
            f"invalid image name {repository!r}", hint="lower-case letters and digits, as in box:1.0"
        )
    return f"{name}:{tag}"


def _passes(image: "Image", filters: Mapping[str, tuple[str, ...]]) -> bool:
    dangling = not any(value.lower() in {"1", "true"} for value in filters.get("dangling", ()))
    return dangling and passes_labels(image.labels, filters.get("label", ()))


def _named(image: "Image", references: Sequence[str]) -> list[str]:
    """Those of its names that any of the patterns fits, with their tag or without; all of them for none."""

    def fits(name: str) -> bool:
        forms = (name, name.rpartition(":")[0])
        return any(fnmatch.fnmatchcase(form, plain_name(ref)) for form in forms for ref in references)

    return [name for name in image.names if not references or fits(name)]
