"""The house rules that a program can check: levels, sizes, types, style, errors."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from netkit import errors

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "netkit").rglob("*.py"))
BIN = Path(sys.executable).parent
# Decisions take clock, entropy and host facts as arguments.
FORBIDDEN_IN_DECISIONS = {"os", "socket", "subprocess", "time", "random", "asyncio", "secrets", "pathlib"}


def name_of(path):
    return str(path.relative_to(ROOT))


def passes(*argv):
    done = subprocess.run([str(word) for word in argv], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff_finds_nothing():
    passes(BIN / "ruff", "check", "--no-cache", ".")


def test_everything_is_formatted():
    passes(BIN / "ruff", "format", "--no-cache", "--check", ".")


def test_types_hold(tmp_path):
    passes(BIN / "mypy", "--cache-dir", tmp_path)


def test_imports_go_only_downward():
    passes(BIN / "lint-imports", "--no-cache")


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_files_and_functions_stay_small(path):
    text = path.read_text()
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno + 1 <= 60, node.name
            assert node.returns is not None, f"{node.name} has no return type"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_every_module_says_what_it_is(path):
    text = path.read_text()
    assert not text or ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if {"core", "model"} & set(p.relative_to(ROOT).parts)], ids=name_of
)
def test_decisions_touch_no_world(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        assert not {name.partition(".")[0] for name in names} & FORBIDDEN_IN_DECISIONS


def test_only_one_function_starts_programs():
    users = [name_of(p) for p in SOURCES if "subprocess.run(" in p.read_text()]
    assert users == ["netkit/kernel/command.py"]


def test_the_name_of_the_users_chain_is_written_once():
    users = [name_of(p) for p in SOURCES if '"NETKIT-USER"' in p.read_text() or '+ "USER"' in p.read_text()]
    assert users == ["netkit/model/names.py"]


def error_classes(cls=errors.NetkitError):
    return [cls, *(sub for child in cls.__subclasses__() for sub in error_classes(child))]


@pytest.mark.parametrize("cls", error_classes(), ids=lambda cls: cls.__name__)
def test_every_error_has_a_status_and_an_exit_code(cls):
    assert 400 <= cls.status < 600
    assert 0 < cls.exit_code < 126
    assert cls.__doc__


def test_exit_codes_tell_the_classes_apart():
    codes = [cls.exit_code for cls in error_classes() if cls.__module__ == errors.__name__]
    assert len(codes) == len(set(codes))
