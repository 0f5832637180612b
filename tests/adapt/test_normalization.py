"""One way to normalise by the batch: every kind of layer against a plain twin in training mode."""

import copy
import functools

import pytest
import timm.layers
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torch.utils.checkpoint import checkpoint

from shiftproof.adapt import BatchNorm, Guard, SelfLearning
from shiftproof.errors import ModelError
from support.small_networks import noise

BATCHES = [noise(6, seed=1), noise(6, seed=2), noise(3, seed=3)]


class Part(nn.Module):
    """A convolution and a batch norm, which subclasses run in other ways."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 6, 3)
        self.norm = nn.BatchNorm2d(6)

    def forward(self, x):
        return self.norm(self.conv(x))


def network(part=Part):
    """Two batch norms, the second in a part of its own, with statistics of some training set."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4, eps=1e-3),
            nn.ReLU(),
            part(),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(6, 5),
        )
        for layer in (module[1], module[3].norm):
            layer.running_mean.normal_(0, 0.5)
            layer.running_var.uniform_(0.5, 3)
            layer.weight.data.uniform_(0.5, 2)
            layer.bias.data.normal_()
        module[-1].weight.data.mul_(4)
    return module.eval()


def with_layers(change):
    """Return the network with each of its batch norms changed by ``change``."""
    module = network()
    module[1] = change(module[1])
    module[3].norm = change(module[3].norm)
    return module


def built_as(kind, **options):
    def change(layer):
        made = kind(layer.num_features, eps=layer.eps, **options)
        state = layer.state_dict()
        made.load_state_dict({n: v for n, v in state.items() if n in made.state_dict()})
        return made.eval()

    return functools.partial(with_layers, change)


class Written(nn.Module):
    """Batch norm that somebody wrote anew, on no class of torch's."""

    def __init__(self, width, eps):
        super().__init__()
        self.eps = eps
        self.weight, self.bias = (nn.Parameter(torch.ones(width)) for _ in range(2))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x):
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return x * scale[:, None, None] + (self.bias - self.running_mean * scale)[:, None, None]


class WithFunction(nn.BatchNorm2d):
    """A forward of its own, by the function, as timm and many others have it."""

    def forward(self, x):
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias,
            self.training, self.momentum, self.eps,
        )  # fmt: skip


class Keyword(Part):
    def forward(self, x):
        return self.norm(input=self.conv(x))


class Checkpointed(Part):
    reentrant = False

    def forward(self, x):
        return checkpoint(super().forward, x, use_reentrant=self.reentrant)


class Reentrant(Checkpointed):
    reentrant = True


class Whole(nn.Module):
    """All of the network in one reentrant checkpoint, whose input asks for no gradient."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return checkpoint(self.inner, x, use_reentrant=True)


def run_whole():
    return Whole(network())


def lazy():
    def change(layer):
        made = nn.LazyBatchNorm2d(eps=layer.eps)
        made(torch.zeros(1, layer.num_features, 2, 2))
        made.load_state_dict(layer.state_dict())
        return made.eval()

    return with_layers(change)


def parametrized():
    class Twice(nn.Module):
        def forward(self, x):
            return 2 * x

        def right_inverse(self, x):
            return x / 2

    def change(layer):
        return nn.utils.parametrize.register_parametrization(layer, "weight", Twice())

    return with_layers(change)


def replaced():
    """A forward that is set on the layer itself, bound to it."""

    def change(layer):
        layer.forward = functools.partial(WithFunction.forward, layer)
        return layer

    return with_layers(change)


def channels_last():
    return network().to(memory_format=torch.channels_last)


def compiled():
    module = network()
    module[3] = torch.compile(module[3], backend="eager")
    return module


KINDS = {
    "torch's own": network,
    "sync": built_as(nn.SyncBatchNorm),
    "momentum None": built_as(nn.BatchNorm2d, momentum=None),
    "no affine": built_as(nn.BatchNorm2d, affine=False),
    "with the function": built_as(WithFunction),
    "timm's": built_as(timm.layers.BatchNormAct2d, apply_act=False),
    "timm's frozen": built_as(timm.layers.FrozenBatchNormAct2d, apply_act=False),
    "torchvision's frozen": built_as(torchvision.ops.FrozenBatchNorm2d),
    "written anew": built_as(Written),
    "lazy": lazy,
    "parametrized": parametrized,
    "forward replaced": replaced,
    "by keyword": functools.partial(network, Keyword),
    "checkpointed": functools.partial(network, Checkpointed),
    "checkpointed, reentrant": functools.partial(network, Reentrant),
    "whole, reentrant": run_whole,
    "channels last": channels_last,
    "data parallel": lambda: nn.DataParallel(network()),
    "compiled": compiled,
}

NOT_LEARNT = ("no affine", "timm's frozen", "torchvision's frozen")
"""Kinds without affine parameters of their own."""


def twin(module, kind):
    """The same network of torch's own layers in training mode, as far as the kind goes."""
    plain = network()
    plain.load_state_dict(network().state_dict())
    if kind == "no affine":
        for layer in (plain[1], plain[3].norm):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
    for layer in (plain[1], plain[3].norm):
        layer.training = True
    return plain


