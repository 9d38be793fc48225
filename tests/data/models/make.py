"""Creates the small sentence models in this folder, each with the embeddings of sentence-transformers for some texts.

    python tests/data/models/make.py

Needs torch, transformers, sentence-transformers and safetensors. All weights are random, including biases and norms, so that
a missing part of the arithmetic changes the result. Each model has a different shape and a feature that the others lack.
All files are replaced; other versions of the packages produce different but equivalent files."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    MPNetConfig,
    MPNetModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

HERE = Path(__file__).parent
CORPUS = [
    "The river runs over old stones and under a green bridge today",
    "Die Brücke über den Fluss ist grün, der Weg dorthin weiß",
    "query passage represent this sentence for searching relevant passages",
]
TEXTS = [
    "The river runs over old stones",
    "Grüne Brücken, STRASSEN und Wege: 42!",
    "a",
    "today today the bridge",
    "混合 unknown 🎉 text",
    "the river runs under a green bridge and over old stones " * 8,
]


def tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """Creates a small tokenizer of the kind that the model family uses."""
    if kind in ("uncased", "cased", "mpnet"):
        start, end, pad, unknown = ("<s>", "</s>", "<pad>", "[UNK]") if kind == "mpnet" else ("[CLS]", "[SEP]", "[PAD]", "[UNK]")
        special = [start, pad, end, unknown] if kind == "mpnet" else [pad, unknown, start, end]
        made = Tokenizer(models.WordPiece(unk_token=unknown))
        made.normalizer = normalizers.BertNormalizer(lowercase=kind != "cased", strip_accents=None)
        made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        made.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(vocab_size=160, special_tokens=special, show_progress=False)
    elif kind == "bytes":
        start, end, pad, unknown = "<s>", "</s>", "<pad>", "<unk>"
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=300, special_tokens=[start, pad, end, unknown], initial_alphabet=alphabet, show_progress=False
        )
    else:
        start, end, pad, unknown = "<s>", "</s>", "<pad>", "<unk>"
        made = Tokenizer(models.Unigram())
        made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("  ", " ")])
        made.pre_tokenizer = pre_tokenizers.Metaspace()
        made.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=120, special_tokens=[start, pad, end, unknown], unk_token=unknown, show_progress=False
        )
    made.train_from_iterator(CORPUS, trainer)
    pair = [(start, made.token_to_id(start)), (end, made.token_to_id(end))]
    made.post_processor = processors.TemplateProcessing(single=f"{start} $A {end}", special_tokens=pair)
    names = {"pad_token": pad, "unk_token": unknown, "cls_token": start, "sep_token": end}
    return PreTrainedTokenizerFast(tokenizer_object=made, **names)


def shaken(model: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        for name, weight in model.named_parameters():
            norm = "LayerNorm" in name or "layer_norm" in name
            weight.copy_(torch.randn(weight.shape) * (0.2 if norm else 0.25) + (1.0 if norm and name.endswith("weight") else 0.0))
    return model.eval()


def write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value) + "\n")


def make(
    name: str,
    model: torch.nn.Module,
    tokens: str,
    ways: object,
    *,
    normalize: bool = True,
    dtype: torch.dtype = torch.float32,
    rename=lambda name: name,
    sentence: dict | None = None,
    length: int | None = None,
    prompts: dict | None = None,
    dense: tuple[Dense, ...] = (),
) -> None:
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    shaken(model).save_pretrained(folder)
    # Sentence models do not use the pooler of the classifier.
    weights = {key: value for key, value in load_file(folder / "model.safetensors").items() if "pooler" not in key}
    save_file({rename(key): value.to(dtype) for key, value in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    shape = tokenizer(tokens)
    text = shape.backend_tokenizer.to_str()
    (folder / "tokenizer.json").write_text(text + "\n")
    write(folder / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **{key: str(value) for key, value in shape.special_tokens_map.items()},
        "model_max_length": length or 1000000000000000019884624838656,
    })
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    for layer in dense:
        place = folder / f"{len(modules)}_Dense"
        place.mkdir()
        shaken(layer).save(str(place))
        values = load_file(place / "model.safetensors")
        save_file({key: value.to(dtype) for key, value in values.items()}, place / "model.safetensors", {"format": "pt"})
        modules.append((place.name, "Dense"))
    modules += [(f"{len(modules)}_Normalize", "Normalize")] * normalize
    write(folder / "modules.json", [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (path, kind) in enumerate(modules)
    ])
    size = model.config.hidden_size
    if isinstance(ways, str):
        pooling = {"embedding_dimension": size, "pooling_mode": ways, "include_prompt": True}
    else:
        names = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
        assert ways[0] in names
        pooling = {"word_embedding_dimension": size} | {f"pooling_mode_{way}": way in ways for way in names}
    write(folder / "1_Pooling/config.json", pooling)
    if sentence:
        write(folder / "sentence_bert_config.json", sentence)
    if prompts:
        write(folder / "config_sentence_transformers.json", {"prompts": prompts, "default_prompt_name": None})
    reference(folder, rename)


def reference(folder: Path, rename) -> None:
    kept = (folder / "model.safetensors").read_bytes()
    # With the names and the precision of the reference implementation.
    restored = {}
    for key, value in load_file(folder / "model.safetensors").items():
        key = key.removeprefix("bert.").replace(".gamma", ".weight").replace(".beta", ".bias")
        restored[key] = value.float()
    save_file(restored, folder / "model.safetensors", {"format": "pt"})
    sentences = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})
    cases = []
    for kind, encode in (("passage", sentences.encode_document), ("query", sentences.encode_query)):
        for text in TEXTS:
            vector = torch.nn.functional.normalize(torch.tensor(encode([text], batch_size=1)[0]), dim=0)
            cases.append({"kind": kind, "text": text, "vector": [round(x, 6) for x in vector.tolist()]})
    (folder / "model.safetensors").write_bytes(kept)
    (folder / "reference.json").write_text("[\n" + ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases) + "\n]\n")
    print(folder.name, sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) // 1024, "kB")


def main() -> None:
    torch.manual_seed(7)
    bert = dict(vocab_size=160, max_position_embeddings=64)
    make(
        "bert-cls-prefixed",
        BertModel(BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, **bert)),
        "uncased", ("cls_token",), rename=lambda key: f"bert.{key}", sentence={"max_seq_length": 48, "do_lower_case": False},
        prompts={"query": "represent this sentence for searching relevant passages: "},
    )
    make(
        "bert-mean-f16-cased",
        BertModel(BertConfig(hidden_size=24, num_hidden_layers=1, num_attention_heads=3, intermediate_size=40, hidden_act="relu", **bert)),
        "cased", ("mean_tokens",), normalize=False, dtype=torch.float16, sentence={"max_seq_length": 64},
    )
    make(
        "bert-max-bf16",
        BertModel(BertConfig(hidden_size=40, num_hidden_layers=3, num_attention_heads=2, intermediate_size=24, hidden_act="gelu_new", layer_norm_eps=1e-3, **bert)),
        "uncased", "max", dtype=torch.bfloat16, length=20,
    )
    make(
        "bert-sqrt-old-names",
        BertModel(BertConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=1, intermediate_size=32, hidden_act="gelu_pytorch_tanh", type_vocab_size=1, **bert)),
        "cased", ("mean_sqrt_len_tokens",),
        rename=lambda key: key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"),
        sentence={"max_seq_length": 16, "do_lower_case": True},
    )
    make(
        "distilbert-weighted",
        DistilBertModel(DistilBertConfig(dim=32, n_layers=2, n_heads=2, hidden_dim=48, **bert)),
        "uncased", "weightedmean",
    )
    make(
        "roberta-mean",
        RobertaModel(RobertaConfig(hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, vocab_size=300, max_position_embeddings=66, type_vocab_size=1, layer_norm_eps=1e-5)),
        "bytes", ("mean_tokens",), sentence={"max_seq_length": 64}, dtype=torch.float16,
    )
    make(
        "xlm-roberta-prompts",
        XLMRobertaModel(XLMRobertaConfig(hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, vocab_size=120, max_position_embeddings=66, type_vocab_size=1)),
        "unigram", "mean", length=64, prompts={"query": "query: ", "document": "passage: "},
    )
    make(
        "mpnet-last",
        MPNetModel(MPNetConfig(hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=48, vocab_size=160, max_position_embeddings=66, layer_norm_eps=1e-5)),
        "mpnet", "lasttoken", length=64,
    )
    make(
        "bert-cls-dense",
        BertModel(BertConfig(hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, **bert)),
        "cased", ("cls_token",), sentence={"max_seq_length": 32}, dense=(Dense(24, 24),),
    )
    tiny = dict(dim=16, n_layers=1, n_heads=2, hidden_dim=24, **bert)
    make(
        "distilbert-mean-two-dense",
        DistilBertModel(DistilBertConfig(**tiny)),
        "cased", ("mean_tokens",), normalize=False, dtype=torch.float16,
        dense=(Dense(16, 20, activation_function=torch.nn.GELU()), Dense(20, 12, bias=False, activation_function=None)),
    )
    make(
        "distilbert-sqrt-dense",
        DistilBertModel(DistilBertConfig(**tiny)),
        "cased", ("mean_sqrt_len_tokens",), normalize=False, dtype=torch.bfloat16,
        dense=(Dense(16, 8, activation_function=torch.nn.Sigmoid()),),
    )
    make(
        "distilbert-weighted-dense",
        DistilBertModel(DistilBertConfig(**tiny)),
        "cased", "weightedmean", dense=(Dense(16, 10), Dense(10, 14, activation_function=torch.nn.ReLU())),
    )


if __name__ == "__main__":
    main()
