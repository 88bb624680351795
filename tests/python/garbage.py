"""Publishes what no learner should train on among a run's rollouts: copies of a real message of the
topic, each spoilt in one way, and foreign bytes.

usage: garbage.py BROKER TOPIC; waits for the first rollout. Prints one JSON object a record sent:
{"what", "partition", "offset", "reason" (of its rejection), "quarantined"}."""

import copy, hashlib, json, math, struct, sys, time, uuid

import pyarrow as pa
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

BROKER, TOPIC = sys.argv[1:]
SPREAD = 1100  # records after which what is missing of a group will not come: more than 1024
TABLE = list(range(256))
for _ in range(8):
    TABLE = [entry >> 1 ^ 0x82F63B78 * (entry & 1) for entry in TABLE]


def crc32c(data, crc=0xFFFFFFFF):
    for byte in data:
        crc = TABLE[(crc ^ byte) & 255] ^ crc >> 8
    return f"{crc ^ 0xFFFFFFFF:08x}"


consumer = Consumer({"bootstrap.servers": BROKER, "group.id": "garbage",
                     "topic.metadata.refresh.interval.ms": 200})
deadline = time.monotonic() + 120
while consumer.list_topics(TOPIC, timeout=10).topics[TOPIC].error:
    if time.monotonic() > deadline:
        sys.exit(f"{TOPIC} does not come")
    time.sleep(0.1)
consumer.assign([TopicPartition(TOPIC, 0, OFFSET_BEGINNING)])
good = consumer.poll(120) or sys.exit(f"nothing came on {TOPIC} within 120 s")
consumer.close()
HEADERS = {key: value.decode() for key, value in good.headers()}
BATCH = pa.ipc.open_stream(good.value()).read_all()
ROWS, SCHEMA = BATCH.to_pylist(), BATCH.schema
PRODUCER, numbers = f"garbage-{uuid.uuid4()}", iter(range(1 << 62))
sent = []
producer = Producer({"bootstrap.servers": BROKER, "enable.idempotence": True,
                     "message.max.bytes": 4 << 20})


def send(what, reason, payload, headers, quarantined=False, number=None):
    """`headers` as a dictionary, or as pairs where one is there twice; `number` is found in them."""
    pairs = list(headers.items()) if isinstance(headers, dict) else headers
    headers = dict(pairs)
    if number is None and "producer" in headers:
        number = f"{headers['producer']}/{headers['producer-seq']}"

    def delivered(error, message):
        if error:
            sys.exit(f"{what}: {error}")
        sent.append(dict(what=what, partition=message.partition(), offset=message.offset(),
                         reason=reason, quarantined=quarantined, number=number or None))
    producer.produce(TOPIC, payload, b"garbage", partition=0, on_delivery=delivered,
                     headers=pairs)
    producer.poll(0)


def encode(rows):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, SCHEMA) as stream:
        stream.write_batch(pa.RecordBatch.from_pylist(rows, SCHEMA))
    return sink.getvalue().to_pybytes()


def message(change=None, rows=None, number=None, group=None, **headers):
    """A new group of the good message's rows, after `change`, with these headers."""
    rows, group = copy.deepcopy(rows or ROWS), group or uuid.uuid4().bytes
    for row in rows:
        row["group_id"] = group
        row["trajectory_id"] = hashlib.sha256(
            group + row["sample_index"].to_bytes(2, "little")).digest()[:16]
    if change:
        change(rows)
    payload = encode(rows)
    # A foreign client has no slot that the lead granted.
    return payload, {name: text for name, text in HEADERS.items() if name != "slot"} | {
        "group": group.hex(), "rows": str(len(rows)), "producer": PRODUCER,
        "producer-seq": str(next(numbers) if number is None else number),
        "crc32c": crc32c(payload)} | {key.replace("_", "-"): text for key, text in headers.items()}


def forged(payload, at, kind, value):
    payload = payload[:at] + struct.pack(kind, value) + payload[at + struct.calcsize(kind):]
    return payload, crc32c(payload)


def spoil(key, value):
    def change(rows):
        for row in rows:
            row[key] = value(row[key])
    return change


# A group of which the second part does not come in time: the first is refused once it is clear.
late, straggler = next(numbers), uuid.uuid4().bytes
half = len(ROWS) // 2
send("the first part of a straggler", "incomplete", *message(
    rows=ROWS[:half], number=late, group=straggler, part="1/2"))
