"""A client of one daemon: HTTP over a unix or TCP socket with the standard library.

It starts a daemon where none answers, unless told not to, and turns the daemon's errors back into
netkit's own. Paths and bodies are Docker's wherever Docker has the thing.

    client = Client("unix:///run/netkit/netkit.sock", verb="network ls")
    client.get("/networks")
"""

import contextlib
import json
import os
import socket
import sys
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

from netkit import errors
from netkit.errors import NetkitError, SpecError, Unreachable
from netkit.exchange import Response, send, send_stream

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

DEFAULT_HOST = "unix:///run/netkit/netkit.sock"
DEFAULT_STATE_DIR = "/var/lib/netkit"
_STARTS_WITHIN_S = 20.0
_OTHERS_TAKE_S = 5.0
_VERB_MAX = 500


class Client:
    """Talks to the daemon at `host`; `verb` is what the user typed, for `blame`."""

    def __init__(self, host: str = "", verb: str = "") -> None:
        self.host = host or os.environ.get("NETKIT_HOST") or DEFAULT_HOST
        # A header holds one line of plain characters.
        self._verb = " ".join(verb.split())[:_VERB_MAX].encode("ascii", "backslashreplace").decode()
        scheme, _, self._place = self.host.partition("://")
        if scheme not in {"unix", "tcp"} or not self._place:
            raise SpecError(f"invalid host {self.host!r}", hint="unix:///path/to.sock or tcp://host:port")
        self._unix = scheme == "unix"
        if not self._unix and not self._place.rstrip("/").rpartition(":")[2].isdigit():
            raise SpecError(f"no port in host {self.host!r}", hint="tcp://127.0.0.1:2375")

    def get(self, path: str, **query: Any) -> Any:
        return self.call("GET", path, query=query)

    def post(self, path: str, body: Any = None, **query: Any) -> Any:
        return self.call("POST", path, body=body, query=query)

    def delete(self, path: str, **query: Any) -> Any:
        return self.call("DELETE", path, query=query)

    def call(
        self, method: str, path: str, *, body: Any = None, query: Mapping[str, Any] | None = None
    ) -> Any:
        """One request; the answer's JSON, or None where it is empty. Raises NetkitError."""
        with self.open(method, path, body=body, query=query) as response:
            data = response.read()
        return json.loads(data) if data and response.kind == "application/json" else None

    @contextlib.contextmanager
    def open(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        stream: BinaryIO | None = None,
        query: Mapping[str, Any] | None = None,
    ) -> Iterator[Response]:
        """One request whose answer is read by the caller: logs, events, a long wait."""
        sock = self._connected()
        target, headers = _target(path, query), {"X-Netkit-Verb": self._verb, "Connection": "close"}
        try:
            if stream is not None:
                send_stream(sock, method, target, {**headers, "Content-Type": "application/x-tar"}, stream)
            elif body is not None:
                headers["Content-Type"] = "application/json"
                send(sock, method, target, headers, json.dumps(body).encode())
            else:
                send(sock, method, target, headers)
            with sock.makefile("rb") as file:
                response = Response(file)
                if response.status >= 400:
                    raise _error(response.status, response.read())
                yield response
        except ConnectionError as err:
            raise Unreachable(
                f"the daemon at {self.host} broke off: {err or type(err).__name__}", hint="see its log"
            ) from err
        finally:
            sock.close()

    def hijack(self, path: str, body: Any = None, **query: Any) -> socket.socket:
        """A POST whose connection becomes a raw stream both ways (attach, exec)."""
        sock = self._connected()
        headers = {"Connection": "Upgrade", "Upgrade": "tcp", "Content-Type": "application/json"}
        headers["X-Netkit-Verb"] = self._verb
        data = json.dumps(body if body is not None else {}).encode()
        try:
            send(sock, "POST", _target(path, query), headers, data)
            self._upgraded(sock)
        except ConnectionError as err:
            sock.close()
            raise Unreachable(f"the daemon at {self.host} broke off: {err}", hint="see its log") from err
        except NetkitError:
            sock.close()
            raise
        return sock

    def _upgraded(self, sock: socket.socket) -> None:
        """Read the head of the answer, and not a byte more. Raises NetkitError."""
        answer = b""
        while b"\r\n\r\n" not in answer:
            # A byte at a time: what follows the head belongs to the stream.
            byte = sock.recv(1)
            if not byte:
                raise Unreachable(f"the daemon at {self.host} broke off", hint="see its log")
            answer += byte
        status = int(answer.split()[1])
        if status >= 400:
            raise _error(status, _rest(sock, answer))

    def _connected(self) -> socket.socket:
        try:
            return self._connect()
        except (FileNotFoundError, ConnectionRefusedError) as err:
            self._start(err)
            return self._connect()
        except PermissionError as err:
            raise Unreachable(f"no permission to talk to {self.host}", hint="run it as root (sudo)") from err
        except OSError as err:
            raise Unreachable(
                f"cannot reach {self.host}: {err.strerror or err}", hint="is it the right one?"
            ) from err

    def _connect(self) -> socket.socket:
        if not self._unix:
            host, _, port = self._place.rstrip("/").rpartition(":")
            return socket.create_connection((host.strip("[]") or "127.0.0.1", int(port)))
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(self._place)
        except OSError:
            sock.close()
            raise
        return sock

    def _start(self, err: OSError) -> None:
        """Start a daemon on our socket, and wait until it answers."""
        if not self._unix or os.environ.get("NETKIT_AUTOSTART", "1") == "0":
            raise Unreachable(f"no daemon answers on {self.host}", hint="start one: netkit daemon") from err
        if os.geteuid() != 0:
            raise Unreachable(f"no daemon answers on {self.host}", hint="run it as root (sudo)") from err
        state = os.environ.get("NETKIT_STATE_DIR", "")
        if not state and self.host != DEFAULT_HOST:
            raise Unreachable(
                f"no daemon answers on {self.host}",
                hint="start one: netkit daemon -H … --state-dir …, or name its folder in NETKIT_STATE_DIR",
            ) from err
        import subprocess
        from pathlib import Path

        state = state or DEFAULT_STATE_DIR
        sys.stderr.write(
            f"netkit: no daemon answered on {self.host}; starting one (NETKIT_AUTOSTART=0 turns this off)\n"
        )
        log = Path(state) / "daemon.log"
        log.parent.mkdir(parents=True, exist_ok=True, mode=0o711)
        # Its daemon writes there in whose words changes were asked for, with what they say of passwords.
        with open(log, "ab", opener=_private) as output:
            argv = [sys.executable, "-m", "netkit.cli.main", "daemon", "-H", self.host, "--state-dir", state]
            daemon = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        self._await(daemon, log)

    def _await(self, daemon: "subprocess.Popen[bytes]", log: "Path") -> None:
        began = time.monotonic()
        while time.monotonic() < began + _STARTS_WITHIN_S:
            with contextlib.suppress(OSError):
                self._connect().close()
                return
            time.sleep(0.02)
            # Somebody else may have started one at the same moment: that one is to answer.
            if daemon.poll() == errors.Conflict.exit_code and time.monotonic() < began + _OTHERS_TAKE_S:
                continue
            if daemon.poll() is not None:
                said = log.read_text(errors="replace").strip().splitlines()[-2:]
                raise Unreachable("the daemon did not start: " + " ".join(said), hint=f"see {log}")
        raise Unreachable(f"the daemon did not answer within {_STARTS_WITHIN_S:g} s", hint=f"see {log}")


