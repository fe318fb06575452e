"""`searched_plan`: how much each block keeps, found by running the refitted network (METHOD section 15)."""

from pathlib import Path

from torch import nn

from ..._support.devices import refuse_half, require_default_dtype
from ...calibration.statistics import Statistics
from ...data.splits.split import Data
from ...models.calls.altered import refuse_hooked
from ...models.calls.call import on_models
from ...pruning.budget import SEARCHED
from ...pruning.level import Level
from ...pruning.plan import Plan
from ...pruning.target import Target
from ...pruning.times import BlockTimes
from ...scoring.inputs import Inputs
from ...scoring.recipes import Baseline, Scorer, get_baseline, scored
from .search import Search, draw
from .settings import CANDIDATES, GENERATIONS, IMAGES, SearchSettings


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
    drawn = draw(model, data, settings)
    recipe, scores = scored(_without_quotas(criterion), Inputs(model, reference, drawn, statistics, seed))
    with Search(
        model,
        recipe.name,
        scores,
        drawn,
        settings,
        protect=protect,
        batch_size=batch_size,
        memory_limit_gb=memory_limit_gb,
        cache_dir=cache_dir,
        progress=progress,
    ) as search:
        return search.plan(goal, cost, times)


def _without_quotas(criterion: Scorer) -> Scorer:
    """What reads for its quotas, such as the sensitivity of blocks, is not asked for."""
    recipe = get_baseline(criterion) if isinstance(criterion, str) else criterion
    return recipe.with_settings(quotas=SEARCHED) if isinstance(recipe, Baseline) else recipe
