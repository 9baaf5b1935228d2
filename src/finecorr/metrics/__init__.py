"""Correlations over batches and processes, as metrics for torchmetrics and Lightning.

They are updated with `(preds, target, weight=None, group=None)`, named as in torchmetrics, and
otherwise as the losses are:

- preds: `(n,)` or `(n, targets)`, floating point
- target: the shape of `preds`; NaN is a missing label
- weight: `(n,)`, non-negative: how much each sample counts
- group: `(n,)` integers: correlation within each group; None is group 0

and compute a scalar: the correlation within each group, averaged over groups by their weight, then
over targets. With `per_target=True` it is `(targets,)`; torchmetrics makes a scalar of one target.

Groups and targets with fewer than two labelled samples or with a constant target are left out;
where nothing is left, the result is NaN. A constant prediction counts as 0, as in the losses:
leaving it out would flatter the model. A prediction that is NaN makes the result NaN.

Batches may be of any size, and a group may be spread over batches and processes: the result is
that of all samples at once. States and results are in float64 where the device has it, whatever
the dtype of the batches. There is no gradient: that is what the losses are for.

Every `update` raises ValueError and TypeError as `finecorr.functional.moments.populations` does,
and ValueError where the number of targets is not that of the batches before. The other options of
the constructors are those of `torchmetrics.Metric`.
"""

from finecorr.metrics.moments import ConcordanceCorrCoef, PearsonCorrCoef
from finecorr.metrics.ranks import KendallRankCorrCoef, SpearmanCorrCoef

__all__ = [
    "ConcordanceCorrCoef",
    "KendallRankCorrCoef",
    "PearsonCorrCoef",
    "SpearmanCorrCoef",
]
