//! A server with vLLM's protocol that samples with the real decoder, and misbehaves on demand.

mod completion;

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use vintage_control::Precision;
use vintage_model::{Decoder, ModelFolder, ParamSet};

/// Misbehaviour at one request for a completion.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Mischief {
    /// Ends the connection without a reply.
    Drop,
    /// Never replies.
    Hang,
    /// Replies after a while, rightly.
    Slow,
    Status(u16),
    /// Replies with something that is not JSON.
    Garbage,
    /// Leaves out the last log-prob.
    Short,
    /// Shifts the log-probs by one token.
    Shifted,
    /// Replies with other token ids than those sampled.
    OtherIds,
    OutOfVocabulary,
    PositiveLogprob,
    NoLogprob,
    /// Says that a cut completion was stopped.
    WrongFinish,
    OtherPrompt,
    /// Gives weights that no run has published.
    UnknownVersion,
    /// Gives weights of an earlier version.
    StaleVersion,
    /// Leaves out which weights sampled.
    NoVersion,
    /// Waits for a pause, which ends the completion after two tokens.
    UntilPause,
    /// Replies once the server has another label.
    UntilLabel,
    /// Ends the completion before its first token.
    AbortAtOnce,
}

/// Switches of the server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Switches {
    /// Control of pauses and weights.
    pub(crate) dev_mode: bool,
    /// `/inference/v1/generate`.
    pub(crate) scale_out: bool,
    /// Log-probs at the sampling temperature, rather than at 1.
    pub(crate) processed: bool,
    /// Adapters up to this rank, loaded while it runs; 0 is off.
    pub(crate) adapters: usize,
}

pub(crate) const ALL_ON: Switches = Switches {
    dev_mode: true,
    scale_out: true,
    processed: true,
    adapters: 0,
};

struct State {
    switches: Switches,
    decoder: Arc<Decoder>,
    /// Folder of the whole weights.
    folder: PathBuf,
    /// The model with adapters, by their names.
    adapted: BTreeMap<String, Arc<Decoder>>,
    stop: Vec<u32>,
    label: watch::Sender<String>,
    earlier: String,
    loaded: Vec<PathBuf>,
    paused: watch::Sender<bool>,
    /// Misbehaviours to come, one per completion.
    mischief: VecDeque<Mischief>,
    /// Misbehaviour of every completion.
    always: Option<Mischief>,
    /// True if the next change of weights kills the server.
    dies_in_swap: bool,
    steps: Vec<String>,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    /// Number of completions that are being computed.
    pub(crate) running: watch::Sender<usize>,
    /// Ends the server when it is dropped.
    task: tokio::task::JoinHandle<()>,
    dead: watch::Receiver<bool>,
}

impl Server {
    /// Starts a server with the model in a folder.
    pub(crate) async fn start(model: &Path, switches: Switches) -> Self {
        Self::start_at(model, switches, "127.0.0.1:0".parse().unwrap()).await
    }

    pub(crate) async fn start_at(model: &Path, switches: Switches, address: SocketAddr) -> Self {
        let (decoder, stop) = open(model);
        let state = Arc::new(Mutex::new(State {
            switches,
            decoder,
            folder: model.to_owned(),
            adapted: BTreeMap::new(),
            stop,
            label: watch::channel("default".to_owned()).0,
            earlier: "default".to_owned(),
            loaded: Vec::new(),
            paused: watch::channel(false).0,
            mischief: VecDeque::new(),
            always: None,
            dies_in_swap: false,
            steps: Vec::new(),
        }));
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (die, dead) = watch::channel(false);
        let (running, _) = watch::channel(0);
        let shared = (Arc::clone(&state), running.clone(), die);
        let mut killed = dead.clone();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let stream = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap().0,
                    _ = killed.wait_for(|dead| *dead) => return,
                };
                let shared = shared.clone();
                connections.spawn(async move {
                    let answer = service_fn(move |request| {
                        let (state, running, die) = shared.clone();
                        async move { answer(request, &state, &running, &die).await }
                    });
                    // An error is a connection that a test has ended.
                    let _ended = http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), answer)
                        .await;
                });
            }
        });
        Self {
            address,
            state,
            running,
            task,
            dead,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Misbehaves at the next completions, one after the other.
    pub(crate) fn next(&self, mischief: &[Mischief]) {
        self.state.lock().unwrap().mischief.extend(mischief);
    }

    pub(crate) fn always(&self, mischief: Option<Mischief>) {
        self.state.lock().unwrap().always = mischief;
    }

    pub(crate) fn die_in_swap(&self) {
        self.state.lock().unwrap().dies_in_swap = true;
    }

    /// Waits until the server has died.
    pub(crate) async fn died(&self) {
        let mut dead = self.dead.clone();
        dead.wait_for(|dead| *dead).await.unwrap();
    }

    /// Folders of weights that were loaded.
    pub(crate) fn loaded(&self) -> Vec<PathBuf> {
        self.state.lock().unwrap().loaded.clone()
    }

    /// Calls of control so far.
    pub(crate) fn steps(&self) -> Vec<String> {
        self.state.lock().unwrap().steps.clone()
    }

    /// Names of the adapters that are loaded.
    pub(crate) fn adapters(&self) -> Vec<String> {
        self.state.lock().unwrap().adapted.keys().cloned().collect()
    }

    /// Forgets all adapters, as a server that was started anew.
    pub(crate) fn forget_adapters(&self) {
        self.state.lock().unwrap().adapted.clear();
    }

    pub(crate) fn misbehaviours_left(&self) -> usize {
        self.state.lock().unwrap().mischief.len()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn open(model: &Path) -> (Arc<Decoder>, Vec<u32>) {
    let folder = ModelFolder::open(model).unwrap();
    let stop = folder.tokenizer.eos_ids().to_vec();
    let decoder = Decoder::new(folder.config, folder.params).unwrap();
    (Arc::new(decoder), stop)
}

type Answer = Result<Response<Full<Bytes>>, Gone>;

/// Connection that ends without a reply.
#[derive(Debug)]
struct Gone;

impl std::fmt::Display for Gone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("gone")
    }
}