def train(plain, batches, learn, lr=0.1):
    """Minimize the entropy by hand; return the logits before each step."""
    optimizer = torch.optim.SGD(learn(plain), lr=lr)
    outputs = []
    for batch in batches:
        logits = plain(batch)
        optimizer.zero_grad()
        torch.distributions.Categorical(logits=logits).entropy().mean().backward()
        optimizer.step()
        outputs.append(logits.detach())
    return outputs


def affine(plain):
    return [*plain[1].parameters(), *plain[3].norm.parameters()]


pytestmark = [
    # Torch advises against TorchScript, and tells of a reentrant checkpoint without gradients.
    pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning"),
]


class TestEveryKind:
    @pytest.mark.parametrize("kind", KINDS)
    def test_batch_statistics_are_those_of_the_twin(self, kind):
        module = KINDS[kind]()
        adapter, plain = BatchNorm(module, prior=0), twin(module, kind)
        for batch in BATCHES:
            with torch.no_grad():
                expected = plain(batch)
            torch.testing.assert_close(adapter(batch), expected, rtol=1e-5, atol=1e-5)
        assert not adapter.events

    @pytest.mark.parametrize("kind", KINDS)
    def test_steps_are_those_of_the_twin(self, kind):
        """Over several steps, so that a gradient that misses the statistics shows."""
        module, plain = KINDS[kind](), twin(KINDS[kind](), kind)
        if kind in NOT_LEARNT:
            # What is before the norms learns, through their statistics.
            adapter = SelfLearning(
                module,
                loss="ent",
                lr=0.1,
                prior=0,
                parameters=lambda m: {"0.weight": m[0].weight},
            )
            expected = train(plain, BATCHES, lambda m: [m[0].weight])
        else:
            adapter = SelfLearning(
                module, loss="ent", lr=0.025 if kind == "parametrized" else 0.1, prior=0
            )
            # The gradient of half the weight is twice as large, and the step counts twice.
            half = kind == "parametrized"
            expected = train_parametrized(plain) if half else train(plain, BATCHES, affine)
        for batch, logits in zip(BATCHES, expected, strict=True):
            torch.testing.assert_close(adapter(batch), logits, rtol=1e-5, atol=2e-5)
        assert not adapter.events

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_prior_mixes_as_in_torch_s_own_layer(self, kind):
        options = {"prior": 4}
        plain = network()
        if kind == "no affine":
            plain = twin(None, kind).eval()
        for build in (BatchNorm, functools.partial(SelfLearning, parameters="last", lr=0)):
            expected = build(plain, **options)(BATCHES[0])
            result = build(KINDS[kind](), **options)(BATCHES[0])
            torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("kind", KINDS)
    def test_under_guard(self, kind):
        if kind in NOT_LEARNT:
            return
        guard = Guard(SelfLearning(KINDS[kind](), loss="ent", lr=1e-3), probation=4, window=8)
        for batch in BATCHES:
            assert torch.isfinite(guard(batch)).all()
        kinds = {event.kind for event in guard.events}
        assert "skipped" not in kinds


