"""Benchmark a model on some corruptions, and read the figures and the records."""

from shiftproof import bench, load_classifier

model = load_classifier("demo")  # or "timm:resnet50", "onnx:model.onnx", "file:weights.pt?arch=..."
run = bench.run(
    model,
    "demo",  # or a folder, a CSV file, an ImageNet-C tree
    corruptions=["gaussian_noise", "glass_blur", "fog"],
    severities=[3],
    out="example-run",
)

scores = run.scores.models[0]
clean = scores.summary["clean"]
print(f"clean error {clean.value:.0%} ({clean.lower:.0%} to {clean.upper:.0%})")
for name, error in scores.of_corruptions("error").items():
    print(f"{name:15} {error.value:.0%} ({error.lower:.0%} to {error.upper:.0%})")

records = run.records(corruptions=["fog"])  # an Arrow table; run.cell gives arrays
wrong = [
    (row["id"], model.classes.names[row["prediction"]])
    for row in records.to_pylist()
    if row["prediction"] != row["target"]
]
print("in the fog:", *(f"{name} became {said}" for name, said in wrong[:3]), sep="\n  ")
