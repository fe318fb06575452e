"""A search of budgets: what reads images, scores and refits, done once for any number of goals (METHOD section 15)."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from ..._support.files import user_cache
from ..._support.machines.executor import executor
from ..._support.memo import Ledger
from ..._support.progress import track
from ..._support.records import content_hash
from ..._support.version import __version__
from ...data.samples import SampleSet, Subset, subset_hash
from ...data.splits.split import Data, training_samples
from ...models.calls.call import undisturbed, working_on
from ...models.families import geometry_of
from ...models.fingerprint import model_hash
from ...models.groups import groups_of
from ...models.precision import current_precision
from ...models.switches import evaluating
from ...models.tiny_vit.stems import kept_stems
from ...pruning.block_times import block_times
from ...pruning.budget import SEARCHED, Key
from ...pruning.level import Level
from ...pruning.plan import Plan
from ...pruning.planning import plan_of_counts
from ...pruning.ranking import check_scores
from ...pruning.target import Target
from ...pruning.times import BlockTimes
from ...scoring.recipes import Scores
from ..images import CorrectionImages
from ..settings import CorrectionSettings
from ..streams import room_for
from .alone import cheapest, probes
from .divergence import Divergence
from .evolve import evolve
from .goal import Goal
from .refits import DenseSums, Refits, Refitted, shapes_of
from .settings import SearchSettings
from .states import Ladders, State

_GIGABYTE = 1e9
_CORRECTION = CorrectionSettings()


def draw(model: nn.Module, data: Data, settings: SearchSettings) -> Mapping[str, SampleSet]:
    """Draw the training images of a search from each data set."""
    return training_samples(data, "searching a budget", settings.samples, settings.seed, geometry_of(model).frame)


class Search:
    """Searches budgets for one model and the scores of its units; a context, for refits may lie in a file meanwhile.

    Layers are refitted when the first plan is asked for. `drawn` is what `draw` gives, the rest and errors as of
    `searched_plan`.
    """

    def __init__(
        self,
        model: nn.Module,
        criterion_name: str,
        scores: Scores,
        drawn: Mapping[str, SampleSet],
        settings: SearchSettings,
        *,
        protect: int | None = None,
        batch_size: int = 8,
        memory_limit_gb: float = 4.0,
        cache_dir: str | Path | None = None,
        progress: bool = True,
    ) -> None:
        self._model, self._settings, self._protect, self._progress = model, settings, protect, progress
        self._batch_size, self._limit_bytes, self._cache_dir = batch_size, memory_limit_gb * _GIGABYTE, cache_dir
        self._name, self._drawn = criterion_name, drawn
        units = {(group.block, group.family): group.n_units for group in groups_of(model)}
        self._scores = check_scores(scores, units)
        each = -(-settings.images // len(drawn))
        self._judged = {name: _first(samples, each) for name, samples in drawn.items()}
        self._ledger = self._opened()
        self._stack = ExitStack()
        self._read: tuple[Refits, Divergence] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._read = None
        self._stack.close()

    def plan(self, goal: Level | Target | str, cost: str = "params", times: BlockTimes | None = None) -> Plan:
        """Search one goal."""
        wanted = Goal.of(self._model, goal, cost, self._protect, lambda: times or self._times())
        ladders, settings = wanted.ladders(), self._settings

        def plan(kept: Mapping[Key, int], notes: Mapping[str, Any] | None = None) -> Plan:
            name, level = self._name, str(wanted.goal)
            return plan_of_counts(
                self._model,
                kept,
                self._scores,
                level=level,
                criterion_name=name,
                protected=wanted.protected,
                notes=notes,
            )

        with kept_stems(), evaluating(self._model), torch.no_grad():
            refits, divergence = self._read = self._read or self._refitted(ladders)

            def fitness(states: Sequence[State]) -> Iterator[float]:
                kept = {" ".join(map(str, each.values())): each for each in map(ladders.kept, states)}
                unknown = [refits.of(plan(kept[key])) for key in kept if key not in self._ledger]
                named = {f"state {number} of a searched budget": state for number, state in enumerate(unknown, 1)}
                found = executor().map(_worth, (self._model, divergence), named)
                for key in kept:
                    yield float(self._ledger.get_or_make(key, lambda: next(found)))

            rng = random.Random(f"{settings.seed}/start")
            even = ladders.start(wanted.shares(), rng)
            starts = [even, ladders.fitted(_added_up(ladders, fitness, self._progress), rng)]
            found = evolve(
                ladders,
                starts,
                fitness,
                generations=settings.generations,
                candidates=settings.candidates,
                seed=settings.seed,
                progress=self._progress,
            )
        about = {
            "cost": wanted.cost,
            "cost_target": ladders.target,
            "cost_found": ladders.cost(found.state),
            **asdict(settings),
            "images": sum(map(len, self._judged.values())),
            "probes": len(probes(ladders)),
            "states": found.seen,
            "fitness": list(found.history),
        }
        return plan(ladders.kept(found.state), {SEARCHED: about})

    def _times(self) -> BlockTimes:
        return block_times(self._model, cache_dir=self._cache_dir, progress=self._progress)

    def _opened(self) -> Ledger:
        """What states were worth, in a file named by all that it depends on."""
        device = next(self._model.parameters()).device
        order = [[*key, score.argsort(stable=True).tolist()] for key, score in self._scores.items()]
        inputs = {
            "model": model_hash(self._model),
            "refitted": {name: subset_hash(each) for name, each in self._drawn.items()},
            "judged": {name: subset_hash(each) for name, each in self._judged.items()},
            "order": content_hash(order),
            "correction": asdict(_CORRECTION),
            "computed": [self._batch_size, str(device), current_precision(device), torch.__version__, __version__],
        }
        place = Path(user_cache() if self._cache_dir is None else self._cache_dir) / "searches"
        return Ledger(place / f"{content_hash(inputs)[:24]}.json", inputs, "fitness")

    def _refitted(self, ladders: Ladders) -> tuple[Refits, Divergence]:
        """Refit all layers at all counts, which are the same for every goal, and look at what the dense model says."""
        counts = dict(zip(ladders.keys, ladders.counts, strict=True))
        order = {key: score.argsort(stable=True) for key, score in self._scores.items()}
        device = next(self._model.parameters()).device
        room = self._stack.enter_context(room_for(shapes_of(self._model, counts), self._limit_bytes, device))
        refits = Refits(self._model, order, counts, room)
        images = CorrectionImages(self._model, self._drawn, _CORRECTION.weighting, self._batch_size)
        refits.fit(DenseSums(self._model, images, refits.groups, self._limit_bytes), _CORRECTION, self._progress)
        return refits, Divergence(self._model, self._judged, self._batch_size)


def _added_up(ladders: Ladders, fitness: Callable[[Sequence[State]], Iterator[float]], progress: bool) -> State:
    """Look at what each group costs alone, and return the state that is best if that adds up."""
    asked = probes(ladders)
    if not asked:
        return ladders.full
    looks = track(fitness(asked), "what each block costs alone", total=len(asked), show=progress)
    return cheapest(ladders, dict(zip(asked, looks, strict=True)))


def _worth(read: tuple[nn.Module, Divergence], state: Refitted) -> Iterator[float]:
    """What a state is worth; read are the dense model, and what tells how far from it one is that was cut."""
    model, divergence = read
    with working_on(model, refuse=None), undisturbed(), torch.no_grad():
        worth = divergence.of(state.build(model))
    yield worth


def _first(samples: SampleSet, most: int) -> SampleSet:
    return Subset(samples, tuple(range(min(most, len(samples)))), samples.name)
