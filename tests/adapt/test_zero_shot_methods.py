"""TDA, ZERO, TPT and CLIPArTT against their papers, written out on tiny towers."""

import numpy as np
import pytest
import scipy.special
import torch
from torch import nn

from shiftproof.adapt import TDA, TPT, ZERO, CLIPArTT, make_adapter
from shiftproof.adapt.base.network import AdaptedNetwork
from shiftproof.adapt.zero_shot.clipartt import transductive_loss
from shiftproof.adapt.zero_shot.crops import crop_views, make_views
from shiftproof.adapt.zero_shot.head import SentenceEncoder, find_zero_shot_head
from shiftproof.adapt.zero_shot.zero import count_votes
from shiftproof.errors import InputError, ModelError
from shiftproof.models import Classifier, Preprocess, load_classifier
from shiftproof.rng import generator
from support.small_networks import classifier as plain_classifier

NAMES = ["red cat", "green dog", "blue", "cat"]
TEMPLATE = "a photo of the {}"
PICTURES = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def clip(image_text_models):
    return load_classifier(
        f"transformers:{image_text_models / 'clip'}", classes=NAMES, templates=TEMPLATE
    )


@pytest.fixture(scope="module")
def model(image_text_models):
    import transformers

    return transformers.CLIPModel.from_pretrained(image_text_models / "clip").eval()


@pytest.fixture(scope="module")
def tokens(image_text_models):
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(image_text_models / "clip")
    return lambda texts: tokenizer(texts, return_tensors="pt", padding=True)


def unit(vectors):
    vectors = getattr(vectors, "pooler_output", vectors)
    return vectors / vectors.norm(dim=-1, keepdim=True)


def entropy(logits):
    log_p = scipy.special.log_softmax(logits, axis=-1)
    return -(np.exp(log_p) * log_p).sum(-1)


class TestTDA:
    def by_hand(self, clip, images, *, shots, alpha, beta, scale):
        """The published loop: dictionaries of lists, image by image."""
        with torch.no_grad():
            inputs = clip.prepare(images)
            features = unit(clip.module.image(inputs)).double().numpy()
            logits = clip.module(inputs).double().numpy()
        positive, negative, answers = {}, {}, []
        for f, row in zip(features, logits, strict=True):
            label, h = int(row.argmax()), float(entropy(row))
            p = scipy.special.softmax(row)
            items = [(positive, shots, None)]
            if 0.2 < h / np.log2(len(row)) < 0.5:
                items.append((negative, 2, ((p > 0.03) & (p < 1)).astype(float)))
            for cache, most, mask in items:
                rows = cache.setdefault(label, [])
                if len(rows) < most:
                    rows.append((f, h, mask))
                elif h < rows[-1][1]:
                    rows[-1] = (f, h, mask)
                rows.sort(key=lambda item: item[1])
            final = row.copy()
            for cached, rows in positive.items():
                for key, _, _ in rows:
                    final[cached] += alpha * scale / 100 * np.exp(-beta * (1 - key @ f))
            for rows in negative.values():
                for key, _, mask in rows:
                    final -= 0.5 * scale / 100 * np.exp(-(1 - key @ f)) * mask
            answers.append(final)
        return np.stack(answers), len(negative)

    @pytest.mark.parametrize("shots", [1, 3])
    def test_it_is_the_published_loop(self, clip, shots):
        scale = clip.module.scale
        adapter = TDA(clip, shots=shots, alpha=40.0, beta=2.0, negative_alpha=0.5)
        expected, negative = self.by_hand(
            clip, PICTURES, shots=shots, alpha=40.0, beta=2.0, scale=scale
        )
        assert negative > 0
        got = np.concatenate([adapter.predict(PICTURES[:4]), adapter.predict(PICTURES[4:])])
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
        with adapter.frozen():
            again = adapter.predict(PICTURES[:4])
        assert not np.allclose(again, got[:4])  # it compares with later images, too

    def test_a_broken_image_enters_no_cache(self, clip):
        adapter, other = TDA(clip), TDA(clip)
        inputs = clip.prepare(PICTURES).clone()
        inputs[0] = float("nan")
        adapter._step(inputs)
        other._step(inputs[1:])
        for name, part in adapter.state().items():
            torch.testing.assert_close(part, other.state()[name])


