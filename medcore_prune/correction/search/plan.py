"""`searched_plan`: how much each block keeps, found by running the refitted network (METHOD section 15)."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..._support.devices import refuse_half, require_default_dtype
from ..._support.files import user_cache
from ..._support.machines.executor import executor
from ..._support.memo import Ledger
from ..._support.progress import track
from ..._support.records import content_hash
from ..._support.version import __version__
from ...calibration.statistics import Statistics
from ...data.samples import SampleSet, Subset, subset_hash
from ...data.splits.split import Data, training_samples
from ...models.calls.altered import refuse_hooked
from ...models.calls.call import on_models, undisturbed, working_on
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
from ...scoring.inputs import Inputs
from ...scoring.recipes import Baseline, Scorer, get_baseline, scored
from ..images import CorrectionImages
from ..settings import CorrectionSettings
from ..streams import room_for
from .alone import cheapest, probes
from .divergence import Divergence
from .evolve import evolve
from .goal import Goal
from .refits import DenseSums, Refits, Refitted, shapes_of
from .settings import CANDIDATES, GENERATIONS, IMAGES, SearchSettings
from .states import Ladders, State

_GIGABYTE = 1e9


@on_models("model", "reference", refuse=refuse_hooked)
def searched_plan(
    model: nn.Module,
    goal: Level | Target | str,
    criterion: Scorer = "residual",
    *,
    data: Data,
    statistics: Statistics | None = None,
    reference: nn.Module | None = None,
    cost: str = "params",
    protect: int | None = None,
    samples: int = 64,
    images: int = IMAGES,
    generations: int = GENERATIONS,
    candidates: int = CANDIDATES,
    seed: int = 0,
    batch_size: int = 8,
    memory_limit_gb: float = 4.0,
    cache_dir: str | Path | None = None,
    times: BlockTimes | None = None,
    progress: bool = True,
) -> Plan:
    """Search how many heads and neurons each block keeps, at the cost of a level or of a target.

    A criterion orders the units inside each block; the search decides how many of them stay where, between blocks and
    between heads and neurons. What a state is worth is seen on training images, without labels and without training:
    with `proj` and `lin2` of every block refitted by least squares, the divergence of the masks' logits from the dense
    model's, sum of Bernoulli KL times 1 + lambda_B * band of the dense model's own mask. It starts from the state that
    would be best if what each group costs alone added up, or from the same share of all groups where that is better.
    Elitist: 1 to 4 quanta move between groups, and the best of all children and their parent goes on. Correct the
    pruned model afterwards.

    Args:
        model: The adapted model with its mask decoder; not touched.
        goal: `h50_m70` or a `Level`: the cost that the paper's policy leaves at that level, `protect` included;
            `params=60%`, `flops=60%`, `latency=50%` or a `Target`: that share goes.
        criterion: As for `plan`; of its quotas nothing is read.
        data: A split, whose training part is drawn from, or images by data set.
        statistics: From `calibrate`, where the criterion reads any.
        reference: The checkpoint that the model was adapted from, for criteria that run it.
        cost: What a level is counted in, and quanta with it: `params`, `flops` or `latency`, milliseconds on this
            machine; a target says so itself.
        protect: How many of the deepest blocks keep everything. None protects none in the search, and means the default
            of `plan` for the cost of a level.
        samples: Images of each data set that layers are refitted on.
        images: Of these, how many in all states are judged on, as many of each set.
        generations, candidates: Of the search, and states in each.
        seed: Of the draw, the search and stochastic criteria.
        batch_size: Images at a time.
        memory_limit_gb: Refits beyond this many gigabytes go to a memory-mapped temporary file, and no more sums than
            this are kept at once. On a GPU refits stay there, as long as they fit into half of its free memory.
        cache_dir: Where what states were worth is kept, so that a stopped search goes on; by default `user_cache()`.
        times: From `block_times`, where latency counts; measured, or found kept, where there are none.
        progress: Show how far it is.

    Returns:
        An ordinary plan; `notes["searched"]` says how it came about, with the fitness at the start and behind each
        generation.

    Raises:
        BudgetError: So much cannot go, or the goal cannot be read.
        SurgeryError: The layers of this model cannot be refitted, or a part was compiled, patched or hooked.
        DataError: No images.
        RegistryError, CriterionError, StatisticsError: As of `plan`.
        MedcorePruneError: The model has no mask decoder, or is of half precision.
    """
    require_default_dtype()
    refuse_half(model)
    settings = SearchSettings(samples, images, generations, candidates, seed)
    drawn = training_samples(data, "searching a budget", samples, seed, geometry_of(model).frame)
    recipe, scores = scored(_without_quotas(criterion), Inputs(model, reference, drawn, statistics, seed))
    wanted = Goal.of(
        model, goal, cost, protect, lambda: times or block_times(model, cache_dir=cache_dir, progress=progress)
    )
    ladders = wanted.ladders()
    scores = check_scores(scores, {(group.block, group.family): group.n_units for group in groups_of(model)})

    def plan(kept: Mapping[Key, int], notes: Mapping[str, Any] | None = None) -> Plan:
        name, level = recipe.name, str(wanted.goal)
        return plan_of_counts(
            model, kept, scores, level=level, criterion_name=name, protected=wanted.protected, notes=notes
        )

    judged = {name: _first(each, -(-images // len(drawn))) for name, each in drawn.items()}
    ledger = _ledger(model, scores, drawn, judged, batch_size, cache_dir)
    with (
        kept_stems(),
        _refitted(model, scores, ladders, drawn, batch_size, memory_limit_gb * _GIGABYTE, progress) as refits,
    ):
        read = model, Divergence(model, judged, batch_size)

        def fitness(states: Sequence[State]) -> Iterator[float]:
            kept = {" ".join(map(str, each.values())): each for each in map(ladders.kept, states)}
            unknown = [refits.of(plan(kept[key])) for key in kept if key not in ledger]
            named = {f"state {number} of a searched budget": state for number, state in enumerate(unknown, 1)}
            found = executor().map(_worth, read, named)
            for key in kept:
                yield float(ledger.get_or_make(key, lambda: next(found)))

        rng = random.Random(f"{seed}/start")
        starts = [ladders.start(wanted.shares(), rng), ladders.fitted(_added_up(ladders, fitness, progress), rng)]
        found = evolve(
            ladders, starts, fitness, generations=generations, candidates=candidates, seed=seed, progress=progress
        )
    about = {
        "cost": wanted.cost,
        "cost_target": ladders.target,
        "cost_found": ladders.cost(found.state),
        **asdict(settings),
        "images": sum(map(len, judged.values())),
        "probes": len(probes(ladders)),
        "states": found.seen,
        "fitness": list(found.history),
    }
    return plan(ladders.kept(found.state), {SEARCHED: about})


_CORRECTION = CorrectionSettings()


def _added_up(ladders: Ladders, fitness: Callable[[Sequence[State]], Iterator[float]], progress: bool) -> State:
    """Look at what each group costs alone, and return the state that is best if that adds up."""
    asked = probes(ladders)
    looks = track(fitness(asked), "what each block costs alone", total=len(asked), show=progress)
    return cheapest(ladders, dict(zip(asked, looks, strict=True)))


def _worth(read: tuple[nn.Module, Divergence], state: Refitted) -> Iterator[float]:
    """What a state is worth; read are the dense model, and what tells how far from it one is that was cut."""
    model, divergence = read
    with working_on(model, refuse=None), undisturbed(), torch.no_grad():
        worth = divergence.of(state.build(model))
    yield worth


def _ledger(
    model: nn.Module,
    scores: Mapping[Key, Tensor],
    drawn: Mapping[str, SampleSet],
    judged: Mapping[str, SampleSet],
    batch_size: int,
    cache_dir: str | Path | None,
) -> Ledger:
    """What states were worth, in a file named by all that it depends on."""
    device = next(model.parameters()).device
    inputs = {
        "model": model_hash(model),
        "refitted": {name: subset_hash(each) for name, each in drawn.items()},
        "judged": {name: subset_hash(each) for name, each in judged.items()},
        "order": content_hash([[*key, score.argsort(stable=True).tolist()] for key, score in scores.items()]),
        "correction": asdict(_CORRECTION),
        "computed": [batch_size, str(device), current_precision(device), torch.__version__, __version__],
    }
    place = Path(user_cache() if cache_dir is None else cache_dir) / "searches"
    return Ledger(place / f"{content_hash(inputs)[:24]}.json", inputs, "fitness")


def _without_quotas(criterion: Scorer) -> Scorer:
    """What reads for its quotas, such as the sensitivity of blocks, is not asked for."""
    recipe = get_baseline(criterion) if isinstance(criterion, str) else criterion
    return recipe.with_settings(quotas=SEARCHED) if isinstance(recipe, Baseline) else recipe


def _first(samples: SampleSet, most: int) -> SampleSet:
    return Subset(samples, tuple(range(min(most, len(samples)))), samples.name)


@contextmanager
def _refitted(
    model: nn.Module,
    scores: Mapping[Key, Tensor],
    ladders: Ladders,
    drawn: Mapping[str, SampleSet],
    batch_size: int,
    limit_bytes: float,
    progress: bool,
) -> Iterator[Refits]:
    """Refit all layers at all counts, and keep the model in evaluation mode while the block lasts."""
    counts = dict(zip(ladders.keys, ladders.counts, strict=True))
    order = {key: score.argsort(stable=True) for key, score in scores.items()}
    with (
        evaluating(model),
        torch.no_grad(),
        room_for(shapes_of(model, counts), limit_bytes, next(model.parameters()).device) as room,
    ):
        refits = Refits(model, order, counts, room)
        images = CorrectionImages(model, drawn, _CORRECTION.weighting, batch_size)
        refits.fit(DenseSums(model, images, refits.groups, limit_bytes), _CORRECTION, progress)
        yield refits
