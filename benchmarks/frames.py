"""The summary as data frames: the CSV files."""

from typing import Any

import pandas as pd

from .summary import METRICS, Summary


def comparison_frame(summary: Summary) -> pd.DataFrame:
    """All rows with all metrics, as numbers: the CSV file."""
    records = []
    for row in summary.rows:
        record: dict[str, Any] = {"mode": row.mode, "level": row.level, "method": row.method, "seeds": row.seeds}
        for key in ("params", "params_removed", "flops", "flops_removed", "heads_removed", "neurons_removed"):
            record[key] = row.cost.get(key)
        for metric in METRICS:
            found = row.metrics[metric]
            record |= {metric: found.value, f"{metric}_low": found.low, f"{metric}_high": found.high}
            record[f"{metric}_below_floor"] = metric in row.below_floor
        record |= {f"empty_{kind}": count for kind, count in row.empty.items()}
        records.append(record)
    return pd.DataFrame(records).assign(notice=summary.notice)


def dataset_frame(summary: Summary) -> pd.DataFrame:
    """Means of each data set, a row a method, level and data set."""
    return pd.DataFrame(
        {"mode": row.mode, "level": row.level, "method": row.method, "dataset": name, **metrics}
        for row in summary.rows
        for name, metrics in row.by_dataset.items()
    ).assign(notice=summary.notice)


def difference_frame(summary: Summary) -> pd.DataFrame:
    """All differences as numbers."""
    columns = ["mode", "level", "method", "metric", "difference", "low", "high", "p", "p_holm", "verdict"]
    rows = [
        (d.mode, d.level, d.method, d.metric, d.value.value, d.value.low, d.value.high, d.p, d.p_holm, d.verdict)
        for d in summary.differences
    ]
    return pd.DataFrame(rows, columns=columns).assign(notice=summary.notice)
