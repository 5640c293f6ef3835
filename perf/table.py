"""Writes perf/README.md from perf/results."""

from __future__ import annotations

import json
from typing import Any

from versus import HERE, RESULTS

HEAD = """# Against others

Each row is a command, `python perf/NAME.py` in the environment that `make perf-setup` makes. It runs stillroom and
the peer in turn on the same work, each time in a process of its own, and keeps what it found in `perf/results`. The
ratio is in our favour (above 1: faster, smaller or better), the median over turns, with the lowest and highest turn.
This page is written by `python perf/table.py`.

| figure | what both do | peer | measure | ours | theirs | in our favour | turns | asked for |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


def rows(result: dict[str, Any]) -> list[str]:
    """One line of the table a bar."""
    from statistics import median

    written = []
    for number, bar in enumerate(result["bars"]):
        ours, theirs = (
            median(turn[bar["measure"]] for turn in result["turns"][side]) for side in ("stillroom", result["peer"])
        )
        sign = "" if bar["difference"] else " x"
        written.append(
            " | ".join(
                [
                    f"| {result['figure']}" if not number else "| ",
                    result["work"] if not number else "",
                    f"{result['peer']}" if not number else "",
                    bar["measure"],
                    f"{ours:.4g}",
                    f"{theirs:.4g}",
                    f"{bar['median']:.3g}{sign} ({bar['lowest']:.3g} to {bar['highest']:.3g})",
                    str(len(result["turns"]["stillroom"])),
                    f"{bar['least']:g}{sign}{'' if bar['reached'] else ', not reached'} |",
                ]
            )
        )
    return written


def every_side(result: dict[str, Any]) -> list[str]:
    """A table of all that was measured, of a figure with more sides than ours and the peer's; else nothing."""
    from statistics import median

    sides: dict[str, list[dict[str, float]]] = result["turns"]
    if len(sides) < 3:
        return []
    measures = list(sides["stillroom"][0])
    lines = ["", f"## {result['figure']}: every side", "", f"{result['work'].capitalize()}; medians over turns.", ""]
    lines += ["| " + " | ".join(["", *measures]) + " |", "| " + " | ".join(["---"] * (len(measures) + 1)) + " |"]
    for name, turns in sides.items():
        values = [f"{median(turn[measure] for turn in turns):.4g}" for measure in measures]
        lines.append("| " + " | ".join([name, *values]) + " |")
    return lines


def main() -> None:
    """Write the page."""
    results = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    lines = [line for result in results for line in rows(result)]
    lines += [line for result in results for line in every_side(result)]
    foot = ["", "## Where and with what", ""]
    for result in results:
        told = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
        foot.append(f"- {result['figure']}: {result['date']}, {result['machine']}, {result['threads']} threads; {told}")
    (HERE / "README.md").write_text(HEAD + "\n".join([*lines, *foot]) + "\n")


if __name__ == "__main__":
    main()
