"""Tiny models of images and texts with random weights, saved by the libraries themselves."""

import json
from pathlib import Path

import numpy as np
import torch

SIDE = 32
CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]
WORDS = [
    "<pad>",
    "<s>",
    "</s>",
    "<unk>",
    *(
        "a",
        "photo",
        "drawing",
        "of",
        "the",
        "this",
        "is",
        "red",
        "green",
        "blue",
        "cat",
        "dog",
        ".",
    ),
]


def photographs(count=3, side=(41, 57), seed=0):
    """Return (count, H, W, 3) uint8, smooth with a texture."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 6, 8, 3)).astype(np.uint8)
    grown = coarse.repeat(side[0] // 6 + 1, axis=1).repeat(side[1] // 8 + 1, axis=2)
    noise = rng.integers(-20, 20, (count, *side, 3))
    return np.clip(grown[:, : side[0], : side[1]].astype(int) + noise, 0, 255).astype(np.uint8)


def write_open_clip(folder: Path, *, bias=False) -> Path:
    """Write a folder that OpenCLIP opens by ``local-dir:``."""
    import open_clip

    model_cfg = {
        "embed_dim": 16,
        "vision_cfg": {
            "image_size": SIDE,
            "layers": 2,
            "width": 32,
            "head_width": 16,
            "patch_size": 8,
        },
        "text_cfg": {
            "context_length": 32,
            "vocab_size": 49408,
            "width": 32,
            "heads": 2,
            "layers": 2,
        },
        **({"init_logit_bias": -10.0, "init_logit_scale": 2.0} if bias else {}),
    }
    config = {"model_cfg": model_cfg, "preprocess_cfg": {"mean": CLIP_MEAN, "std": CLIP_STD}}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = open_clip.create_model(f"local-dir:{folder}")
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    return folder


def _save_tokenizer(folder: Path, length: int) -> None:
    import tokenizers
    import transformers

    words = tokenizers.models.WordLevel({word: place for place, word in enumerate(WORDS)}, "<unk>")
    tokenizer = tokenizers.Tokenizer(words)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", bos_token="<s>",
        eos_token="</s>", model_max_length=length,
    )  # fmt: skip
    fast.save_pretrained(folder)


_TOWER = {
    "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
}  # fmt: skip


def _seeded(build):
    """Return a network with random weights, large enough for its outputs to differ."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model = build()
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.data.normal_(0, 0.2)
    return model.eval()


def write_clip(folder: Path) -> Path:
    """Write a folder with a CLIP model of transformers, its image processor and a tokenizer."""
    import transformers

    text = {**_TOWER, "vocab_size": len(WORDS), "max_position_embeddings": 16,
            "eos_token_id": 2, "bos_token_id": 1, "pad_token_id": 0}  # fmt: skip
    vision = {**_TOWER, "image_size": SIDE, "patch_size": 8}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    _seeded(lambda: transformers.CLIPModel(config)).save_pretrained(folder)
    transformers.CLIPImageProcessor(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    ).save_pretrained(folder)
    _save_tokenizer(folder, 16)
    return folder


def write_siglip(folder: Path) -> Path:
    """Write a folder with a SigLIP model of transformers, its image processor and tokenizer."""
    import transformers

    text = {**_TOWER, "vocab_size": len(WORDS), "max_position_embeddings": 64,
            "eos_token_id": 2, "bos_token_id": 1, "pad_token_id": 0, "projection_size": 32}  # fmt: skip
    vision = {**_TOWER, "image_size": SIDE, "patch_size": 8}
    config = transformers.SiglipConfig(text_config=text, vision_config=vision)
    model = _seeded(lambda: transformers.SiglipModel(config))
    model.logit_scale.data.fill_(1.5)
    model.logit_bias.data.fill_(-0.7)
    model.save_pretrained(folder)
    transformers.SiglipImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    _save_tokenizer(folder, 64)
    return folder


def write_vit(folder: Path, names=("cat", "dog", "horse"), **processor) -> Path:
    """Write a folder with a classifier of transformers and its image processor."""
    import transformers

    config = transformers.ViTConfig(
        **_TOWER, image_size=SIDE, patch_size=8, id2label=dict(enumerate(names)),
        label2id={name: place for place, name in enumerate(names)},
    )  # fmt: skip
    _seeded(lambda: transformers.ViTForImageClassification(config)).save_pretrained(folder)
    settings = {"size": {"height": SIDE, "width": SIDE}, **processor}
    transformers.ViTImageProcessor(**settings).save_pretrained(folder)
    return folder


