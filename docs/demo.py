"""The demonstration that `make demo` runs: containers linked, isolated and published, for real.

It plays on a host of its own, a network namespace with an uplink to another one, so that nothing
of this machine's bridges, rules and routes is touched. Every line that is run is printed first.
Needs root.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from netkit.testing.images import busybox_tar
from tests.e2e.lab import OUTSIDE, UPLINK, Lab, Space

SITE = 'mkdir /www; echo "web, backed by $DB_PORT_5432_TCP_ADDR" >/www/index.html; httpd -f -p 80 -h /www'


def main() -> int:
    lab = Lab()
    try:
        return play(lab)
    finally:
        lab.close()


def play(lab: Lab) -> int:
    def run(*words: str, expect: int = 0) -> str:
        print(f"\n$ netkit {' '.join(quoted(word) for word in words)}")
        done = lab.netkit(*words, check=False)
        if text := (done.stdout + done.stderr).rstrip():
            print(text)
        if (done.returncode == 0) != (expect == 0):
            raise SystemExit(f"expected exit {expect}, got {done.returncode}\n{lab.log()}")
        return done.stdout

    print(f"# A host of its own ({UPLINK}), and a machine outside ({OUTSIDE}).")
    lab.start()
    busybox_tar(lab.folder / "box.tar")
    run("image", "import", str(lab.folder / "box.tar"), "box")

    print("\n# A bridge on which nothing passes between containers unless a link opens it.")
    run("bridge", "add", "br0", "--address", "192.168.100.1/24", "--no-icc")
    run("run", "-d", "--name", "db", "--network", "br0", "--expose", "5432", "box",
        "nc", "-ll", "-p", "5432", "-e", "echo", "database here")  # fmt: skip
    run("run", "-d", "--name", "web", "--network", "br0", "--link", "db:db", "-p", "8080:80", "box",
        "sh", "-c", SITE)  # fmt: skip
    run("run", "-d", "--name", "stranger", "--network", "br0", "box", "sleep", "1000")
    run("ps")

    print("\n# Linked: web reaches the exposed port of db by its alias.")
    run("exec", "web", "sh", "-c", "nc -w 2 db 5432 </dev/null")
    print("\n# Isolated: a stranger on the same bridge does not, and the walk says which rule decides.")
    run("exec", "stranger", "sh", "-c", f"nc -w 2 {lab.address('db', 'br0')} 5432 </dev/null", expect=1)
    run("explain", "stranger", "db", "--port", "5432", expect=1)
    print("\n# Published: from outside, and from the host itself.")
    get(lab.outside, "outside", f"http://{UPLINK}:8080")
    get(lab.host, "on the host", f"http://{UPLINK}:8080")
    get(lab.host, "on the host", "http://127.0.0.1:8080")

    print("\n# All of it can be changed while the containers run.")
    run("link", "add", "stranger", "db:db")
    run("exec", "stranger", "sh", "-c", "nc -w 2 db 5432 </dev/null")
    run("publish", "web", "9090:80")
    get(lab.outside, "outside", f"http://{UPLINK}:9090")
    print("\n# Somebody flushes the firewall; netkit says what is missing, who asked for it, and mends it.")
    flush = "iptables -F FORWARD; iptables -t nat -F"
    print(f"\n$ {flush}")
    lab.host.sh(flush)
    run("plan")
    run("blame", "9090")
    run("reconcile")
    get(lab.outside, "outside", f"http://{UPLINK}:8080")
    run("teardown")
    print("\n# Nothing is left:", lab.leftovers() or "no link, rule, set, mount or process.")
    return 0


def get(space: Space, where: str, url: str) -> None:
    """Show a page, fetched on a host of the demonstration."""
    print(f"\nGET {url}   # {where}")
    script = f"import urllib.request as r; print(r.urlopen('{url}', timeout=5).read().decode().rstrip())"
    print(space.sh(f'{sys.executable} -c "{script}"').rstrip())


def quoted(word: str) -> str:
    return f"'{word}'" if " " in word or not word else word


if __name__ == "__main__":
    raise SystemExit(main())
