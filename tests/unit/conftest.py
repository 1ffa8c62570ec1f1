"""Unit tests touch nothing: no program, no socket, no namespace."""

import os
import socket
import subprocess

import pytest


class TouchedTheWorld(BaseException):
    """Derived from BaseException so that no handler in the product can swallow it."""


@pytest.fixture(autouse=True)
def no_world(monkeypatch, request):
    if request.node.get_closest_marker("local_socket"):
        return

    def refuse(*args, **kwargs):
        raise TouchedTheWorld(f"a unit test touched the world: {args!r}")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr(os, "fork", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "bind", refuse)
