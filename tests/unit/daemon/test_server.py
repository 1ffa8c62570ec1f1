"""The HTTP doors on a socket pair: versions, errors, Docker's own paths, streams."""

import asyncio
import contextlib
import getpass
import json
import socket
from urllib.parse import quote

import pytest
from aiohttp import web

from netkit.daemon import server
from netkit.errors import Conflict
from tests.unit.daemon.fake_service import FakeService, image


class Client:
    """HTTP/1.1 on one end of a socket pair, by hand, so that heads and half-closes can be seen."""

    def __init__(self, service, runner):
        self.service = service
        self._runner = runner

    @contextlib.asynccontextmanager
    async def connection(self):
        ours, theirs = socket.socketpair()
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(self._runner.server, theirs)
        reader, writer = await asyncio.open_connection(sock=ours)
        try:
            yield reader, writer
        finally:
            writer.close()
            await writer.wait_closed()

    async def ask(self, method, path, body=None, headers=()):
        async with self.connection() as (reader, writer):
            writer.write(request(method, path, body, headers))
            status, found = await head(reader)
            data = b""
            if method != "HEAD" and status not in {204, 304}:
                data = await reader.readexactly(int(found.get("content-length", 0)))
            return status, found, json.loads(data) if data[:1] in {b"{", b"["} else data

    async def get(self, path):
        status, _, body = await self.ask("GET", path)
        assert status == 200, body
        return body

    async def post(self, path, body=None, **options):
        return await self.ask("POST", path, body, **options)

    async def container(self, name="web", start=True, **body):
        status, _, made = await self.post(f"/containers/create?name={name}", {"Image": "box", **body})
        assert status == 201, made
        if start:
            assert (await self.post(f"/containers/{name}/start"))[0] == 204
        return made["Id"]


def request(method, path, body=None, headers=()):
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: d", f"Content-Length: {len(data)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + data


async def head(reader):
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
    pairs = (line.split(": ", 1) for line in lines)
    return int(first.split()[1]), {name.lower(): value for name, value in pairs}


def served(scenario):
    """Run `scenario(client)` against a server on a fake service."""

    async def run():
        service = FakeService()
        runner = web.AppRunner(server.application(service, "/state"), handler_cancellation=True)
        await runner.setup()
        try:
            await asyncio.wait_for(scenario(Client(service, runner)), 10)
        finally:
            await runner.cleanup()

    asyncio.run(run())


def test_ping_has_the_headers_that_clients_look_for():
    async def scenario(client):
        status, headers, body = await client.ask("GET", "/_ping")
        assert (status, body) == (200, b"OK")
        assert headers["api-version"] == "1.50"
        assert headers["ostype"] == "linux"
        assert headers["docker-experimental"] == "false"
        assert headers["cache-control"] == "no-cache, no-store, must-revalidate"
        assert (await client.ask("HEAD", "/_ping"))[0] == 200

    served(scenario)


@pytest.mark.parametrize(
    ("version", "text"),
    [
        ("1.51", "client version 1.51 is too new. Maximum supported API version is 1.50"),
        ("1.23", "client version 1.23 is too old. Minimum supported API version is 1.24"),
    ],
)
def test_versions_beyond_ours_are_refused_in_docker_s_words(version, text):
    async def scenario(client):
        status, _, body = await client.ask("GET", f"/v{version}/containers/json")
        assert status == 400
        assert body["message"].startswith(text)

    served(scenario)


def test_paths_are_served_with_and_without_a_version():
    async def scenario(client):
        plain, old, new = [await client.get(f"{v}/networks") for v in ("", "/v1.24", "/v1.50")]
        assert plain == old == new
        assert {row["Name"] for row in plain} == {"bridge", "host", "none"}

    served(scenario)


def test_unknown_paths_and_things_docker_has_and_we_have_not():
    async def scenario(client):
        assert (await client.ask("GET", "/nonsense"))[::2] == (404, {"message": "page not found"})
        assert (await client.ask("PATCH", "/version"))[0] == 404
        status, _, body = await client.post("/build")
        assert (status, body["kind"]) == (501, "Unsupported")
        assert (await client.ask("GET", "/swarm"))[0] == 503

    served(scenario)


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"{", 400, "malformed JSON"),
        (b"[]", 400, "not a JSON object"),
        (b'{"Nmae": "x"}', 400, "did you mean 'Name'"),
        (b'{"Name": 3}', 400, "expected `str`, got `int`"),
        (b'{"Name": "br0", "EnableIPv6": true}', 501, "EnableIPv6=true is not supported"),
        (b'{"Name": "br0", "Driver": "bridg"}', 404, "did you mean 'bridge'"),
        (b'{"Name": "br0", "Driver": "host"}', 403, "only one instance"),
        (b'{"Name": "a b"}', 400, "invalid network name"),
        (b'{"Name": "host"}', 403, "predefined"),
        (b'{"Name": "' + b"x" * (1 << 20) + b'"}', 413, "too large"),
    ],
)
def test_bad_bodies_are_told_and_change_nothing(body, status, text):
    async def scenario(client):
        before = client.service.intent
        got, _, answer = await client.post("/networks/create", body)
        assert got == status
        assert text in answer["message"]
        assert answer["message"].startswith(answer["error"])
        assert client.service.intent is before

    served(scenario)