def write_all(folder: Path) -> None:
    """Write one of each below ``folder``."""
    write_open_clip(folder / "open_clip")
    write_open_clip(folder / "open_clip_bias", bias=True)
    write_clip(folder / "clip")
    write_siglip(folder / "siglip")
    write_vit(folder / "vit")


def write_owl(folder: Path) -> Path:
    """Write a folder with an OWL-ViT, its image processor and a tokenizer."""
    return _write_owl(folder, "OwlViT")


def write_owl_v2(folder: Path) -> Path:
    """Write a folder with an OWLv2, its image processor and a tokenizer."""
    return _write_owl(folder, "Owlv2")


def _write_owl(folder: Path, kind: str) -> Path:
    import transformers

    text = {**_TOWER, "vocab_size": len(WORDS), "max_position_embeddings": 16}
    vision = {**_TOWER, "image_size": SIDE, "patch_size": 8}
    configure = getattr(transformers, f"{kind}Config")
    make = getattr(transformers, f"{kind}ForObjectDetection")
    config = configure(text_config=text, vision_config=vision, projection_dim=32)
    _seeded(lambda: make(config)).save_pretrained(folder)
    size = {"height": SIDE, "width": SIDE}
    getattr(transformers, f"{kind}ImageProcessor")(size=size).save_pretrained(folder)
    _save_tokenizer(folder, 16)
    return folder


def write_grounding(folder: Path) -> Path:
    """Write a folder with a Grounding DINO, its image processor and a tokenizer with BERT's tokens."""
    import tokenizers
    import transformers

    backbone = transformers.SwinConfig(
        image_size=64, patch_size=4, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2],
        window_size=2, out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    text = transformers.BertConfig(
        vocab_size=1040, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=64,
    )  # fmt: skip
    config = transformers.GroundingDinoConfig(
        backbone_config=backbone, text_config=text, d_model=32, encoder_layers=1, decoder_layers=2,
        encoder_ffn_dim=32, decoder_ffn_dim=32, encoder_attention_heads=2, decoder_attention_heads=2,
        num_queries=12, max_text_len=8, num_feature_levels=3, encoder_n_points=1, decoder_n_points=1,
    )  # fmt: skip
    _seeded(lambda: transformers.GroundingDinoForObjectDetection(config)).save_pretrained(folder)
    size = {"shortest_edge": 64, "longest_edge": 96}
    transformers.GroundingDinoImageProcessor(size=size).save_pretrained(folder)
    special = {"[CLS]": 101, "[SEP]": 102, ".": 1012, "[PAD]": 0, "[UNK]": 100}
    words = {word: 200 + place for place, word in enumerate(WORDS) if word not in special}
    level = tokenizers.models.WordLevel({**special, **words}, "[UNK]")
    tokenizer = tokenizers.Tokenizer(level)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 101), ("[SEP]", 102)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", model_max_length=64,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def write_omdet(folder: Path) -> Path:
    """Write a folder with an OmDet-Turbo of transformers, its image processor and tokenizer."""
    import transformers

    text = transformers.CLIPTextConfig(
        **_TOWER, vocab_size=len(WORDS), projection_dim=32, max_position_embeddings=77,
        eos_token_id=2, bos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    backbone = transformers.SwinConfig(
        image_size=64, patch_size=4, embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 2],
        window_size=4, out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = transformers.OmDetTurboConfig(
        text_config=text, backbone_config=backbone, image_size=64, num_queries=10,
        apply_layernorm_after_vision_backbone=False,
        text_projection_in_dim=32, text_projection_out_dim=32, task_encoder_hidden_dim=32,
        class_embed_dim=32, vision_features_channels=[16, 16, 16],
        encoder_in_channels=[32, 64, 128], encoder_hidden_dim=16, encoder_dim_feedforward=16,
        encoder_layers=1, decoder_hidden_dim=16, decoder_dim_feedforward=16,
        decoder_num_heads=2, decoder_num_layers=1,
    )  # fmt: skip
    _seeded(lambda: transformers.OmDetTurboForObjectDetection(config)).save_pretrained(folder)
    transformers.DetrImageProcessor(size={"height": 64, "width": 64}, do_pad=False).save_pretrained(
        folder
    )
    _save_tokenizer(folder, 77)
    return folder
