"""The table of a run: a column for everybody who was measured, a row for every measure."""

from __future__ import annotations

from typing import Any

from stillroom.cli.output import write_table


def write_systems(evaluation: dict[str, Any]) -> None:
    """Print what was measured; beside a metric of which more is better, its share of the teacher's."""
    systems = evaluation["systems"]
    teacher: dict[str, float] = next((one["metrics"] for one in systems if one["role"] == "teacher"), {})
    rows: list[list[str]] = []
    for name, note in evaluation["metrics"].items():
        arrow = "+" if note["higher_is_better"] else "-"
        cells = [_metric(one, name, teacher if note["higher_is_better"] else {}) for one in systems]
        rows.append([f"{note['title']} ({arrow})", *cells])
    rows.append(["parameters", *(_share(one["parameters"], systems[0], "parameters") for one in systems)])
    rows.append(["rows a second", *(_plain(one["cost"].get("throughput")) for one in systems)])
    rows.append(["training, seconds", *(_plain(one["cost"].get("train_seconds")) for one in systems)])
    write_table(["", *(one["name"] for one in systems)], rows)


def _metric(one: dict[str, Any], name: str, teacher: dict[str, float]) -> str:
    value, whole = one["metrics"].get(name), teacher.get(name)
    if value is None:
        return ""
    return f"{value:.4g}" + (f"  {value / whole:.1%}" if whole and one["role"] != "teacher" else "")


def _share(value: int, first: dict[str, Any], key: str) -> str:
    whole = first[key] if first["role"] == "teacher" else None
    return f"{value:,}" + (f"  {value / whole:.1%}" if whole and value != whole else "")


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"