impl std::error::Error for Gone {}

fn reply(status: u16, body: &Value) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = StatusCode::from_u16(status).map_err(|_| Gone)?;
    Ok(response)
}

async fn answer(
    request: Request<Incoming>,
    state: &Mutex<State>,
    running: &watch::Sender<usize>,
    die: &watch::Sender<bool>,
) -> Answer {
    let path = request.uri().path().to_owned();
    let body = request
        .into_body()
        .collect()
        .await
        .map_err(|_| Gone)?
        .to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let switches = state.lock().unwrap().switches;
    let missing = || reply(404, &json!({"detail": "Not Found"}));
    match path.as_str() {
        "/health" => reply(200, &json!({})),
        "/version" => reply(200, &json!({"version": "0.32.0"})),
        "/v1/models" => {
            let model =
                json!({"id": "policy", "owned_by": "vllm", "parent": null, "max_model_len": 256});
            let state = state.lock().unwrap();
            let adapters = state.adapted.keys();
            let adapters =
                adapters.map(|name| json!({"id": name, "owned_by": "vllm", "parent": "policy"}));
            let all: Vec<_> = [model].into_iter().chain(adapters).collect();
            reply(200, &json!({"object": "list", "data": all}))
        }
        "/v1/load_lora_adapter" | "/v1/unload_lora_adapter" if switches.adapters == 0 => missing(),
        "/v1/load_lora_adapter" => load_adapter(&body, state),
        "/v1/unload_lora_adapter" => {
            let mut state = state.lock().unwrap();
            match state.adapted.remove(body["lora_name"].as_str().unwrap()) {
                Some(_) => reply(200, &json!("Success")),
                None => missing(),
            }
        }
        "/inference/v1/generate" if !switches.scale_out => {
            let message = "Scale-out endpoints are disabled.";
            reply(403, &json!({"error": {"message": message, "code": 403}}))
        }
        "/inference/v1/generate" | "/v1/completions" => {
            running.send_modify(|running| *running += 1);
            let guard = Running(running.clone());
            let answered = completion::complete(&path, &body, state).await;
            drop(guard);
            answered
        }
        _ if !switches.dev_mode => missing(),
        "/weight_info" => {
            let label = state.lock().unwrap().label.borrow().clone();
            reply(200, &json!({"weight_version": label}))
        }
        "/is_paused" => {
            let paused = *state.lock().unwrap().paused.borrow();
            reply(200, &json!({"is_paused": paused}))
        }
        _ => control(&path, &body, state, die),
    }
}

/// Loads adapters of a rank that the server takes, and refuses a name that it has.
fn load_adapter(body: &Value, state: &Mutex<State>) -> Answer {
    let refuse = |message: String| {
        reply(
            400,
            &json!({"error": {"message": message, "type": "InvalidUserInput", "code": 400}}),
        )
    };
    let (Some(name), Some(path)) = (body["lora_name"].as_str(), body["lora_path"].as_str()) else {
        return refuse("Both 'lora_name' and 'lora_path' must be provided.".to_owned());
    };
    let mut state = state.lock().unwrap();
    if state.adapted.contains_key(name) {
        return refuse(format!(
            "The lora adapter '{name}' has already been loaded."
        ));
    }
    let file = |name: &str| std::fs::read(Path::new(path).join(name)).unwrap();
    let config = file("adapter_config.json");
    let rank = serde_json::from_slice::<Value>(&config).unwrap()["r"]
        .as_u64()
        .unwrap();
    if rank > state.switches.adapters as u64 {
        return refuse(format!(
            "LoRA rank {rank} is greater than max_lora_rank {}.",
            state.switches.adapters
        ));
    }
    let base = std::fs::read(state.folder.join("model.safetensors")).unwrap();
    let adapter = file("adapter_model.safetensors");
    let merged = vintage_delta::merge(&base, &adapter, &config, Precision::F32).unwrap();
    let model = ModelFolder::open(&state.folder).unwrap().config;
    let params = ParamSet::from_safetensors(&merged, &model).unwrap();
    let decoder = Arc::new(Decoder::new(model, params).unwrap());
    state.adapted.insert(name.to_owned(), decoder);
    reply(200, &json!("Success: LoRA adapter added successfully."))
}

/// Completion that is being computed, also while its client is gone.
struct Running(watch::Sender<usize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|running| *running -= 1);
    }
}

fn control(path: &str, body: &Value, state: &Mutex<State>, die: &watch::Sender<bool>) -> Answer {
    let mut state = state.lock().unwrap();
    state.steps.push(path.to_owned());
    match path {
        "/pause" => drop(state.paused.send_replace(true)),
        "/resume" => drop(state.paused.send_replace(false)),
        "/reset_prefix_cache" => {}
        "/collective_rpc" => {
            assert!(
                *state.paused.borrow(),
                "weights are changed in a pause only"
            );
            if state.dies_in_swap {
                die.send_replace(true);
                return Err(Gone);
            }
            let folder = PathBuf::from(body["kwargs"]["weights_path"].as_str().unwrap());
            state.decoder = open(&folder).0;
            state.folder.clone_from(&folder);
            state.loaded.push(folder);
        }
        "/update_weight_version" => {
            let label = body["new_version"].as_str().unwrap().to_owned();
            state.earlier = state.label.send_replace(label);
        }
        _ => return reply(404, &json!({"detail": "Not Found"})),
    }
    reply(200, &json!({"success": true}))
}
