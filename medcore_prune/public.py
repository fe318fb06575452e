"""Everything at the front door: what `import medcore_prune as mp` offers as `mp.NAME`."""

from . import data, zoo
from ._support.errors import MedcorePruneError
from ._support.registry import load_plugin
from ._support.version import __version__
from .calibration.calibrate import calibrate
from .calibration.collector import Collector, Need, get_collector, register_collector
from .calibration.sensitivity import block_sensitivity
from .calibration.statistics import Statistics
from .checkpoints.onnx import export_onnx
from .checkpoints.pruned import load, save
from .checkpoints.sam import load_sam
from .correction.correct import correct
from .correction.settings import CorrectionReport, CorrectionSettings, LayerCorrection
from .evaluation.estimates import Estimate, calibration_estimate, evaluation_estimate, recovery_estimate, require_memory
from .evaluation.evaluate import evaluate
from .evaluation.latency import Latency, compare_latency, measure_latency
from .evaluation.leverage import BoundaryLeverage
from .evaluation.metrics import evaluate_mask
from .models.families import register_family
from .models.groups import StructuredGroup, groups_of
from .models.pairs import require_aligned
from .models.predictor import Predictor
from .models.segment_anything import build_sam
from .models.switches import checkpointing, set_attention, set_checkpointing
from .pruning.automatic import automatic_plan
from .pruning.cost import count
from .pruning.level import Level
from .pruning.plan import Plan
from .pruning.planning import make_plan, plan, plan_from_scores
from .pruning.surgery import masked, parameter_masks, prune, verify
from .pruning.target import Target
from .pruning.traceable import all_but_units, heads_by_layer, traceable
from .scoring.criterion import Criterion, unit_scores
from .scoring.exchange import WeightScores, scores_frame
from .scoring.recipes import Baseline, available_baselines, get_baseline, register_baseline
from .scoring.registry import available_criteria, build_criterion, get_criterion, register_criterion
from .training.adapt import AdaptSettings, adapt
from .training.cascade import Cascaded, cascade, second_pass
from .training.objective import RecoveryWeights
from .training.recover import RecoveryHistory, RecoverySettings, recover, seconds_per_step
from .training.store import RecoveryStore

__all__ = [
    "AdaptSettings",
    "Baseline",
    "BoundaryLeverage",
    "Cascaded",
    "Collector",
    "CorrectionReport",
    "CorrectionSettings",
    "Criterion",
    "Estimate",
    "Latency",
    "LayerCorrection",
    "Level",
    "MedcorePruneError",
    "Need",
    "Plan",
    "Predictor",
    "RecoveryHistory",
    "RecoverySettings",
    "RecoveryStore",
    "RecoveryWeights",
    "Statistics",
    "StructuredGroup",
    "Target",
    "WeightScores",
    "__version__",
    "adapt",
    "all_but_units",
    "automatic_plan",
    "available_baselines",
    "available_criteria",
    "block_sensitivity",
    "build_criterion",
    "build_sam",
    "calibrate",
    "calibration_estimate",
    "cascade",
    "checkpointing",
    "compare_latency",
    "correct",
    "count",
    "data",
    "evaluate",
    "evaluate_mask",
    "evaluation_estimate",
    "export_onnx",
    "get_baseline",
    "get_collector",
    "get_criterion",
    "groups_of",
    "heads_by_layer",
    "load",
    "load_plugin",
    "load_sam",
    "make_plan",
    "masked",
    "measure_latency",
    "parameter_masks",
    "plan",
    "plan_from_scores",
    "prune",
    "recover",
    "recovery_estimate",
    "register_baseline",
    "register_collector",
    "register_criterion",
    "register_family",
    "require_aligned",
    "require_memory",
    "save",
    "scores_frame",
    "second_pass",
    "seconds_per_step",
    "set_attention",
    "set_checkpointing",
    "traceable",
    "unit_scores",
    "verify",
    "zoo",
]