def test_errors_carry_kind_and_hint():
    async def scenario(client):
        await client.container("web")
        status, _, body = await client.ask("GET", "/containers/wbe/json")
        assert (status, body["kind"], body["hint"]) == (404, "NotFound", "did you mean 'web'?")
        assert body["message"] == "no such container: wbe (did you mean 'web'?)"

    served(scenario)


def test_the_caller_is_known_by_socket_and_header():
    async def scenario(client):
        await client.post("/networks/create", {"Name": "a"}, headers=["X-Netkit-Verb: network create a"])
        await client.post("/v1.40/networks/create", {"Name": "b"})
        first, second = client.service.callers
        assert (first.user, first.verb) == (getpass.getuser(), "network create a")
        assert second.verb == "POST /networks/create"

    served(scenario)


def test_a_dry_run_answers_with_operations_and_changes_nothing():
    async def scenario(client):
        before = client.service.intent
        path = "/networks/create?dry_run=1"
        status, _, body = await client.post(
            path, {"Name": "a", "Options": {"com.docker.network.bridge.name": "br7"}}
        )
        assert status == 200
        (row,) = body["Operations"]
        assert (row["Verb"], row["Kind"], row["Name"], row["Owner"]) == (
            "create",
            "bridge",
            "br7",
            "network/a",
        )
        assert row["Text"] == "+ create bridge br7 mtu 1500"
        assert client.service.intent is before

    served(scenario)


def test_the_life_of_a_container():
    async def scenario(client):
        made = await client.container("web", start=False)
        assert (await client.get("/containers/json")) == []
        assert (await client.post("/containers/web/start"))[0] == 204
        assert (await client.post("/containers/web/start"))[0] == 304
        (row,) = await client.get("/containers/json")
        assert (row["Id"], row["Names"], row["State"]) == (made, ["/web"], "running")
        assert (await client.ask("DELETE", "/containers/web"))[0] == 409
        assert (await client.post("/containers/web/rename?name=site"))[0] == 204
        assert (await client.get(f"/containers/{made[:62]}/json"))["Name"] == "/site"
        assert (await client.post("/containers/site/stop"))[0] == 204
        assert (await client.post("/containers/site/stop"))[0] == 304
        assert (await client.post("/containers/site/kill"))[0] == 409
        assert (await client.ask("DELETE", "/containers/site"))[0] == 204
        assert (await client.get("/containers/json?all=1")) == []

    served(scenario)


def test_a_missing_image_is_a_404_that_says_so():
    async def scenario(client):
        status, _, body = await client.post("/containers/create", {"Image": "nix"})
        assert status == 404
        assert body["message"].startswith("No such image: nix:latest")

    served(scenario)