class TestZERO:
    def test_votes_by_hand(self):
        def sure(label, strength):
            return np.eye(4)[label] * strength

        logits = np.stack([sure(0, 9), sure(1, 8), sure(2, 7), sure(1, 6), sure(0, 1), sure(3, 5)])
        logits = torch.tensor(logits, dtype=torch.float32)
        assert count_votes(logits, 2).tolist() == [1, 2, 0, 0]  # a tie; 1 is the next sure answer
        assert count_votes(logits, 4).tolist() == [1, 2, 1, 0]
        assert count_votes(logits[[0, 1]], 2).tolist() == [2, 1, 0, 0]  # nobody left to break it

    def test_it_votes_on_crops(self, clip):
        adapter = ZERO(clip, views=10, share=0.5)
        got = adapter.predict(PICTURES[:3])
        for image, answer in zip(PICTURES, got, strict=False):
            views = make_views(
                adapter._pixels, clip.prepare(image[None]), 10, seed=0, method="zero"
            )
            with torch.no_grad():
                logits = clip.module(views).double().numpy()
            kept = logits[np.argsort(entropy(logits), kind="stable")[:5]]
            votes = np.bincount(kept.argmax(1), minlength=4)
            if (votes == votes.max()).sum() == 1:
                scores = votes + scipy.special.softmax(kept, axis=1).mean(0) / 2
                np.testing.assert_allclose(np.exp(answer), scores / scores.sum(), rtol=1e-3)

    def test_neither_order_nor_batch_changes_an_answer(self, clip):
        together = ZERO(clip, views=5).predict(PICTURES[:3])
        alone = [ZERO(clip, views=5).predict(PICTURES[[place]])[0] for place in (2, 1, 0)]
        np.testing.assert_allclose(together[::-1], alone, rtol=1e-4, atol=1e-5)


def test_views_begin_with_the_image_and_lie_in_it():
    ramp = np.arange(32, dtype=np.uint8)[None, :, None].repeat(32, 0).repeat(3, 2) * 8
    views = crop_views(ramp, 30, generator(0, "views"))
    assert np.array_equal(views[0], ramp)
    rows = views[1:, 0, :, 0].astype(int)
    rising, falling = (np.diff(rows) >= 0).all(1), (np.diff(rows) <= 0).all(1)
    assert (rising | falling).all()
    assert 5 < falling.sum() < 24  # about half are mirrored
    widths = abs(rows[:, -1] - rows[:, 0]) / 248
    assert widths.min() > 0.2  # 8 % of the area at a ratio of 3:4
    assert widths.min() < 0.6


