//! The learner: intake, plans, updates, results, checkpoints.
