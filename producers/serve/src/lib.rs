//! The in-process engine as a server: vLLM's HTTP, as far as a rollout client and people use it.
//!
//! Begin reading at [`Server`] (`server.rs`), the listener. A request passes these files in order:
//!
//! * `routes.rs` knows the endpoints.
//! * `ask.rs` reads a request for completions from its `fields.rs`; whatever it does not know is a
//!   `refusal.rs` that names the field.
//! * `queue.rs` holds the completions that wait; they join the continuous `batch.rs`. `engine.rs`
//!   changes the weights when that is empty. So all tokens of a completion are of one version.
//! * `reply.rs` writes the completions in the form of their endpoint.
//!
//! Log-probs are those of the in-process engine: over the whole vocabulary at the sampling
//! temperature, whatever top-p and top-k cut off. A seed gives the tokens that it gives there.
//!
//! ```
//! use tokio_util::sync::CancellationToken;
//! use vintage_local::LocalModel;
//! use vintage_serve::{ServeSetup, Server};
//! # use vintage_model::{DecoderConfig, ModelFolder, ParamSet, Tokenizer};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path();
//! # let tokenizer = Tokenizer::characters(&"0123456789+=".chars().collect())?;
//! # let config = DecoderConfig::tiny(tokenizer.vocab_size());
//! # let params = ParamSet::init(&config, 0)?;
//! # let _ = ModelFolder::new(config, tokenizer, params)?.save(folder)?;
//! let server = Server::bind(ServeSetup {
//!     model: LocalModel::open(folder.to_owned(), "lead".parse()?).await?,
//!     name: "policy".to_owned(),
//!     label: "default".to_owned(),
//!     listen: "127.0.0.1:0".parse()?,
//!     control: true,
//!     batch_tokens: 4096,
//! })
//! .await?;
//! let url = format!("http://{}/v1/completions", server.address());
//! let stop = CancellationToken::new();
//! let running = tokio::spawn(server.run(stop.clone()));
//!
//! let ask = r#"{"prompt": "1+2=", "max_tokens": 4, "seed": 7, "return_token_ids": true}"#;
//! let reply = reqwest::Client::new().post(url).body(ask).send().await?;
//! assert!(reply.text().await?.contains("token_ids"));
//!
//! stop.cancel();
//! assert_eq!(running.await?, 1); // completions sampled
//! # Ok(())
//! # }
//! ```

mod ask;
mod batch;
mod engine;
mod error;
mod fields;
mod queue;
mod refusal;
mod reply;
mod routes;
mod server;
#[cfg(test)]
mod tests;

pub use error::Error;
pub use server::{ServeSetup, Server};
