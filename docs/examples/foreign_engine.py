#!/usr/bin/env python3
"""A whole engine in plain Python that lockstep can judge: docs/foreign-engine.md.

    lockstep run  --reference wide --engine-command "python3 docs/examples/foreign_engine.py"
    lockstep find --reference wide --engine-command \
        "python3 docs/examples/foreign_engine.py --break rope"

It knows nothing of lockstep but the lines, and of the model but the file. It reads the weight types
of the embedded model (F32, Q4_K, Q6_K) and takes a tenth of a second for a token of it. Every
operation is computed in Python's floats and rounded to f32 at its end, so its bits are not the
contract's: `--reference wide` judges it by its distance from f64.
"""

import hashlib
import json
import math
import struct
import sys
from array import array
from operator import mul

BREAKS = ("rope", "mask", "silu")


# The file ------------------------------------------------------------------------------------

SCALARS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd"))
STRING, ARRAY = 8, 9
F32, Q4_K, Q6_K = 0, 12, 14


class Gguf:
    """Metadata, and tensors as lists of rows."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.bytes = file.read()
        self.at = 4
        if self.bytes[:4] != b"GGUF" or self.scalar("I") not in (2, 3):
            raise ValueError("no GGUF file of version 2 or 3")
        tensors, pairs = self.scalar("Q"), self.scalar("Q")
        self.metadata = {self.string(): self.value(self.scalar("I")) for _ in range(pairs)}
        self.tensors = {}
        for _ in range(tensors):
            name = self.string()
            dimensions = [self.scalar("Q") for _ in range(self.scalar("I"))]
            self.tensors[name] = (dimensions, self.scalar("I"), self.scalar("Q"))
        alignment = self.metadata.get("general.alignment", 32)
        self.data = -(-self.at // alignment) * alignment

    def scalar(self, kind):
        (value,) = struct.unpack_from("<" + kind, self.bytes, self.at)
        self.at += struct.calcsize("<" + kind)
        return value

    def string(self):
        length = self.scalar("Q")
        self.at += length
        return self.bytes[self.at - length : self.at].decode()

    def value(self, kind):
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            kind, count = self.scalar("I"), self.scalar("Q")
            return [self.value(kind) for _ in range(count)]
        return self.scalar(SCALARS[kind])

    def rows(self, name):
        dimensions, kind, offset = self.tensors[name]
        width, count = dimensions[0], math.prod(dimensions[1:])
        at = self.data + offset
        if kind == F32:
            values = struct.unpack_from(f"<{width * count}f", self.bytes, at)
        elif kind in (Q4_K, Q6_K):
            block, size = (q4_k, 144) if kind == Q4_K else (q6_k, 210)
            ends = range(at, at + width * count // 256 * size, size)
            values = [v for start in ends for v in block(self.bytes[start : start + size])]
        else:
            raise ValueError(f"{name} has weight type {kind}: F32, Q4_K and Q6_K are read here")
        return [array("d", values[i * width : (i + 1) * width]) for i in range(count)]


def q4_k(block):
    d, dmin = struct.unpack_from("<2e", block)
    packed, nibbles = block[4:16], block[16:]
    values = []
    for group in range(8):
        if group < 4:
            scale, minimum = packed[group] & 63, packed[group + 4] & 63
        else:
            scale = packed[group + 4] & 15 | packed[group - 4] >> 6 << 4
            minimum = packed[group + 4] >> 4 | packed[group] >> 6 << 4
        run = nibbles[group // 2 * 32 : group // 2 * 32 + 32]
        shift = 4 * (group % 2)
        values += [d * scale * (byte >> shift & 15) - dmin * minimum for byte in run]
    return values


def q6_k(block):
    low, high = block[:128], block[128:192]
    scales = struct.unpack_from("<16b", block, 192)
    (d,) = struct.unpack_from("<e", block, 208)
    values = []
    for index in range(256):
        half, rest = divmod(index, 128)
        quarter, column = divmod(rest, 32)
        nibble = low[64 * half + 32 * (quarter % 2) + column] >> 4 * (quarter // 2) & 15
        bits = high[32 * half + column] >> 2 * quarter & 3
        values.append(d * scales[index // 16] * ((nibble | bits << 4) - 32))
    return values


# The model -----------------------------------------------------------------------------------


def f32(values):
    return array("f", values)


def product(matrix, x):
    return f32(sum(map(mul, row, x)) for row in matrix)


def silu(x):
    return x / (1 + math.exp(-x)) if x > -700 else 0.0


class Model:
    """One forward pass, token by token; `see(name, layer, row)` gets every operation's row."""

    def __init__(self, path, broken):
        file, self.broken = Gguf(path), broken
        key = lambda name: file.metadata["llama." + name]
        self.heads, self.layers = key("attention.head_count"), key("block_count")
        self.kv_heads = key("attention.head_count_kv")
        self.head = key("embedding_length") // self.heads
        self.epsilon = key("attention.layer_norm_rms_epsilon")
        self.base = file.metadata.get("llama.rope.freq_base", 10000.0)
        self.weights = {name.removesuffix(".weight"): file.rows(name) for name in file.tensors}
        self.weights.setdefault("output", self.weights["token_embd"])
        self.reset()

    def reset(self):
        self.cache = [([], []) for _ in range(self.layers)]

    def position(self):
        return len(self.cache[0][0])

    def norm(self, x, name):
        scale = 1 / math.sqrt(sum(map(mul, x, x)) / len(x) + self.epsilon)
        return f32(value * scale * weight for value, weight in zip(x, self.weights[name][0]))

    def rope(self, x, position):
        out, half = array("f", x), self.head // 2
        for start in range(0, len(x), self.head):
            for pair in range(half):
                angle = position * self.base ** (-2 * pair / self.head)
                # Neighbours turn together; halves of a head would be the other convention.
                one, two = start + 2 * pair, start + 2 * pair + 1
                if self.broken == "rope":
                    one, two = start + pair, start + pair + half
                out[one] = x[one] * math.cos(angle) - x[two] * math.sin(angle)
                out[two] = x[one] * math.sin(angle) + x[two] * math.cos(angle)
        return out

    def attention(self, q, keys, values):
        out, shared = array("f"), self.heads // self.kv_heads
        if self.broken == "mask" and len(keys) > 1:
            keys, values = keys[:-1], values[:-1]
        for head in range(self.heads):
            query = q[head * self.head : (head + 1) * self.head]
            part = slice(head // shared * self.head, (head // shared + 1) * self.head)
            scores = [sum(map(mul, query, key[part])) / math.sqrt(self.head) for key in keys]
            largest = max(scores)
            weights = [math.exp(score - largest) for score in scores]
            total = sum(weights)
            columns = zip(*(value[part] for value in values))
            out.extend(sum(map(mul, weights, column)) / total for column in columns)
        return out

    def layer(self, index, x, see):
        w = lambda name: self.weights[f"blk.{index}.{name}"]
        tap = lambda name, row: see(name, index, row) or row
        position = self.position() if index == 0 else len(self.cache[0][0]) - 1
        normed = tap("attn_norm", self.norm(x, f"blk.{index}.attn_norm"))
        q, k, v = (tap(name, product(w(f"attn_{name}"), normed)) for name in "qkv")
        q = tap("q_rope", self.rope(q, position))
        k = tap("k_rope", self.rope(k, position))
        keys, values = self.cache[index]
        keys.append(k)
        values.append(v)
        seen = tap("attn_out", self.attention(q, keys, values))
        branch = tap("wo", product(w("attn_output"), seen))
        x = tap("attn_residual", f32(map(sum, zip(x, branch))))
        normed = tap("ffn_norm", self.norm(x, f"blk.{index}.ffn_norm"))
        gate = tap("gate", product(w("ffn_gate"), normed))
        up = tap("up", product(w("ffn_up"), normed))
        curve = silu if self.broken != "silu" else lambda g: max(g, 0.0)
        both = tap("swiglu", f32(curve(g) * u for g, u in zip(gate, up)))
        branch = tap("down", product(w("ffn_down"), both))
        return tap("ffn_residual", f32(map(sum, zip(x, branch))))

    def token(self, token, see):
        x = f32(self.weights["token_embd"][token])
        see("embed", None, x)
        for index in range(self.layers):
            x = self.layer(index, x, see)
        return x

    def readout(self, x):
        hidden = self.norm(x, "output_norm")
        return hidden, product(self.weights["output"], hidden)


# The lines -----------------------------------------------------------------------------------


def digits(row):
    """The bits of each value, the highest digit first: 1.0 is 3f800000."""
    return struct.pack(f">{len(row)}f", *row).hex()


def say(**answer):
    print(json.dumps(answer), flush=True)


def hello(request, broken):
    model = Model(request["model"], broken)
    with open(request["model"], "rb") as file:
        sha256 = hashlib.sha256(file.read()).hexdigest()
    say(
        answer="hello",
        protocol=1,
        implementation="python example",
        device="cpu",
        build="python " + sys.version.split()[0],
        model_sha256=sha256,
        vocabulary=len(model.weights["token_embd"]),
    )
    return model


def forward(model, request, ubatch):
    """Pieces of at most `ubatch` tokens; of each piece every operation, with all of its rows."""
    tokens, level = request["tokens"], request["level"]
    wanted = {"readout": (), "layer": ("embed", "ffn_residual")}.get(level)
    for start in range(0, len(tokens), ubatch):
        first, taps = model.position(), {}

        def see(name, layer, row):
            if wanted is None or name in wanted:
                taps.setdefault((name, layer), []).append(row)

        piece = tokens[start : start + ubatch]
        for token in piece:
            x = model.token(token, see)
        for (name, layer), rows in taps.items():
            values = "".join(map(digits, rows))
            shape = {"first_position": first, "rows": len(rows), "width": len(rows[0])}
            say(answer="tap", name=name, layer=layer, **shape, values=values)
    hidden, logits = model.readout(x)
    last = model.position() - 1
    if level != "readout":
        for name, row in (("final_norm", hidden), ("logits", logits)):
            shape = {"first_position": last, "rows": 1, "width": len(row)}
            say(answer="tap", name=name, layer=None, **shape, values=digits(row))
    say(answer="readout", position=last, hidden=digits(hidden), logits=digits(logits))


def main():
    arguments = sys.argv[1:]
    if arguments and (arguments[0] != "--break" or arguments[1:] not in [[b] for b in BREAKS]):
        sys.exit(f"usage: foreign_engine.py [--break {'|'.join(BREAKS)}]")
    broken = arguments[1] if arguments else None
    model = None
    for line in sys.stdin:
        request = json.loads(line)
        kind = request["request"]
        if kind == "quit":
            return
        try:
            if kind == "hello":
                model, ubatch = hello(request, broken), request["ubatch"]
            elif kind == "reset":
                model.reset()
                say(answer="reset")
            else:
                forward(model, request, ubatch)
        except (ValueError, KeyError) as error:
            say(answer="error", message=str(error))
            return


if __name__ == "__main__":
    main()
