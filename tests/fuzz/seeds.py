"""Writes the seeds of the corpora from real encodings: seeds.py RUN, the folder of a small run.

A name that begins with ok- must be accepted by its target, one with no- refused; what the fuzzer
found, find-*, must only keep the promises."""

import json
import struct
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def write(target, name, data):
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def messages():
    tests = ROOT / "schemas/trajectory/tests"
    readable = {"full", "minimal", "pyarrow"}
    for file in sorted([*tests.glob("golden/*.arrow"), *tests.glob("foreign/*.arrow")]):
        verdict = "ok" if file.stem in readable else "no"
        write("message", f"{verdict}-{file.stem}", file.read_bytes())


def pairs(headers):
    out = b""
    for key, value in headers:
        key = key.encode()
        value = b"\xff" if value is None else bytes([len(value)]) + value.encode()
        out += bytes([len(key)]) + key + value
    return out


def headers():
    golden = json.loads((ROOT / "schemas/trajectory/tests/golden/headers.json").read_text())
    full = list(golden.items())
    bare = [(k, v) for k, v in full if k not in ("replay-of", "traceparent")]
    write("headers", "ok-full", pairs(full))
    write("headers", "ok-bare", pairs(bare))
    write("headers", "ok-unknown", pairs([("x", None), *bare, ("x", "y")]))
    write("headers", "ok-any-batch", pairs([(k, "-1" if k == "batch" else v) for k, v in bare]))
    write("headers", "no-twice", pairs([*bare, bare[2]]))
    write("headers", "no-null", pairs([(k, None if k == "group" else v) for k, v in bare]))
    write("headers", "no-part", pairs([(k, "3/2" if k == "part" else v) for k, v in bare]))


def footers(run):
    file = min(Path(run).glob("archive/v1/*/*/*/*.parquet"), key=lambda file: file.stat().st_size)
    data = file.read_bytes()
    length = struct.unpack("<I", data[-8:-4])[0] + 8
    sealed = data[-length - 4096 :]
    write("footer", "ok-sealed", sealed)
    # As if another program had written it: no seal, and so no checksum in the fuzzer's way.
    foreign = data[-length:].replace(b"vintage version", b"another version")
    assert foreign != data[-length:]
    write("footer", "ok-foreign", foreign)
    write("footer", "no-unsealed", data[-length:])
    write("footer", "no-flipped", sealed[:-100] + bytes([sealed[-100] ^ 1]) + sealed[-99:])


def config():
    presets = ROOT / "pipelines/presets"
    for preset in sorted(presets.glob("*.toml")):
        write("config", f"ok-{preset.stem}", b"---\n" + preset.read_bytes())
    sets = (
        "learner.steps=7\nalgorithm=grpo\nlearner.optimizer.lr = 3e-5\ntopics.partitions=2\n"
        "learner.max_age=none\nrun=a\n---\n[rollout]\ngroup_size = 4\n"
    )
    write("config", "ok-sets", sets.encode())
    write("config", "ok-dotted", b"---\nlearner = { steps = 3, prompts_per_update = 0x10 }\n")
    write("config", "no-unknown", b"learner.stepz=7\n---\n")
    write("config", "no-type", b"---\nseed = 'x'\n")
    write("config", "no-range", b"topics.partitions=0\n---\n")
    write("config", "no-syntax", b"---\n[learner\n")


def answers():
    for name, completion, known in [
        ("ok-boxed", "so \\boxed{\\frac{3}{4}}.", "0.75"),
        ("ok-hashes", "5 apples\n#### 1,234.50", "#### 1234.5"),
        ("ok-last", "from $12 it rises by 50\\% to $18.", "18"),
        ("ok-percent", "it is 50%", "50%"),
        ("ok-exact", " paris\n", "paris"),
        ("ok-scientific", "= 1.5e3", "1500"),
        ("ok-root", "so $x=\\boxed{\\frac{1}{\\sqrt{2}}}$", "\\frac{\\sqrt{2}}{2}"),
        ("ok-intervals", "\\boxed{(2,\\infty)\\cup(-\\infty,1]}", "x\\le 1 \\text{ or } x>2"),
        ("ok-matrix", "\\boxed{\\begin{pmatrix}1&x\\\\0&1\\end{pmatrix}}",
         "\\begin{bmatrix}\\frac22&x\\\\0&1\\end{bmatrix}"),
        ("ok-function", "the answer is $2\\sin x\\cos x$ cm.", "\\sin 2x"),
        ("ok-equation", "\\boxed{4x+6y=12\\text{ or }x=\\pm 1}", "2x+3y=6,x=1,x=-1"),
        ("no-tower", "\\boxed{9^{9^{9^{9}}}}", "9^{9^{9^{8}}}"),
        ("no-expansion", "\\boxed{(a+b+c+d+e+f)^{40}}", "(a+b+c+d+e+g)^{40}"),
        ("no-other", "the answer is 41", "42"),
        ("no-none", "no idea", "42"),
        ("no-huge", "\\boxed{1e999999999999999999999}", "170141183460469231731687303715884105728"),
    ]:
        write("answer", name, completion.encode() + b"\0" + known.encode())


messages()
headers()
footers(sys.argv[1])
config()
answers()
