"""mCE and its relatives from errors that were measured with other tools."""

from shiftproof import metrics
from shiftproof.corruptions import COMMON
from shiftproof.errors import InputError

# Top-1 errors in fractions, severities 1 to 5, keyed by the corruption's name.
errors = {name: [0.35, 0.45, 0.55, 0.65, 0.75] for name in COMMON}
clean = 0.24

print(f"mCE {metrics.mean_corruption_error(errors):.3f}")
print(f"relative mCE {metrics.relative_mean_corruption_error(errors, clean):.3f}")

accuracy = {name: {s + 1: 1 - e for s, e in enumerate(row)} for name, row in errors.items()}
print(f"mPC {metrics.mean_performance_under_corruption(accuracy):.3f}")
print(f"rPC {metrics.relative_performance_under_corruption(accuracy, 1 - clean):.3f}")

# A partial table is refused: a mean over fewer corruptions is another number.
del errors["fog"]
try:
    metrics.mean_corruption_error(errors)
except InputError as error:
    print(error)
