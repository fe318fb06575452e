"""`medcore-bench list`: every method and criterion with its source, what it reads and what it costs."""

from ..._support.registry import BUILT_IN, load_plugin
from ...scoring.recipes import Baseline, available_baselines, baseline_info
from ...scoring.registry import available_criteria, criterion_info
from ..runner.experiment import experiments
from .tables import Grid

_COLUMNS = ("name", "cost", "reads", "source", "what")
_METHOD_COLUMNS = ("name", "cost", "reads", "own quotas", "source", "what")


def run(plugin: tuple[str, ...]) -> None:
    """List methods (recipes that `baselines` compares) and criteria (scores that recipes are built from)."""
    for each in plugin:
        load_plugin(each)
    methods().show()
    criteria().show()
    if (added := added_experiments()).rows:
        added.show()


def methods() -> Grid:
    """The comparison's methods, slow ones included."""
    rows = []
    for name in available_baselines(include_slow=True):
        entry = baseline_info(name)
        recipe, source = entry.value, _source(entry.source, entry.origin)
        what = recipe.description.rstrip(".")
        rows.append([name, recipe.cost, _reads(recipe.needs, recipe.reads_images), recipe.quotas, source, what])
    return Grid("Methods", _METHOD_COLUMNS, rows, left=len(_METHOD_COLUMNS))


def criteria() -> Grid:
    """All criteria."""
    rows = []
    for name in available_criteria():
        entry = criterion_info(name)
        recipe = Baseline(entry.value)
        what = (entry.value.__doc__ or "").strip().split("\n")[0].rstrip(".")
        rows.append(
            [
                name,
                entry.cost,
                _reads(recipe.needs, recipe.reads_images),
                _source(entry.source, entry.origin),
                what,
            ]
        )
    return Grid("Criteria", _COLUMNS, rows, left=len(_COLUMNS))


def added_experiments() -> Grid:
    """Experiments from outside the package; its own are the commands that `--help` lists."""
    rows = []
    for name in experiments.available():
        entry = experiments.info(name)
        if entry.origin != BUILT_IN:
            what = (entry.value.__doc__ or "").strip().split("\n")[0].rstrip(".")
            rows.append([name, _source(entry.source, entry.origin), what])
    return Grid("Experiments besides those of --help", ("name", "source", "what"), rows, left=3)


def _reads(needs: frozenset[object], images: bool) -> str:
    return ", ".join([*sorted(map(str, needs)), *(["images"] if images else [])]) or "–"


def _source(source: str, origin: str) -> str:
    return source if origin == BUILT_IN else "; ".join(filter(None, (source, origin)))
