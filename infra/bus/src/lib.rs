//! The log: rdkafka producers and consumers, topics, and the brokers they talk to.
