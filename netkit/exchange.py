"""One HTTP/1.1 exchange over a socket: a request out, a response in, and no more.

`http.client` brings the parsers of e-mail and TLS along, a quarter of what a short command takes
to start. What a daemon of ours sends is all that is understood: a length, chunks, or an end.
Source: RFC 9112.

    send(sock, "GET", "/info", {})
    response = Response(sock.makefile("rb"))
"""

import io
import socket
from collections.abc import Iterator, Mapping
from typing import BinaryIO

_CHUNK = 1 << 16


class Broken(ConnectionError):
    """The other side broke off, or said what is not HTTP."""


def send(
    sock: socket.socket, method: str, target: str, headers: Mapping[str, str], body: bytes = b""
) -> None:
    """A request with a body that is at hand."""
    lengths = {"Content-Length": str(len(body))} if body or method == "POST" else {}
    sock.sendall(_head(method, target, {**headers, **lengths}) + body)


def send_stream(
    sock: socket.socket, method: str, target: str, headers: Mapping[str, str], stream: BinaryIO
) -> None:
    """A request whose body is read from a file, in chunks."""
    sock.sendall(_head(method, target, {**headers, "Transfer-Encoding": "chunked"}))
    while data := stream.read(_CHUNK):
        sock.sendall(f"{len(data):x}\r\n".encode() + data + b"\r\n")
    sock.sendall(b"0\r\n\r\n")


class Response:
    """What came back: `status`, `kind` (the content type), and the body, read as it comes."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file
        line = file.readline()
        if line and not line.startswith(b"HTTP/1."):
            raise Broken("what answers is no daemon")
        try:
            self.status = int(line.split()[1])
        except (IndexError, ValueError) as err:
            raise Broken("the connection ended before the answer") from err
        headers = dict(self._headers())
        self.kind = headers.get("content-type", "").partition(";")[0]
        self._chunked = headers.get("transfer-encoding", "") == "chunked"
        self._left = int(headers.get("content-length", -1))
        if self.status in {204, 304}:
            self._left = 0

    def read(self, size: int = -1) -> bytes:
        """`size` bytes, fewer at the end; all that is left without a size."""
        data = b""
        while size < 0 or len(data) < size:
            part = self.read1(_CHUNK if size < 0 else size - len(data))
            if not part:
                break
            data += part
        return data

    def read1(self, size: int) -> bytes:
        """What is there, at most `size` bytes; empty at the end."""
        if self._chunked and self._left <= 0:
            self._next_chunk()
        if self._left == 0:
            return b""
        data = self._file.read1(size if self._left < 0 else min(size, self._left))
        if self._left > 0:
            if not data:
                raise Broken("the answer ended half-way")
            self._left -= len(data)
            if self._chunked and self._left == 0:
                self._file.readline()
                self._left = -1
        return bytes(data)

    def __iter__(self) -> Iterator[bytes]:
        """The body line by line, as the lines come."""
        rest = b""
        while part := self.read1(_CHUNK):
            *lines, rest = (rest + part).split(b"\n")
            yield from (line + b"\n" for line in lines)
        if rest:
            yield rest

    def _headers(self) -> Iterator[tuple[str, str]]:
        while line := self._file.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            yield name.lower(), value.strip()

    def _next_chunk(self) -> None:
        line = self._file.readline()
        if not line:
            raise Broken("the answer ended half-way")
        self._left = int(line.partition(b";")[0], 16)
        if self._left == 0:
            self._chunked = False
            self._file.readline()


def _head(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