def test_ps_filters():
    async def scenario(client):
        await client.container("web", Labels={"tier": "front"})
        await client.container("db", start=False)

        async def names(filters):
            rows = await client.get(f"/containers/json?all=1&filters={quote(json.dumps(filters))}")
            return sorted(row["Names"][0] for row in rows)

        assert await names({"status": ["running"]}) == ["/web"]
        assert await names({"status": {"created": True}}) == ["/db"]
        assert await names({"label": ["tier=front"]}) == ["/web"]
        assert await names({"name": ["^/d"]}) == ["/db"]
        assert await names({"network": ["bridge"]}) == ["/db", "/web"]
        assert await names({"ancestor": ["box:latest"]}) == ["/db", "/web"]
        assert await names({"ancestor": ["other"]}) == []
        status, _, body = await client.ask("GET", '/containers/json?filters={"nmae":["x"]}')
        assert (status, body["hint"]) == (400, "did you mean 'name'?")

    served(scenario)


def test_networks_connect_inspect_and_disconnect():
    async def scenario(client):
        made = await client.container("web")
        body = {"Name": "br0", "IPAM": {"Config": [{"Subnet": "10.9.0.0/24"}]}}
        assert (await client.post("/networks/create", body))[0] == 201
        wish = {"Container": "web", "EndpointConfig": {"IPAMConfig": {"IPv4Address": "10.9.0.7"}}}
        assert (await client.post("/networks/br0/connect", wish))[0] == 200
        members = (await client.get("/networks/br0"))["Containers"]
        assert members[made]["IPv4Address"] == "10.9.0.7/24"
        settings = (await client.get("/containers/web/json"))["NetworkSettings"]
        assert settings["Networks"]["br0"]["MacAddress"] == "02:42:0a:09:00:07"
        assert settings["Networks"]["br0"]["Gateway"] == "10.9.0.1"
        assert (await client.post("/networks/br0/disconnect", {"Container": "web"}))[0] == 200
        assert (await client.get("/networks/br0"))["Containers"] == {}
        assert (await client.post("/networks/host/connect", {"Container": "web"}))[0] == 403
        assert (await client.ask("DELETE", "/networks/br0"))[0] == 204

    served(scenario)


def test_links_ports_and_bridges_of_netkit_s_own():
    async def scenario(client):
        await client.container("db")
        await client.container("web")
        status, _, link = await client.post("/netkit/links", {"Parent": "web", "Target": "db", "Alias": "d"})
        assert (status, link["Ports"], link["Open"]) == (201, ["80/tcp"], True)
        assert await client.get("/netkit/links") == [link]
        assert (await client.get('/containers/json?filters={"name":["db"]}'))[0]["Names"] == ["/db", "/web/d"]
        assert (await client.ask("DELETE", "/netkit/links?parent=web&alias=d"))[0] == 204
        _, _, answer = await client.post("/netkit/containers/web/publish", {"Publish": ["8080:80"]})
        assert answer["Ports"]["80/tcp"] == [{"HostIp": "0.0.0.0", "HostPort": "8080"}]
        _, _, answer = await client.post("/netkit/containers/web/unpublish", {"Publish": ["8080"]})
        assert answer["Ports"]["80/tcp"] is None
        status, _, bridge = await client.post("/netkit/bridges", {"Name": "br0", "Address": "10.8.0.1/24"})
        assert (status, bridge["Name"], bridge["Network"]) == (201, "br0", "br0")
        assert (await client.get("/netkit/bridges/br0"))["Subnet"] == "10.8.0.0/24"
        assert (await client.ask("GET", "/netkit/bridges/br1"))[2]["hint"] == "did you mean 'br0'?"
        assert (await client.ask("DELETE", "/netkit/bridges/br0"))[0] == 204

    served(scenario)


def test_wait_sends_its_head_before_there_is_an_exit_code():
    async def scenario(client):
        made = await client.container("web")
        async with client.connection() as (reader, writer):
            writer.write(request("POST", "/containers/web/wait?condition=next-exit"))
            status, headers = await head(reader)
            assert (status, headers["content-type"]) == (200, "application/json")
            assert made in client.service.waiting
            assert (await client.post("/containers/web/stop"))[0] == 204
            await reader.readline()  # the size of the chunk
            assert json.loads(await reader.readline()) == {"StatusCode": 137}

    served(scenario)