class TestTPT:
    def test_one_step_is_the_papers(self, clip, model, tokens):
        """With transformers' own towers, the words put in as vectors by hand."""
        adapter = TPT(clip, views=6, share=0.5, lr=0.05)
        got = adapter.predict(PICTURES[:2])
        embedding = model.text_model.embeddings.token_embedding
        sentences = tokens([TEMPLATE.replace("{}", name) for name in NAMES])
        first = embedding(sentences["input_ids"]).detach()
        assert adapter._first.shape == (4, first.shape[2])  # a photo of the
        torch.testing.assert_close(adapter._first, first[0, 1:5])
        for image, answer in zip(PICTURES, got, strict=False):
            words = first[0, 1:5].clone().requires_grad_()
            optimizer = torch.optim.AdamW([words], 0.05)

            def classify(vectors, words=words):
                put = torch.cat([first[:, :1], words.expand(4, -1, -1), first[:, 5:]], 1)
                handle = embedding.register_forward_hook(lambda *_: put)
                texts = unit(model.get_text_features(**sentences))
                handle.remove()
                return model.logit_scale.exp().detach() * vectors @ texts.T

            views = make_views(adapter._pixels, clip.prepare(image[None]), 6, seed=0, method="tpt")
            vectors = unit(model.get_image_features(pixel_values=views)).detach()
            logits = classify(vectors)
            sure = logits[torch.tensor(np.argsort(entropy(logits.detach().numpy()))[:3].copy())]
            mean = torch.softmax(sure, 1).mean(0)
            optimizer.zero_grad()
            (-(mean * mean.log()).sum()).backward()
            optimizer.step()
            with torch.no_grad():
                expected = classify(vectors[:1])[0]
            np.testing.assert_allclose(answer, expected.numpy(), rtol=2e-3, atol=2e-3)
        assert all(p.grad is None for p in clip.module.parameters())

    def test_without_a_step_it_is_the_source(self, clip):
        still = TPT(clip, steps=0, views=2).predict(PICTURES[:2])
        np.testing.assert_allclose(still, clip.predict(PICTURES[:2]), rtol=1e-4, atol=1e-4)
        moved = TPT(clip, lr=0.05, views=4, share=1.0).predict(PICTURES[:2])
        assert not np.allclose(moved, still, atol=1e-3)

    def test_a_template_needs_words_before_the_class(self, clip):
        with pytest.raises(InputError, match="learns the words before the class"):
            TPT(clip, template="{} is red")
        with pytest.raises(InputError, match=r"expected a sentence with \{\}"):
            TPT(clip, template="a photo")

    def test_several_templates_are_asked_with_clips_own(self, image_text_models):
        several = load_classifier(
            f"transformers:{image_text_models / 'clip'}", classes=NAMES, templates="simple"
        )
        assert TPT(several, views=2).template == "a photo of a {}."


class TestCLIPArTT:
    def test_the_loss_by_hand(self):
        rng = np.random.default_rng(1)
        v, t = (rng.normal(size=(3, 5)) for _ in range(2))
        v, t = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (v, t))
        q = scipy.special.softmax((v @ v.T + t @ t.T) / 2 / 0.1, axis=1).T
        expected = -(q * scipy.special.log_softmax(7 * v @ t.T, axis=1)).sum(1).mean()
        got = transductive_loss(torch.tensor(v), torch.tensor(t), scale=7.0, temperature=0.1)
        assert float(got) == pytest.approx(expected)

    def test_two_steps_are_the_papers(self, clip, model, tokens):
        adapter = CLIPArTT(clip, steps=2, top=2, lr=0.02, temperature=0.5)
        got = adapter.predict(PICTURES)
        vision = model.vision_model
        learned = [
            p.requires_grad_()
            for layer in vision.modules()
            if isinstance(layer, nn.LayerNorm)
            for p in layer.parameters()
        ]
        before = [p.detach().clone() for p in learned]
        optimizer = torch.optim.Adam(learned, 0.02)
        inputs, scale = clip.prepare(PICTURES), float(model.logit_scale.exp().detach())
        sentences = tokens([TEMPLATE.replace("{}", name) for name in NAMES])
        classes = unit(model.get_text_features(**sentences)).detach()
        for _ in range(2):
            v = unit(model.get_image_features(pixel_values=inputs))
            pairs = (v @ classes.T).topk(2, 1).indices.tolist()
            texts = [TEMPLATE.replace("{}", f"{NAMES[a]} or {NAMES[b]}") for a, b in pairs]
            t = unit(model.get_text_features(**tokens(texts))).detach()
            optimizer.zero_grad()
            transductive_loss(v, t, scale=scale, temperature=0.5).backward()
            optimizer.step()
        with torch.no_grad():
            expected = scale * unit(model.get_image_features(pixel_values=inputs)) @ classes.T
            for parameter, value in zip(learned, before, strict=True):
                parameter.copy_(value)
        np.testing.assert_allclose(got, expected.numpy(), rtol=5e-3, atol=5e-3)
        assert not np.allclose(got, clip.predict(PICTURES), atol=1e-2)

    def test_one_image_teaches_nothing(self, clip):
        got = CLIPArTT(clip).predict(PICTURES[:1])
        np.testing.assert_array_equal(got, clip.predict(PICTURES[:1]))

    def test_a_broken_image_leaves_the_others_sound(self, clip):
        inputs = clip.prepare(PICTURES[:4]).clone()
        alone = CLIPArTT(clip, steps=1)._step(inputs[1:])
        inputs[0] = float("nan")
        torch.testing.assert_close(CLIPArTT(clip, steps=1)._step(inputs)[1:], alone)


