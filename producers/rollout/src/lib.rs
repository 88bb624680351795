//! Rollout producers: prompts, groups, rewards, the gate, publishing.