UPGRADE = ("Connection: Upgrade", "Upgrade: tcp")


def test_attach_is_hijacked_framed_and_half_closed():
    async def scenario(client):
        await client.container("web", OpenStdin=True)
        async with client.connection() as (reader, writer):
            path = "/containers/web/attach?stream=1&stdin=1&stdout=1&stderr=1"
            writer.write(request("POST", path, headers=UPGRADE))
            status, headers = await head(reader)
            assert status == 101
            assert headers["content-type"] == "application/vnd.docker.multiplexed-stream"
            assert headers["upgrade"] == "tcp"
            assert await reader.readexactly(14) == b"\x01\0\0\0\0\0\0\x06hello\n"
            writer.write(b"one\n")
            assert await reader.readexactly(12) == b"\x01\0\0\0\0\0\0\x04ONE\n"
            writer.write_eof()
            assert await reader.read() == b"\x02\0\0\0\0\0\0\x04bye\n"
        assert client.service.runtime.sessions[0].closed

    served(scenario)


def test_attach_for_old_clients_and_without_upgrade():
    async def scenario(client):
        await client.container("web", OpenStdin=True)
        path = "/containers/web/attach?stdin=1&stdout=1"
        async with client.connection() as (reader, writer):
            writer.write(request("POST", f"/v1.24{path}", headers=UPGRADE))
            _, headers = await head(reader)
            assert headers["content-type"] == "application/vnd.docker.raw-stream"
        async with client.connection() as (reader, writer):
            writer.write(request("POST", path))
            status, headers = await head(reader)
            assert (status, "upgrade" in headers) == (200, False)
            writer.write(b"two\n")
            writer.write_eof()
            assert (await reader.read()).endswith(b"hello\n\x01\0\0\0\0\0\0\x04TWO\n")

    served(scenario)


@pytest.mark.parametrize(("query", "keys"), [("", b"\x10\x11"), ("&detachKeys=ctrl-a,x", b"\x01x")])
def test_detach_keys_end_an_attach_and_nothing_else(query, keys):
    async def scenario(client):
        await client.container("web", OpenStdin=True, Tty=True)
        async with client.connection() as (reader, writer):
            path = f"/containers/web/attach?stdin=1&stdout=1{query}"
            writer.write(request("POST", path, headers=UPGRADE))
            await head(reader)
            assert await reader.readexactly(6) == b"hello\n"
            writer.write(b"a" + keys[:1])
            await asyncio.sleep(0)
            writer.write(keys[1:] + b"never sent")
            assert await reader.read() in {b"A", b""}
        assert client.service.container("web").running
        assert client.service.runtime.sessions[0].closed

    served(scenario)


def test_what_a_client_sends_and_nobody_reads_does_not_reset_its_connection():
    async def scenario(client):
        await client.container("web", OpenStdin=True, Tty=True)
        async with client.connection() as (reader, writer):
            writer.write(request("POST", "/containers/web/attach?stdin=1&stdout=1", headers=UPGRADE))
            await head(reader)
            assert await reader.readexactly(6) == b"hello\n"
            writer.write(b"\x10\x11" + bytes(3 << 20))
            assert await reader.read() == b""

    served(scenario)


