"""ONNX Runtime on the same texts as tests/bench/embed.rs, with the tokenizer, mean pooling and normalisation.

    python tests/bench/embed_onnx.py MODEL.onnx TOKENIZER.json

Needs onnxruntime, tokenizers and numpy. The model is an export of the same weights (inputs input_ids, attention_mask,
token_type_ids; output last_hidden_state)."""

import sys
import time

import numpy
import onnxruntime
from tokenizers import Tokenizer

WORDS = ["the", "river", "runs", "over", "old", "stones", "and", "under", "a", "green", "bridge", "today"]
ROUNDS = 40


def text(tokens: int, number: int) -> str:
    return " ".join(WORDS[(n * 7 + number * 5 + n // 12) % 12] for n in range(tokens - 2))


def main(model: str, tokenizer_file: str) -> None:
    tokenizer = Tokenizer.from_file(tokenizer_file)
    tokenizer.no_truncation()
    tokenizer.enable_padding()
    print("| threads | load | 12 tokens | 30 tokens | 250 tokens | batch of 32 (12 tokens) | batch of 32 (30) |")
    print("|---|---|---|---|---|---|---|")
    for threads in (1, 2):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        start = time.perf_counter()
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        load = time.perf_counter() - start
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

        def fastest(make, rounds: int) -> float:
            times = []
            for number in range(rounds):
                texts = make(number)
                begin = time.perf_counter()
                embed(texts)
                times.append(time.perf_counter() - begin)
            return min(times)

        single = [fastest(lambda number, size=size: [text(size, number)], ROUNDS) * 1e3 for size in (12, 30, 250)]
        batch = [
            32 / fastest(lambda number, size=size: [text(size, number + n) for n in range(32)], ROUNDS // 4)
            for size in (12, 30)
        ]
        print(
            f"| {threads} | {load * 1e3:.0f} ms | {single[0]:.2f} ms | {single[1]:.2f} ms | {single[2]:.1f} ms "
            f"| {batch[0]:.0f}/s | {batch[1]:.0f}/s |"
        )


if __name__ == "__main__":
    main(*sys.argv[1:3])
