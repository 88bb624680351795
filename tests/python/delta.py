"""Rebuilds a version that is stored as deltas, by schemas/README.md alone, and prints its SHA-256.

    python delta.py RUN VERSION
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy
import pyarrow

PIECE = 1 << 20
WIDTHS = {"F32": 4, "BF16": 2, "F16": 2}


def number(data, at, width=4):
    return int.from_bytes(data[at : at + width], "little"), at + width


def part(data, at):
    length, at = number(data, at)
    frame = pyarrow.BufferReader(data[at : at + length])
    return pyarrow.input_stream(frame, compression="zstd").read(), at + length


def planes(data, at, width):
    values = 0
    for place in range(width):
        plane, at = part(data, at)
        values = values + (numpy.frombuffer(plane, numpy.uint8).astype(numpy.int64) << (8 * place))
    return numpy.where(values % 2 == 0, values // 2, -(values // 2) - 1), at


def gaps(data):
    found, value, shift = [], 0, 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            found.append(value)
            value, shift = 0, 0
    return numpy.array(found, numpy.int64)


def apply(base, delta):
    assert delta[:8] == b"VTDELTA1"
    length, at = number(delta, 8, 8)
    header = json.loads(delta[at : at + length])
    at += length
    assert hashlib.sha256(base).hexdigest() == header["base_sha256"]
    begin, start = number(base, 0, 8)
    start += begin
    places = json.loads(base[8:start])
    new = bytearray(base)
    for tensor in header["tensors"]:
        place = places[tensor["name"]]
        width = WIDTHS[place["dtype"]]
        first, last = (start + offset for offset in place["data_offsets"])
        for length in tensor["pieces"]:
            end = min(first + PIECE * width, last)
            piece, at = delta[at : at + length], at + length
            values = numpy.frombuffer(new[first:end], f"<u{width}").copy()
            if piece[0] == 1:
                _, used = number(piece, 1)
                between, used = part(piece, used)
                where = numpy.cumsum(gaps(between) + 1) - 1
                differences, used = planes(piece, used, width)
                values[where] += differences.astype(values.dtype)
            elif piece[0] == 2:
                differences, used = planes(piece, 1, width)
                values += differences.astype(values.dtype)
            else:
                used = 1
            assert used == len(piece)
            new[first:end] = values.tobytes()
            first = end
        assert first == last
    assert at == len(delta)
    assert hashlib.sha256(new).hexdigest() == header["weights_sha256"]
    return bytes(new)


def weights(policy, version):
    folder = policy / str(version)
    manifest = json.loads((folder / "manifest.json").read_text())
    if "delta" not in manifest:
        return (folder / "model.safetensors").read_bytes()
    delta = (folder / "model.delta").read_bytes()
    assert hashlib.sha256(delta).hexdigest() == manifest["delta"]["sha256"]
    return apply(weights(policy, manifest["delta"]["base"]), delta)


print(hashlib.sha256(weights(Path(sys.argv[1]) / "weights/lead", int(sys.argv[2]))).hexdigest())