def test_exec_attached_tells_its_exit_code_when_its_stream_ends():
    async def scenario(client):
        await client.container("web")
        ask = {"Cmd": ["cat"], "AttachStdin": True, "AttachStdout": True, "AttachStderr": True, "User": "www"}
        status, _, made = await client.post("/containers/web/exec", ask)
        assert status == 201
        path = f"/exec/{made['Id']}"
        assert (await client.post(f"{path}/resize?h=9&w=9"))[0] == 409
        async with client.connection() as (reader, writer):
            writer.write(request("POST", f"{path}/start", {"Detach": False, "Tty": False}, UPGRADE))
            assert (await head(reader))[0] == 101
            await reader.readexactly(14)
            assert (await client.get(f"{path}/json"))["Running"]
            assert (await client.post(f"{path}/resize?h=24&w=80"))[0] == 200
            writer.write(b"x")
            writer.write_eof()
            assert await reader.read() == b"\x01\0\0\0\0\0\0\x01X\x02\0\0\0\0\0\0\x04bye\n"
        shown = await client.get(f"{path}/json")
        assert (shown["Running"], shown["ExitCode"], shown["ProcessConfig"]["user"]) == (False, 7, "www")
        (session,) = client.service.runtime.sessions
        assert (session.size, session.command.stdin, session.closed) == ((24, 80), True, True)
        assert (await client.post(f"{path}/start", {}))[0] == 409

    served(scenario)


def test_exec_detached_answers_at_once_with_nothing():
    async def scenario(client):
        await client.container("web")
        _, _, made = await client.post("/containers/web/exec", {"Cmd": ["true"]})
        assert (await client.post(f"/exec/{made['Id']}/start", {"Detach": True}))[::2] == (200, b"")
        assert not client.service.runtime.sessions[0].command.attached
        await asyncio.sleep(0)
        assert (await client.get(f"/exec/{made['Id']}/json"))["ExitCode"] == 7
        assert (await client.ask("GET", "/exec/feed/json"))[0] == 404

    served(scenario)


def test_exec_of_a_program_that_is_not_there():
    async def scenario(client):
        await client.container("web")
        _, _, made = await client.post("/containers/web/exec", {"Cmd": ["nix"], "AttachStderr": True})
        async with client.connection() as (reader, writer):
            writer.write(request("POST", f"/exec/{made['Id']}/start", {}, UPGRADE))
            await head(reader)
            assert b"executable file not found" in await reader.read()
        assert (await client.get(f"/exec/{made['Id']}/json"))["ExitCode"] == 127

    served(scenario)


def test_exec_needs_a_command_and_a_running_container():
    async def scenario(client):
        await client.container("web", start=False)
        assert (await client.post("/containers/web/exec", {"Cmd": ["true"]}))[0] == 409
        await client.post("/containers/web/start")
        assert (await client.post("/containers/web/exec", {"Cmd": []}))[0] == 400
        assert (await client.post("/containers/web/exec", {"Cmd": ["a"], "DetachKeys": "ctrl-!"}))[0] == 400

    served(scenario)


def test_logs_and_top():
    async def scenario(client):
        await client.container("web")

        async def logs(query):
            async with client.connection() as (reader, writer):
                writer.write(request("GET", f"/containers/web/logs?{query}", headers=["Connection: close"]))
                status, _ = await head(reader)
                return status, unchunked(await reader.read())

        assert await logs("stdout=1&stderr=1") == (200, b"\x01\0\0\0\0\0\0\x04out\n\x02\0\0\0\0\0\0\x04err\n")
        assert await logs("stderr=1&tail=1") == (200, b"\x02\0\0\0\0\0\0\x04err\n")
        _, data = await logs("stdout=1&timestamps=1")
        assert data[8:] == b"2026-01-31T12:00:00.123456789Z out\n"
        assert (await client.ask("GET", "/containers/web/logs"))[0] == 400
        assert (await client.ask("GET", "/containers/web/logs?stdout=1&tail=x"))[0] == 400
        assert (await client.get("/containers/web/top"))["Processes"] == [["42", "ps -ef"]]

    served(scenario)


def unchunked(data):
    found = b""
    while data:
        size, _, rest = data.partition(b"\r\n")
        found, data = found + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return found


