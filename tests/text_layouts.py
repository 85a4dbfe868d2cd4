"""Tiny text encoders in the layouts in which large ones are published, with weights that are a function of a seed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from medloom.networks.text import train_tokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "small", "left", "right", "effusion", "no", "heart", ".", ":"]
WORDS += ["a", "disc", "square", ","]
TEXTS = ["A small left effusion.", "No effusion, heart small: a disc left."]
# As wide as two heads of 64, so that what weights do not show is that of every published BERT.
WIDTH, INNER, LAYERS, POSITIONS, PROJECTED = 128, 32, 3, 48, 8
BERT_SIZES = {
    "vocab_size": len(WORDS),
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "intermediate_size": INNER,
    "max_position_embeddings": POSITIONS,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-12,
}
CONTEXT, CLIP_WIDTH, CLIP_HEADS = 16, 32, 4
CORPUS = ["a small left effusion .", "no effusion , heart small : a disc left", "a square right"]


def seeded(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    """Weights of names and shapes."""
    rng = np.random.Generator(np.random.Philox(seed))
    weights = {}
    for name, shape in sorted(shapes.items()):
        # Norms scale by about one, so that texts differ in what comes out.
        values = 0.2 * rng.standard_normal(shape) + (name.endswith("weight") and len(shape) == 1)
        weights[name] = torch.from_numpy(np.asarray(values, np.float32))
    return weights


def bert_shapes(prefix: str = "", pooler: bool = True) -> dict[str, tuple[int, ...]]:
    """Names and shapes of BERT's weights."""
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (len(WORDS), WIDTH),
        "embeddings.position_embeddings.weight": (POSITIONS, WIDTH),
        "embeddings.token_type_embeddings.weight": (2, WIDTH),
        "embeddings.LayerNorm.weight": (WIDTH,),
        "embeddings.LayerNorm.bias": (WIDTH,),
    }
    linear = {
        "attention.self.query": (WIDTH, WIDTH),
        "attention.self.key": (WIDTH, WIDTH),
        "attention.self.value": (WIDTH, WIDTH),
        "attention.output.dense": (WIDTH, WIDTH),
        "intermediate.dense": (INNER, WIDTH),
        "output.dense": (WIDTH, INNER),
    }
    for layer in range(LAYERS):
        for name, shape in linear.items():
            shapes[f"encoder.layer.{layer}.{name}.weight"] = shape
            shapes[f"encoder.layer.{layer}.{name}.bias"] = shape[:1]
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"encoder.layer.{layer}.{name}.{part}": (WIDTH,) for part in ("weight", "bias")}
    if pooler:
        shapes |= {"pooler.dense.weight": (WIDTH, WIDTH), "pooler.dense.bias": (WIDTH,)}
    return {prefix + name: shape for name, shape in shapes.items()}


def write_vocabulary(folder: Path) -> None:
    """The file of words that BERT's tokenizer needs."""
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")


def clinical_bert(folder: Path) -> Path:
    """emilyalsentzer/Bio_ClinicalBERT: no type, a masked language model, vocab.txt, old names of the norms."""
    folder.mkdir()
    write_vocabulary(folder)
    (folder / "config.json").write_text(json.dumps(BERT_SIZES))
    heads = {
        "cls.predictions.bias": (len(WORDS),),
        "cls.predictions.transform.dense.weight": (WIDTH, WIDTH),
        "cls.predictions.transform.dense.bias": (WIDTH,),
        "cls.seq_relationship.weight": (2, WIDTH),
        "cls.seq_relationship.bias": (2,),
    }
    weights = seeded({**bert_shapes("bert."), **heads}, 1)
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    for new, former in old.items():
        weights = {name.replace(new, former): tensor for name, tensor in weights.items()}
    torch.save(weights, folder / "pytorch_model.bin")
    return folder


def cxr_bert(folder: Path) -> Path:
    """microsoft/BiomedVLP-CXR-BERT-specialized: a type of its own, code, and a projection of the first token."""
    folder.mkdir()
    write_vocabulary(folder)
    code = {"AutoConfig": "configuration_cxrbert.CXRBertConfig", "AutoModel": "modeling_cxrbert.CXRBertModel"}
    config = {**BERT_SIZES, "model_type": "cxr-bert", "projection_size": PROJECTED, "auto_map": code}
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["CXRBertModel"]}))
    names = {"AutoTokenizer": ["configuration_cxrbert.CXRBertTokenizer", None]}
    tokenizer = {"do_lower_case": True, "tokenizer_class": "CXRBertTokenizer", "auto_map": names}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    poison(folder, "configuration_cxrbert.py")
    poison(folder, "modeling_cxrbert.py")
    head: dict[str, tuple[int, ...]] = {
        "cls_projection_head.dense_to_hidden.weight": (PROJECTED, WIDTH),
        "cls_projection_head.dense_to_hidden.bias": (PROJECTED,),
        "cls_projection_head.LayerNorm.weight": (PROJECTED,),
        "cls_projection_head.LayerNorm.bias": (PROJECTED,),
        "cls_projection_head.dense_to_output.weight": (PROJECTED, PROJECTED),
        "cls_projection_head.dense_to_output.bias": (PROJECTED,),
        "cls.predictions.bias": (len(WORDS),),
    }
    torch.save(seeded({**bert_shapes("bert.", pooler=False), **head}, 2), folder / "pytorch_model.bin")
    return folder


