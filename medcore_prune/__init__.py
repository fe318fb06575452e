"""Pluggable pruning criteria for SAM and MedSAM image encoders, judged by the contour.

import medcore_prune as mp

model, base = mp.zoo.pocket("adapted"), mp.zoo.pocket("reference")
images = {"polyps": mp.data.phantoms.make("phantom_polyp_a", count=40)}
statistics = mp.calibrate(model, base, images, samples=16)
plan = mp.plan(model, "h50_m70", "medcore", statistics=statistics)
small = mp.prune(model, plan)
mp.evaluate(small, images)
"""

from pathlib import Path as _Path

# In a checkout, criteria/, baselines/ and benchmarks/ lie beside this folder rather than in it.
_checkout = _Path(__file__).resolve().parent.parent
if (_checkout / "setup.cfg").exists():
    __path__.append(str(_checkout))

from . import data, zoo  # noqa: E402
from .adaptation import AdaptSettings, adapt  # noqa: E402
from .attention import set_attention  # noqa: E402
from .automatic import automatic_plan  # noqa: E402
from .baseline import Baseline, available_baselines, get_baseline, register_baseline  # noqa: E402
from .calibration import calibrate  # noqa: E402
from .cascade import Cascaded, cascade, second_pass  # noqa: E402
from .checkpoint import load_sam, require_aligned  # noqa: E402
from .checkpointing import checkpointing, set_checkpointing  # noqa: E402
from .collector import Collector  # noqa: E402
from .collector_registry import get_collector, register_collector  # noqa: E402
from .correction import correct  # noqa: E402
from .correction_report import CorrectionReport, CorrectionSettings, LayerCorrection  # noqa: E402
from .cost import count  # noqa: E402
from .criterion import Criterion, Need, unit_scores  # noqa: E402
from .criterion_registry import available_criteria, build_criterion, get_criterion, register_criterion  # noqa: E402
from .encoders import build_sam, register_family  # noqa: E402
from .errors import MedcorePruneError  # noqa: E402
from .estimate_record import Estimate, require_memory  # noqa: E402
from .estimates import calibration_estimate, evaluation_estimate, recovery_estimate  # noqa: E402
from .evaluation import evaluate  # noqa: E402
from .exchange import WeightScores, parameter_masks, scores_frame  # noqa: E402
from .facade import plan, plan_from_scores  # noqa: E402
from .groups import StructuredGroup, groups_of  # noqa: E402
from .latency import Latency, compare_latency, measure_latency  # noqa: E402
from .level import Level  # noqa: E402
from .leverage import BoundaryLeverage  # noqa: E402
from .metrics import evaluate_mask  # noqa: E402
from .onnx_export import export_onnx  # noqa: E402
from .planning import Plan, make_plan  # noqa: E402
from .plugin import load_plugin  # noqa: E402
from .predictor import Predictor  # noqa: E402
from .pruned_file import load, save  # noqa: E402
from .recovery import recover, seconds_per_step  # noqa: E402
from .recovery_history import RecoveryHistory  # noqa: E402
from .recovery_objective import RecoveryWeights  # noqa: E402
from .recovery_settings import RecoverySettings  # noqa: E402
from .recovery_store import RecoveryStore  # noqa: E402
from .statistics import Statistics  # noqa: E402
from .surgery import masked, prune, verify  # noqa: E402
from .target import Target  # noqa: E402
from .tracing import all_but_units, heads_by_layer, traceable  # noqa: E402
from .version import __version__  # noqa: E402

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
