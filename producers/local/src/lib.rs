//! The in-process engine: samples with the learner's own decoder.
