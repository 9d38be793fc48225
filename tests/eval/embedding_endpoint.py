#!/usr/bin/env python3
"""Serves embeddings of 384 numbers at an endpoint that is compatible with OpenAI, for measurements:

    tests/eval/embedding_endpoint.py random [--port PORT]
    tests/eval/embedding_endpoint.py FOLDER [--port PORT]

`random` returns a unit vector that depends on the text alone and has no meaning, in a few microseconds, so that a
measurement is not limited by a model. FOLDER is a sentence model with the architecture of all-MiniLM-L6-v2
(model.safetensors, tokenizer.json, config.json), computed with 32-bit numbers by NumPy; this needs the packages numpy,
safetensors and tokenizers.

The first line on the standard output is the base address. The endpoint stops when its standard input is closed.
"""

import argparse
import hashlib
import json
import math
import os
import random
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

DIMENSION = 384
# A random vector has this number of parts of equal length, each one of `CHOICES`..
PARTS = 16
CHOICES = 256
# Most tokens of a text that the model reads.
MOST_TOKENS = 256

# Returns the vectors of some texts as JSON.
Embed = Callable[[list[str]], list[str]]


def random_vectors() -> Embed:
    """Returns an embedder whose vectors are written in advance, in parts that a hash of the text selects."""
    source = random.Random(1)
    size = DIMENSION // PARTS

    def part() -> str:
        numbers = [source.gauss(0, 1) for _ in range(size)]
        scale = 1 / (math.sqrt(PARTS) * math.sqrt(sum(number * number for number in numbers)))
        return ",".join(f"{number * scale:.5f}" for number in numbers)

    parts = [[part() for _ in range(CHOICES)] for _ in range(PARTS)]

    def vector(text: str) -> str:
        chosen = hashlib.blake2b(text.encode(), digest_size=PARTS).digest()
        return "[" + ",".join(choices[byte] for choices, byte in zip(parts, chosen, strict=True)) + "]"

    return lambda texts: [vector(text) for text in texts]


def sentence_model(folder: Path) -> Embed:
    """Returns an embedder with the weights of a BERT model whose token vectors are averaged."""
    # Threads of the linear algebra would take the cores from the measured program. NumPy reads this when it is imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    import numpy
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    config = json.loads((folder / "config.json").read_text())
    heads, layers, epsilon = config["num_attention_heads"], config["num_hidden_layers"], config["layer_norm_eps"]
    weights = {name: array.astype(numpy.float32) for name, array in load_file(folder / "model.safetensors").items()}
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(MOST_TOKENS)
    tokenizer.no_padding()

    def dense(name: str, rows: numpy.ndarray) -> numpy.ndarray:
        return rows @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def normalized(name: str, rows: numpy.ndarray) -> numpy.ndarray:
        centered = rows - rows.mean(axis=1, keepdims=True)
        deviation = numpy.sqrt((centered**2).mean(axis=1, keepdims=True) + epsilon)
        return centered / deviation * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def gelu(rows: numpy.ndarray) -> numpy.ndarray:
        # Abramowitz and Stegun, 7.1.26: the error of erf is below 1.5e-7.
        x = numpy.abs(rows) / math.sqrt(2)
        t = 1 / (1 + 0.3275911 * x)
        series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
        return 0.5 * rows * (1 + numpy.sign(rows) * (1 - series * numpy.exp(-x * x)))

    def attention(layer: str, rows: numpy.ndarray) -> numpy.ndarray:
        def by_head(name: str) -> numpy.ndarray:
            return dense(f"{layer}.attention.self.{name}", rows).reshape(len(rows), heads, -1).transpose(1, 0, 2)

        query, key, value = by_head("query"), by_head("key"), by_head("value")
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[2])
        shares = numpy.exp(scores - scores.max(axis=2, keepdims=True))
        mixed = (shares / shares.sum(axis=2, keepdims=True)) @ value
        return mixed.transpose(1, 0, 2).reshape(len(rows), -1)

    def encode(text: str) -> numpy.ndarray:
        tokens = tokenizer.encode(text).ids
        rows = weights["embeddings.word_embeddings.weight"][tokens]
        rows = rows + weights["embeddings.position_embeddings.weight"][: len(tokens)]
        rows = normalized("embeddings.LayerNorm", rows + weights["embeddings.token_type_embeddings.weight"][0])
        for number in range(layers):
            layer = f"encoder.layer.{number}"
            mixed = dense(f"{layer}.attention.output.dense", attention(layer, rows))
            rows = normalized(f"{layer}.attention.output.LayerNorm", mixed + rows)
            wide = gelu(dense(f"{layer}.intermediate.dense", rows))
            rows = normalized(f"{layer}.output.LayerNorm", dense(f"{layer}.output.dense", wide) + rows)
        mean = rows.mean(axis=0)
        return mean / numpy.linalg.norm(mean)

    return lambda texts: [json.dumps([round(float(number), 7) for number in encode(text)]) for text in texts]


def handler(embed: Embed) -> type[BaseHTTPRequestHandler]:
    """Returns the handler of requests for embeddings."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Answers are written at once instead of waiting for the acknowledgement of a small first packet.
        wbufsize = -1
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            texts = [asked["input"]] if isinstance(asked["input"], str) else asked["input"]
            items = (f'{{"index":{index},"embedding":{vector}}}' for index, vector in enumerate(embed(texts)))
            body = f'{{"object":"list","data":[{",".join(items)}],"model":{json.dumps(asked.get("model"))}}}'.encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="`random`, or the folder of a model")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; default: a free one")
    options = parser.parse_args()
    embed = random_vectors() if options.source == "random" else sentence_model(Path(options.source))
    server = ThreadingHTTPServer(("127.0.0.1", options.port), handler(embed))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_address[1]}/v1", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
