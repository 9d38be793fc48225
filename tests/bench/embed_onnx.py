"""ONNX Runtime as a reference for tests/bench/embed.rs, which starts this script.

Reads lines with a JSON array of texts, and prints for each the seconds for their embeddings, including tokenization, mean
pooling and normalization.

    python tests/bench/embed_onnx.py MODEL.onnx TOKENIZER.json THREADS

Needs onnxruntime, tokenizers and numpy. The model is an export of the same weights (inputs input_ids, attention_mask,
token_type_ids; output last_hidden_state)."""

import json
import sys
import time

import numpy
import onnxruntime
from tokenizers import Tokenizer


def main(model: str, tokenizer_file: str, threads: str) -> None:
    tokenizer = Tokenizer.from_file(tokenizer_file)
    tokenizer.no_truncation()
    tokenizer.enable_padding()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(threads)
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = {value.name for value in session.get_inputs()}

    def embed(texts: list[str]) -> numpy.ndarray:
        encoded = tokenizer.encode_batch(texts)
        mask = numpy.array([one.attention_mask for one in encoded], dtype=numpy.int64)
        given = {
            "input_ids": numpy.array([one.ids for one in encoded], dtype=numpy.int64),
            "attention_mask": mask,
            "token_type_ids": numpy.zeros_like(mask),
        }
        states = session.run(None, {name: value for name, value in given.items() if name in names})[0]
        weights = mask[..., None].astype(numpy.float32)
        pooled = (states * weights).sum(axis=1) / weights.sum(axis=1)
        return pooled / numpy.linalg.norm(pooled, axis=1, keepdims=True)

    for line in sys.stdin:
        texts = json.loads(line)
        begin = time.perf_counter()
        embed(texts)
        print(time.perf_counter() - begin, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:4])
