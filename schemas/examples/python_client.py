"""Publishes a group of rollouts for a vintage learner to train on, and reads it back.

    pip install pyarrow confluent-kafka
    python python_client.py localhost:9092 runs/a/weights/lead/0/tokenizer.json
"""
import hashlib, json, math, sys, time, uuid

import pyarrow as pa
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

BROKER, TOKENIZER = sys.argv[1:]
TOPIC, RUN = "vintage.run.rollouts.v1", "run"  # as the run's settings `namespace` and `run` say
POLICY, VERSION = "lead", 0  # whose weights sampled, and after how many updates

# Names, order and types are fixed; schemas/README.md says what each column and header means.
TEXT, INT, LONG, FLOAT = pa.string(), pa.int32(), pa.int64(), pa.float32()
def required(name, kind):
    return pa.field(name, kind, nullable=False)
def list_of(kind):
    return pa.list_(required("item", kind))
COLUMNS = dict(
    group_id=pa.binary(16), trajectory_id=pa.binary(16), group_size=pa.uint16(),
    sample_index=pa.uint16(), policy=TEXT, batch=LONG, prompt_id=TEXT, prompt_tokens=list_of(INT),
    completion_tokens=list_of(INT), behavior_logprobs=list_of(FLOAT), loss_mask=list_of(pa.bool_()),
    policy_spans=list_of(pa.struct([required("start", INT), required("version", LONG)])),
    reward=FLOAT, reward_parts=pa.map_(TEXT, required("value", FLOAT)), finish_reason=TEXT,
    temperature=FLOAT, top_p=FLOAT, top_k=INT, logprob_mode=TEXT, engine=TEXT,
    created_at=pa.timestamp("us", "UTC"), generation_seconds=FLOAT, prompt_text=TEXT,
    completion_text=TEXT, metadata=pa.map_(TEXT, required("value", TEXT)))
OPTIONAL = {"loss_mask", "reward_parts", "prompt_text", "completion_text", "metadata"}
SCHEMA = pa.schema([pa.field(name, kind, name in OPTIONAL) for name, kind in COLUMNS.items()],
                   {"schema": "vintage.trajectory/1"})

TABLE = list(range(256))
for _ in range(8):
    TABLE = [entry >> 1 ^ 0x82F63B78 * (entry & 1) for entry in TABLE]
def crc32c(data, crc=0xFFFFFFFF):
    for byte in data:
        crc = TABLE[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF

# An engine gives the tokens it sampled, the stop token included, and each one's log-prob over the
# whole vocabulary at the sampling temperature. This one guesses, all tokens being equally likely.
vocabulary = json.load(open(TOKENIZER, encoding="utf-8"))["model"]["vocab"]
group, prompt, answer = uuid.uuid4().bytes, "472913=", "413236"
rows = [dict(
    group_id=group, group_size=3, sample_index=i, policy=POLICY, batch=-1, prompt_id="example",
    trajectory_id=hashlib.sha256(group + i.to_bytes(2, "little")).digest()[:16],
    prompt_text=prompt, prompt_tokens=[vocabulary[c] for c in prompt],
    completion_text=guess, completion_tokens=[vocabulary[c] for c in [*guess, "<eos>"]],
    behavior_logprobs=[-math.log(len(vocabulary))] * (len(guess) + 1), finish_reason="stop",
    policy_spans=[dict(start=0, version=VERSION)], reward=float(guess == answer),
    temperature=1.0, top_p=1.0, top_k=0, logprob_mode="full", engine="guesses",
    created_at=time.time_ns() // 1000, generation_seconds=0.0,
) for i, guess in enumerate(["413236", "413237", "472913"])]
sink = pa.BufferOutputStream()
with pa.ipc.new_stream(sink, SCHEMA) as stream:  # not compressed: that is left to Kafka
    stream.write_batch(pa.RecordBatch.from_pylist(rows, SCHEMA))
payload = sink.getvalue().to_pybytes()
headers = {  # text; a producer's groups are numbered from 0 without gaps
    "schema": "vintage.trajectory/1", "content-type": "application/vnd.apache.arrow.stream",
    "run": RUN, "policy": POLICY, "group": group.hex(), "rows": len(rows), "part": "1/1",
    "batch": -1, "min-policy-version": VERSION, "max-policy-version": VERSION,
    "producer": f"example-{uuid.uuid4()}", "producer-seq": 0, "crc32c": f"{crc32c(payload):08x}"}
def delivered(error, message):
    if error:
        raise KafkaException(error)
    consumer.assign([TopicPartition(TOPIC, message.partition(), message.offset())])
consumer = Consumer({"bootstrap.servers": BROKER, "group.id": "python-example"})
producer = Producer({"bootstrap.servers": BROKER, "enable.idempotence": True})
producer.produce(TOPIC, payload, group, headers={key: str(headers[key]) for key in headers},
                 on_delivery=delivered)
producer.flush()

message = consumer.poll(30) or sys.exit("it does not come back within 30 s")
print("group", dict(message.headers())["group"].decode(), "\nsample  reward  completion  tokens")
for row in pa.ipc.open_stream(message.value()).read_all().to_pylist():
    print("{sample_index:6}  {reward:6}  {completion_text:10}  {completion_tokens}".format(**row))
