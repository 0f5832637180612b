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

scores = run.scores["models"][0]
clean = scores["clean"]["error"]
print(f"clean error {clean['value']:.0%} ({clean['low']:.0%} to {clean['high']:.0%})")
for row in scores["corruptions"]:
    error = row["error"]
    print(
        f"{row['corruption']:15} {error['value']:.0%} ({error['low']:.0%} to {error['high']:.0%})"
    )

records = run.records("source", "fog", 3)
wrong = [
    (name, model.classes.names[said])
    for name, said, truth in zip(records.ids, records.prediction, records.target, strict=True)
    if said != truth
]
print("in the fog:", *(f"{name} became {said}" for name, said in wrong[:3]), sep="\n  ")