def medclip(folder: Path) -> Path:
    """RyanWangZf/MedCLIP: one file, without settings and without a tokenizer."""
    folder.mkdir()
    shapes = {
        **bert_shapes("text_model.model."),
        "text_model.projection_head.weight": (PROJECTED, WIDTH),
        "vision_model.model.conv1.weight": (4, 3, 3, 3),
        "logit_scale": (),
    }
    weights = seeded(shapes, 3)
    weights["text_model.model.embeddings.position_ids"] = torch.arange(POSITIONS)[None]
    torch.save(weights, folder / "pytorch_model.bin")
    return folder


def biomed_clip(
    folder: Path, proj: str = "mlp", pooler: str = "cls_last_hidden_state_pooler", safe: bool = False
) -> Path:
    """microsoft/BiomedCLIP: open_clip's settings and weights, the text tower a BERT with a projection."""
    folder.mkdir()
    write_vocabulary(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    text = {
        "hf_model_name": "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
        "hf_tokenizer_name": "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
        # Both generations of open_clip's names.
        "proj" if proj == "mlp" else "hf_proj_type": proj,
        "pooler_type" if proj == "mlp" else "hf_pooler_type": pooler,
        "context_length": 40,
    }
    vision = {"timm_model_name": "vit_base_patch16_224", "image_size": 224}
    config = {"model_cfg": {"embed_dim": PROJECTED, "vision_cfg": vision, "text_cfg": text}, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    inner = (WIDTH + PROJECTED) // 2
    head: dict[str, tuple[int, ...]] = (
        {"text.proj.0.weight": (inner, WIDTH), "text.proj.2.weight": (PROJECTED, inner)}
        if proj == "mlp"
        else {"text.proj.weight": (PROJECTED, WIDTH)}
    )
    tower = bert_shapes("text.transformer.", pooler=pooler == "cls_pooler")
    other: dict[str, tuple[int, ...]] = {"visual.trunk.cls_token": (1, 1, 4), "logit_scale": ()}
    weights = seeded({**tower, **head, **other}, 4)
    if safe:
        save_file(weights, folder / "open_clip_model.safetensors")
    else:
        torch.save(weights, folder / "open_clip_pytorch_model.bin")
    return folder


def clip(folder: Path, prefix: str = "", quick_gelu: bool = False, **settings: Any) -> Path:
    """laion/CLIP-ViT-...: open_clip's own text tower, whose weights newer files have behind `text.`."""
    tokenizer = train_tokenizer(CORPUS, 600, CONTEXT)
    tokenizer.save_pretrained(folder)
    size = len(tokenizer)
    text = {"context_length": CONTEXT, "vocab_size": size, "width": CLIP_WIDTH, "heads": CLIP_HEADS, "layers": 2}
    model = {"embed_dim": PROJECTED, "quick_gelu": quick_gelu, "vision_cfg": {}, "text_cfg": {**text, **settings}}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model}))
    shapes: dict[str, tuple[int, ...]] = {
        "token_embedding.weight": (size, CLIP_WIDTH),
        "positional_embedding": (CONTEXT, CLIP_WIDTH),
        "ln_final.weight": (CLIP_WIDTH,),
        "ln_final.bias": (CLIP_WIDTH,),
        "text_projection": (CLIP_WIDTH, PROJECTED),
    }
    for layer in range(2):
        block = f"transformer.resblocks.{layer}."
        for name, rows, columns in (
            ("attn.in_proj_", 3 * CLIP_WIDTH, CLIP_WIDTH),
            ("attn.out_proj.", CLIP_WIDTH, CLIP_WIDTH),
            ("mlp.c_fc.", 4 * CLIP_WIDTH, CLIP_WIDTH),
            ("mlp.c_proj.", CLIP_WIDTH, 4 * CLIP_WIDTH),
        ):
            shapes |= {f"{block}{name}weight": (rows, columns), f"{block}{name}bias": (rows,)}
        for name in ("ln_1", "ln_2"):
            shapes |= {f"{block}{name}.{part}": (CLIP_WIDTH,) for part in ("weight", "bias")}
    weights = {prefix + name: tensor for name, tensor in seeded(shapes, 5).items()}
    torch.save({**weights, **seeded({"visual.proj": (4, 4)}, 6)}, folder / "open_clip_pytorch_model.bin")
    return folder


def base_config(folder: Path) -> Path:
    """Settings and tokenizer of the network that MedCLIP was made from."""
    folder.mkdir()
    write_vocabulary(folder)
    (folder / "config.json").write_text(json.dumps(BERT_SIZES))
    return folder


def roberta_clip(folder: Path) -> Path:
    """laion/CLIP-ViT-B-32-roberta-base-laion2B: as BiomedCLIP, with a RoBERTa and no pooler named."""
    biomed_clip(folder, pooler="cls_last_hidden_state_pooler")
    config = json.loads((folder / "open_clip_config.json").read_text())
    text = config["model_cfg"]["text_cfg"]
    del text["pooler_type"]
    text |= {"hf_model_name": "roberta-base", "hf_tokenizer_name": "roberta-base"}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


def roberta_config(folder: Path) -> Path:
    """Settings of that RoBERTa; its tokenizer lies with the weights."""
    folder.mkdir()
    sizes = {**BERT_SIZES, "model_type": "roberta", "layer_norm_eps": 1e-5, "pad_token_id": 0}
    (folder / "config.json").write_text(json.dumps(sizes))
    return folder


def poison(folder: Path, name: str) -> Path:
    """Python code in a folder that leaves a trace if it is ever run; the path of the trace."""
    trace = folder / f"{name}.was_run"
    (folder / name).write_text(f"open({str(trace)!r}, 'w').close()\n", encoding="utf-8")
    return trace