@pytest.mark.parametrize("kind", ["open_clip", "siglip"])
@pytest.mark.parametrize("spec", ["tda", "zero:views=3", "tpt:views=3", "clipartt:steps=1"])
def test_both_libraries_and_a_bias(spec, kind, image_text_models):
    path = image_text_models / kind
    name = f"open_clip:local-dir:{path}" if kind == "open_clip" else f"transformers:{path}"
    source = load_classifier(name, classes=NAMES, templates="a photo of the {}")
    logits = make_adapter(spec, source).predict(PICTURES[:2])
    assert logits.shape == (2, 4)
    assert np.isfinite(logits).all()


def test_the_words_of_a_sentence_are_found_without_a_first_token(image_text_models):
    """What stands before the class, and of that not what begins every sentence."""
    source = load_classifier(
        f"open_clip:local-dir:{image_text_models / 'open_clip'}", classes=NAMES, templates="a {}"
    )
    network = AdaptedNetwork(source)
    encoder = SentenceEncoder(find_zero_shot_head(network, "TPT").texts, "TPT")
    assert encoder.find_context("a photo of a {}.", ["cat", "car"]) == (1, 5)
    assert encoder.find_context("itap of {}", ["a cat", "a dog"]) == (1, 4)  # it-ap of


@pytest.mark.parametrize("method", [TDA, ZERO, TPT, CLIPArTT])
def test_other_models_are_refused_in_one_sentence(method):
    name = method.__name__
    with pytest.raises(ModelError, match=rf"^{name} is for zero-shot classifiers.*is none\.$"):
        method(plain_classifier())
    with pytest.raises(ModelError, match=rf"^{name} is for zero-shot classifiers.*bare Linear\.$"):
        method(nn.Linear(2, 2))


def test_classes_of_several_outputs_are_followed(clip):
    some = Classifier(clip.module, clip.preprocess, ["animal", "colour"], outputs=[[0, 1, 3], [2]])
    for spec in ("tda", "zero:views=3", "tpt:views=3,steps=0", "clipartt:steps=1"):
        assert make_adapter(spec, some).predict(PICTURES[:2]).shape == (2, 2)
    np.testing.assert_allclose(
        TPT(some, views=1, steps=0).predict(PICTURES[:2]), some.predict(PICTURES[:2]), rtol=1e-4
    )


def test_options_out_of_range(clip):
    with pytest.raises(InputError, match="shots: expected a whole number, 1 or more, got 0"):
        TDA(clip, shots=0)
    with pytest.raises(InputError, match="share: expected a number, 0 to 1, got 2"):
        ZERO(clip, share=2)
    with pytest.raises(InputError, match="views: expected a whole number, 1 or more, got 0"):
        TPT(clip, views=0)
    with pytest.raises(InputError, match="temperature"):
        CLIPArTT(clip, temperature=0)


def test_a_preprocessing_that_cannot_be_undone_is_refused(clip):
    from shiftproof.models import CallablePreprocess

    other = Classifier(clip.module, CallablePreprocess(lambda image: image), clip.classes)
    for method in (ZERO, TPT):
        with pytest.raises(ModelError, match="Expected a Preprocess"):
            method(other)
    assert isinstance(clip.preprocess, Preprocess)
