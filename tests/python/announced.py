"""Waits for the first announcement of a policy and prints it. usage: announced.py BROKER TOPIC"""

import sys

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

broker, topic = sys.argv[1:]
consumer = Consumer({"bootstrap.servers": broker, "group.id": "announced"})
consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
message = consumer.poll(60) or sys.exit(f"nothing came on {topic} within 60 s")
print(message.value().decode())