def test_images_are_imported_listed_and_removed():
    async def scenario(client):
        big = b"x" * (3 << 20)  # larger than a JSON body may be
        path = "/images/create?fromSrc=-&repo=docker.io/library/small&tag=1"
        status, _, body = await client.post(path, big)
        assert (status, body["status"]) == (200, "sha256:" + "cd" * 32)
        rows = {row["RepoTags"][0]: row for row in await client.get("/images/json")}
        assert rows["small:1"]["Size"] == len(big)
        used = await client.get("/system/df")
        assert (len(used["Images"]), used["LayersSize"], used["Containers"]) == (2, len(big) + 4096, [])
        assert (await client.get("/images/small:1/json"))["Config"]["Cmd"] == ["sh"]
        await client.container("web")
        assert (await client.ask("DELETE", "/images/box"))[0] == 409
        plan = (await client.ask("DELETE", "/images/small:1?dry_run=1"))[2]["Operations"]
        assert [each["Text"] for each in plan] == [
            "- delete image name small:1",
            "- delete image sha256:" + "cd" * 32,
        ]
        plan = (await client.post("/images/create?fromSrc=-&repo=other&dry_run=1"))[2]["Operations"]
        assert [each["Text"] for each in plan] == ["+ create image other:latest"]
        assert "other" not in str(await client.get("/images/json"))
        gone = (await client.ask("DELETE", "/images/small:1"))[2]
        assert gone == [{"Untagged": "small:1"}, {"Deleted": "sha256:" + "cd" * 32}]
        assert (await client.ask("GET", "/images/small:1/json"))[0] == 404
        status, _, body = await client.post("/images/create?fromImage=alpine&tag=latest")
        assert (status, "netkit image import" in body["message"]) == (501, True)
        assert (await client.post("/images/create?fromSrc=-&repo=BAD", b"x"))[0] == 400

    served(scenario)


def test_images_are_listed_by_the_names_that_are_asked_for():
    async def scenario(client):
        names = ("box:latest", "box:2", "other/box:1")
        client.service.images._known["box"] = image(names=names)

        async def listed(*references):
            filters = quote(json.dumps({"reference": list(references)} if references else {}))
            return [row["RepoTags"] for row in await client.get(f"/images/json?filters={filters}")]

        assert await listed() == [list(names)]
        assert await listed("box") == [["box:latest", "box:2"]]
        assert await listed("box:2", "other/*") == [["box:2", "other/box:1"]]
        assert await listed("docker.io/library/box:latest") == [["box:latest"]]
        assert await listed("nix") == []

    served(scenario)


def test_a_client_that_goes_away_ends_its_stream():
    async def scenario(client):
        await client.container("web", OpenStdin=True)
        async with client.connection() as (reader, writer):
            writer.write(request("POST", "/containers/web/attach?stdout=1&stdin=1", headers=UPGRADE))
            await head(reader)
            await reader.readexactly(14)
            (session,) = client.service.runtime.sessions
            writer.transport.abort()
        for _ in range(100):
            if session.closed:
                return
            client.service.runtime.sessions[0]._lines.put_nowait(b"x")
            await asyncio.sleep(0.01)
        raise AssertionError("the session was left open")

    served(scenario)


def test_events_stream_as_they_happen():
    async def scenario(client):
        async with client.connection() as (reader, writer):
            filters = quote(json.dumps({"type": ["network"]}))
            writer.write(request("GET", f"/events?filters={filters}"))
            assert (await head(reader))[0] == 200
            client.service.events.publish("container", "start", "1", {})
            client.service.events.publish("network", "create", "2", {"name": "br0"})
            await reader.readline()
            event = json.loads(await reader.readline())
            assert (event["Type"], event["Action"], event["Actor"]["ID"]) == ("network", "create", "2")

    served(scenario)


@pytest.mark.local_socket
def test_a_stale_socket_is_replaced_and_a_live_one_is_not(tmp_path):
    path = tmp_path / "s"
    first = server.listen(f"unix://{path}")
    assert path.stat().st_mode & 0o777 == 0o660
    with pytest.raises(Conflict, match="listens on"):
        server.listen(f"unix://{path}")
    first.close()
    second = server.listen(f"unix://{path}")
    second.close()
    server.remove([str(path)])
    assert not path.exists()
    path.write_text("somebody's file")
    with pytest.raises(Conflict, match="not a socket"):
        server.listen(f"unix://{path}")
    assert path.read_text() == "somebody's file"