def _private(name: str, flags: int) -> int:
    """A file that only its owner may read, be it new or old."""
    descriptor = os.open(name, flags, 0o600)
    os.fchmod(descriptor, 0o600)
    return descriptor


def _target(path: str, query: Mapping[str, Any] | None) -> str:
    """Path and query; flags become 1, what is None or empty is left out."""
    words = {
        key: 1 if value is True else value
        for key, value in (query or {}).items()
        if value not in (None, "", False)
    }
    return urllib.parse.quote(path) + ("?" + urllib.parse.urlencode(words) if words else "")


def _error(status: int, data: bytes) -> NetkitError:
    """The daemon's answer as one of our own errors."""
    try:
        body = json.loads(data)
    except ValueError:
        body = {"message": data.decode(errors="replace")}
    message, hint = body.get("error") or body.get("message", ""), body.get("hint", "")
    cls = getattr(errors, str(body.get("kind", "")), errors.by_status(status))
    if not (isinstance(cls, type) and issubclass(cls, NetkitError)):
        cls = errors.by_status(status)
    text = "\n".join((message, *_aftermath(body)))
    if cls is errors.VerifyError:
        error: NetkitError = errors.VerifyError(text, diff=body.get("diff", ""), hint=hint)
    else:
        error = cls(text, hint=hint)
    error.status = status
    return error


def _aftermath(body: Mapping[str, Any]) -> Iterator[str]:
    """What became of the operations of a change that failed, a line each."""
    if diff := body.get("diff"):
        yield diff
    yield from (f"undone: {operation}" for operation in body.get("undone", ()))
    yield from (f"left behind until the next reconcile: {operation}" for operation in body.get("left", ()))


def _rest(sock: socket.socket, head: bytes) -> bytes:
    """The body that follows an error's head."""
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    left = int(lengths[0].split(b":")[1]) if lengths else 0
    data = b""
    while len(data) < left and (part := sock.recv(left - len(data))):
        data += part
    return data
