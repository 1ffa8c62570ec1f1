"""Run the benchmarks and write bench/results.json and bench/results.png.

python -m bench [--quick] [--only attach,run,scale,links,published] [--endpoints 1000]
"""

import argparse
import compileall
import json
import os
import platform
import statistics
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from bench import cases, traffic

HERE = Path(__file__).parent


def main():
    options = parsed()
    if os.geteuid() != 0:
        sys.exit("benchmarks make namespaces and daemons: run them as root")
    subprocess.run([str(HERE / "setup")], check=True)
    compileall.compile_dir(HERE.parent / "netkit", quiet=1)  # as pip leaves an installed package
    rounds = 10 if options.quick else 40
    plan = {
        "attach": lambda: cases.attach(rounds),
        "run": lambda: cases.run(max(5, rounds // 3)),
        "links": lambda: traffic.links(max(3, rounds // 8), 1000),
        "published": lambda: traffic.published(3),
        "scale": lambda: cases.scale(rounds, options.endpoints),
    }
    rows = []
    for name in options.only.split(",") if options.only else plan:
        print(f"# {name}", flush=True)
        for row in plan[name]():
            rows.append(summary(*row))
            print(told(rows[-1]), flush=True)
    result = {"environment": environment(), "rows": rows}
    (HERE / "results.json").write_text(json.dumps(result, indent=1) + "\n")
    draw(rows)


def parsed():
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--only", default="", help="names, separated by commas")
    parser.add_argument("--endpoints", type=int, default=1000)
    return parser.parse_args()


def summary(name, unit, samples, aim):
    """Medians, and our ratio to the best of the others: the fastest, or the widest."""
    medians = {who: statistics.median(values) for who, values in samples.items()}
    others = [value for who, value in medians.items() if who != "netkit"]
    best = None if not others else min(others) if unit in {"s", "bytes"} else max(others)
    return {
        "name": name,
        "unit": unit,
        "aim": aim,
        "ratio": medians["netkit"] / best if best else None,
        "median": medians,
        "spread": {who: [min(values), max(values)] for who, values in samples.items()},
        "runs": {who: len(values) for who, values in samples.items()},
    }


def told(row):
    scale, unit = {"s": (1000, "ms"), "bytes": (2**-20, "MiB"), "bit/s": (1e-9, "Gbit/s")}.get(
        row["unit"], (1, row["unit"])
    )
    shown = ", ".join(f"{who} {value * scale:.1f}" for who, value in row["median"].items())
    ratio = "" if row["ratio"] is None else f"; ratio {row['ratio']:.2f}"
    aim = "" if row["aim"] is None else f" (aim {row['aim']})"
    return f"{row['name']}: {shown} {unit}{ratio}{aim}"


def environment():
    def version(*argv):
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return (done.stdout or done.stderr).strip().splitlines()[0] if done.stdout or done.stderr else ""

    packages = ("docker.io", "containernetworking-plugins", "netavark", "runc", "conmon", "iptables")
    installed = {name: version("dpkg-query", "-W", "-f", "${Version}", name) for name in packages}
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "packages": installed,
        "docker client": version("docker", "--version"),
    }


def draw(rows):
    """Ratios to the best peer, as bars, with the aim of each."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [row for row in rows if row["ratio"] is not None][::-1]
    figure, axes = pyplot.subplots(figsize=(9, 0.5 * len(shown) + 1))
    axes.barh([row["name"] for row in shown], [row["ratio"] for row in shown], color="#4878a8")
    for place, row in enumerate(shown):
        axes.text(row["ratio"], place, f" {row['ratio']:.2f}", va="center")
        if row["aim"] is not None:
            axes.plot([row["aim"]] * 2, [place - 0.4, place + 0.4], color="#c03030")
    axes.set_xlabel("netkit / best peer (red: the aim)")
    figure.tight_layout()
    figure.savefig(HERE / "results.png", dpi=110)


if __name__ == "__main__":
    main()
