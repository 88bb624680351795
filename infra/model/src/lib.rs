//! Differentiable decoder on candle, sampler, tokenizer and Hugging Face folders.
