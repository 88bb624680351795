"""Writes to topics in a Kafka transaction of its own. usage: transaction.py BROKERS (commit | abort | open)[:N] TOPIC...

One record, or N, which no program of ours reads, to every partition of every topic; then the transaction ends:
its marker is the last offset there. An open one ends when standard input does.
"""
import sys
import uuid

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

brokers, end, *topics = sys.argv[1:]
end, _, count = end.partition(":")
known = AdminClient({"bootstrap.servers": brokers}).list_topics(timeout=30).topics
producer = Producer({"bootstrap.servers": brokers, "transactional.id": f"other-{uuid.uuid4()}"})
producer.init_transactions(60)
producer.begin_transaction()
for topic in topics:
    for partition in known[topic].partitions:
        for _ in range(int(count or 1)):
            producer.produce(topic, b"of another program", b"key", partition)
assert producer.flush(30) == 0, "not acknowledged"
print("written", flush=True)
if end == "open":
    sys.stdin.read()
if end == "commit":
    producer.commit_transaction(60)
else:
    producer.abort_transaction(60)