def train_parametrized(plain):
    weights = [layer.weight for layer in (plain[1], plain[3].norm)]
    biases = [layer.bias for layer in (plain[1], plain[3].norm)]
    outputs = []
    for batch in BATCHES:
        logits = plain(batch)
        loss = torch.distributions.Categorical(logits=logits).entropy().mean()
        gradients = torch.autograd.grad(loss, [*weights, *biases])
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients[:2], strict=True):
                weight -= 2 * 0.025 * 2 * gradient
            for bias, gradient in zip(biases, gradients[2:], strict=True):
                bias -= 0.025 * gradient
        outputs.append(logits.detach())
    return outputs


class TestLayersThatRunTwice:
    def test_each_run_normalises_by_its_own_values(self):
        module = network()
        module[4] = nn.Sequential(nn.Conv2d(6, 4, 1), module[1], nn.Conv2d(4, 6, 1))
        plain = copy.deepcopy(module)
        for layer in (plain[1], plain[3].norm):
            layer.training = True
        expected = train(plain, BATCHES, affine)
        adapter = SelfLearning(module, loss="ent", lr=0.1, prior=0)
        for batch, logits in zip(BATCHES, expected, strict=True):
            torch.testing.assert_close(adapter(batch), logits, rtol=1e-5, atol=2e-5)


class TestDimensions:
    @pytest.mark.parametrize(
        ("layer", "shape"),
        [
            (nn.BatchNorm1d, (8, 4)),
            (nn.BatchNorm1d, (8, 4, 5)),
            (nn.BatchNorm3d, (8, 4, 3, 5, 2)),
        ],
    )
    def test_steps(self, layer, shape):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            module = nn.Sequential(layer(4), nn.Tanh(), layer(4), nn.Flatten(), nn.LazyLinear(3))
            x = torch.randn(*shape) * 2 + 1
            module.eval()(x)
        plain = copy.deepcopy(module)
        for part in (plain[0], plain[2]):
            part.training = True
        expected = train(plain, [x, x, x], lambda m: [*m[0].parameters(), *m[2].parameters()])
        adapter = SelfLearning(module, loss="ent", lr=0.1, prior=0)
        for logits in expected:
            torch.testing.assert_close(adapter(x), logits, rtol=1e-5, atol=1e-5)

    def test_bfloat16_is_as_near_to_the_exact_value_as_torch_is(self):
        module = network()
        x = BATCHES[0] * 0.3 + 20  # means far from 0, which bfloat16 keeps to two digits
        with torch.no_grad():
            exact = twin(module, "")(x)
            halves = twin(module, "").to(torch.bfloat16)(x.to(torch.bfloat16)).float()
        result = BatchNorm(copy.deepcopy(module).to(torch.bfloat16), prior=0)(
            x.to(torch.bfloat16)
        ).float()
        assert float((result - exact).abs().max()) <= 1.5 * float((halves - exact).abs().max())


# ---------------------------------------------------------------- what cannot be followed


class Function(Part):
    """Batch norm by the function alone, on a layer's tensors or on buffers of its own."""

    def forward(self, x):
        norm = self.norm
        return F.batch_norm(
            self.conv(x), norm.running_mean, norm.running_var, norm.weight, norm.bias, False
        )


class Bypassed(Part):
    def forward(self, x):
        return self.norm.forward(self.conv(x))


def scripted():
    module = network()
    module[3] = torch.jit.script(module[3])
    return module


def traced():
    module = network()
    module[3] = torch.jit.trace(module[3], torch.zeros(1, 4, 8, 8))
    return module


def traced_function():
    return network(TracedInside)


class TracedInside(Part):
    def __init__(self):
        super().__init__()
        self.inner = [torch.jit.trace(Part().eval(), torch.zeros(1, 4, 8, 8))]

    def forward(self, x):
        return self.inner[0](x)


def closed_over():
    module = network()
    norm = module[3].norm
    original = norm.forward
    norm.forward = lambda x: original(x) * 2
    return module


def part_closed_over():
    module = network()
    original = module[3].forward
    module[3].forward = lambda x: original(x) * 2
    return module


def switched_off():
    module = network()
    module[3].norm.forward = nn.Identity().forward
    return module


class OthersStatistics(nn.BatchNorm2d):
    def forward(self, x):
        return F.batch_norm(x, torch.zeros(6), torch.ones(6), self.weight, self.bias)