send("foreign bytes", "bad_headers", b"\x00\x01nonsense", {}, True)
send("no payload", "no_payload", None, {}, True)
payload, headers = message()
send("no payload, and all headers", "no_payload", None, headers, True)
payload, headers = message()
send("an unknown schema", "bad_headers", payload, headers | {"schema": "vintage.trajectory/9"}, True)
payload, headers = message()
send("a flipped bit", "undecodable", payload[:-9] + bytes([payload[-9] ^ 1]) + payload[-8:], headers, True)
payload, headers = message()
payload, crc = forged(payload, 4, "<i", 0x7FFFFFFF)
send("a forged length prefix", "undecodable", payload, headers | {"crc32c": crc}, True)
payload, headers = message()
# The record batch's metadata says how long its body is: an int64, of which only one has this value.
body = pa.ipc.read_message(pa.BufferReader(payload[8 + struct.unpack_from("<i", payload, 4)[0]:]))
length = struct.pack("<q", body.body.size)
payload, _ = forged(payload, payload.index(length), "<q", 1 << 30)
payload = payload[:1024]
send("1 GiB claimed in 1 KiB", "undecodable", payload, headers | {"crc32c": crc32c(payload)}, True)
payload, headers = message()
payload = bytes(3 << 20)
send("3 MiB of zeros", "undecodable", payload, headers | {"crc32c": crc32c(payload)}, True)
send("a log-prob that is not finite", "bad_logprob",
     *message(spoil("behavior_logprobs", lambda old: [math.nan] + old[1:])))
send("a reward that is not finite", "bad_reward", *message(spoil("reward", lambda _: math.inf)))
send("more tokens than the model takes", "too_long",
     *message(spoil("prompt_tokens", lambda old: old * 2000)))
send("a token beyond the vocabulary", "out_of_vocabulary",
     *message(spoil("prompt_tokens", lambda old: [1 << 30] + old)))
send("a version from the future", "future_version",
     *message(spoil("policy_spans", lambda _: [dict(start=0, version=10**6)]),
              min_policy_version="1000000", max_policy_version="1000000"))
send("another policy", "other_policy", *message(spoil("policy", lambda _: "nobody"), policy="nobody"))
send("headers that contradict the rows", "bad_headers", *message(rows=ROWS, batch="3"))
send("rows that are missing", "incomplete", *message(rows=ROWS[:-1]))
send("a second copy", "duplicate", good.value(), HEADERS)
send("a second group of a slot", "slot_taken", *message(slot=HEADERS["slot"]))

# Slips in one header: refused, and each its producer's all the same.
for what, slip in {
    "a UUID with dashes": lambda h: h | {"group": str(uuid.UUID(h["group"]))},
    "a sign": lambda h: h | {"rows": "+" + h["rows"]},
    "a negative version": lambda h: h | {"min-policy-version": "-1"},
    "a header twice": lambda h: [*h.items(), ("rows", h["rows"])],
    "two programs that say who": lambda h: [*h.items(), ("producer", "a-host")],
    "a number as a float": lambda h: h | {"producer-seq": h["producer-seq"] + ".0"},
    "a number in words": lambda h: h | {"producer-seq": "seven"},
    "no header crc32c": lambda h: {key: h[key] for key in h if key != "crc32c"},
}.items():
    payload, headers = message()
    number = f"{PRODUCER}/{headers['producer-seq']}"
    numbered = what not in ("two programs that say who", "a number in words")
    send(what, "bad_headers", payload, slip(headers), True, number if numbered else "")

# Values that are finite and no measurement.
send("a log-prob that means minus infinity", "bad_logprob",
     *message(spoil("behavior_logprobs", lambda old: [-9999.0] + old[1:])))
send("a reward of 1e38", "bad_reward", *message(spoil("reward", lambda _: 1e38)))
send("a temperature of 1e9", "temperature", *message(spoil("temperature", lambda _: 1e9)))
send("a top_p above 1", "malformed", *message(spoil("top_p", lambda _: 1.5)))
send("a duration that is none", "malformed", *message(spoil("generation_seconds", lambda _: math.nan)))

# What would make a file of the archive unreadable for DuckDB, Polars, pandas or Python.
send("a map with a key twice", "undecodable",
     *message(spoil("metadata", lambda _: [("a", "1"), ("a", "2")])), True)
send("a time that has no date", "undecodable", *message(spoil("created_at", lambda _: 2**62)), True)

# The producer starts again, and numbers from 0.
send("another group under an old number", "renumbered", *message(number=late + 1), number="")
for _ in range(SPREAD):
    send("spread", "bad_headers", b"spread", {}, True)
send("the straggler's second part", "duplicate", *message(
    rows=ROWS[half:], number=late, group=straggler, part="2/2"))
producer.flush()
for record in sent:
    print(json.dumps(record))