class AlwaysTheBatch(nn.BatchNorm2d):
    def forward(self, x):
        return F.batch_norm(x, None, None, self.weight, self.bias, training=True)


def second_as(kind):
    module = network()
    made = kind(6)
    made.load_state_dict(module[3].norm.state_dict())
    module[3].norm = made.eval()
    return module


def exported():
    """The whole as a graph of operations, without layers."""

    module = network()
    graph = torch.fx.GraphModule(module, torch.fx.Tracer().trace(module))
    for node in graph.graph.nodes:
        if node.target == "3.norm":
            with graph.graph.inserting_before(node):
                names = ("running_mean", "running_var", "weight", "bias")
                got = [graph.graph.get_attr(f"3.norm.{name}") for name in names]
                new = graph.graph.call_function(F.batch_norm, (node.args[0], *got))
            node.replace_all_uses_with(new)
            graph.graph.erase_node(node)
            break
    graph.recompile()
    return graph


REFUSED = {
    "by the function": (functools.partial(network, Function), "part '3'"),
    "by the layer's forward": (functools.partial(network, Bypassed), "part '3'"),
    "scripted": (scripted, "part '3'"),
    "traced": (traced, "part '3'"),
    "traced, out of sight": (traced_function, "part '3'"),
    "forward of a layer that calls the original": (closed_over, "'3.norm'"),
    "forward of a part that calls the original": (part_closed_over, "part '3'"),
    "switched off": (switched_off, "'3.norm'"),
    "other statistics": (functools.partial(second_as, OthersStatistics), "'3.norm'"),
    "always the batch's": (functools.partial(second_as, AlwaysTheBatch), "'3.norm'"),
    "a graph of operations": (exported, "runs batch norm"),
}


class TestRefusals:
    @pytest.mark.parametrize("kind", REFUSED)
    @pytest.mark.parametrize(
        "build",
        [BatchNorm, functools.partial(BatchNorm, prior=0), SelfLearning],
        ids=["prior", "batch", "self-learning"],
    )
    def test_what_cannot_be_followed_is_refused_by_name(self, kind, build):
        make, words = REFUSED[kind]
        module = make()
        before = {name: value.clone() for name, value in module.state_dict().items()}
        with pytest.raises(ModelError, match=words):
            build(module)(BATCHES[0])
        for name, value in module.state_dict().items():
            assert torch.equal(value, before[name])

    def test_it_is_refused_every_time(self):
        adapter = BatchNorm(network(Function))
        for batch in BATCHES:
            with pytest.raises(ModelError, match="part '3'"):
                adapter(batch)

    def test_several_devices(self):
        module = nn.DataParallel(network())
        module.device_ids = [0, 1]
        with pytest.raises(ModelError, match=r"2 devices \(DataParallel\)"):
            BatchNorm(module)

    def test_quantized_layers(self):
        module = network()
        module[3].norm = torch.ao.nn.quantized.BatchNorm2d(6)
        with pytest.raises(ModelError, match=r"'3.norm' .* quantized"):
            SelfLearning(module)

    def test_the_source_s_statistics_need_no_following(self):
        """An infinite prior normalises as the network does, whatever it is."""
        module = network(Function)
        with torch.no_grad():
            expected = module(BATCHES[0])
        torch.testing.assert_close(BatchNorm(module, prior=float("inf"))(BATCHES[0]), expected)
        adapter = SelfLearning(module, prior=float("inf"), parameters="last")
        torch.testing.assert_close(adapter(BATCHES[0]), expected)

    def test_other_uses_of_batch_norm_are_no_hindrance(self):
        """Weight standardisation and instance norm run torch's batch norm on other things."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            module = nn.Sequential(
                timm.layers.StdConv2d(3, 4, 3), nn.BatchNorm2d(4),
                nn.InstanceNorm2d(4, track_running_stats=True), nn.InstanceNorm2d(4),
                nn.BatchNorm2d(4, track_running_stats=False),
                nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
            ).eval()  # fmt: skip
        for adapter in (BatchNorm(module, prior=0), SelfLearning(module)):
            assert torch.isfinite(adapter(BATCHES[0])).all()
