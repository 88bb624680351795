//! The server over real connections.

use std::{net::SocketAddr, path::Path, sync::Arc};

use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use vintage_control::PolicyVersion;
use vintage_local::{LocalEngine, LocalModel};
use vintage_model::{DecoderConfig, ModelFolder, ParamSet, Tokenizer};
use vintage_rollout::Sampling;
use vintage_store::{Store, Weights};

use crate::{
    routes::Site,
    server::{ServeSetup, Server},
};

/// Writes a tiny model of digits, with weights of a seed.
fn save(folder: &Path, seed: u64) {
    let tokenizer = Tokenizer::characters(&"0123456789+=".chars().collect()).unwrap();
    let config = DecoderConfig::tiny(tokenizer.vocab_size());
    let params = ParamSet::init(&config, seed).unwrap();
    let whole = ModelFolder::new(config, tokenizer, params).unwrap();
    whole.save(folder).unwrap();
}

struct Fixture {
    folder: tempfile::TempDir,
    address: SocketAddr,
    stop: CancellationToken,
    running: JoinHandle<u64>,
    site: Arc<Site>,
    client: Client,
}

impl Fixture {
    async fn start(control: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for seed in 0..2 {
            save(&folder.path().join(seed.to_string()), seed);
        }
        let policy = "lead".parse().unwrap();
        let model = LocalModel::open(folder.path().join("0"), policy).await;
        let server = Server::bind(ServeSetup {
            model: model.unwrap(),
            name: "policy".to_owned(),
            label: "default".to_owned(),
            listen: "127.0.0.1:0".parse().unwrap(),
            control,
            batch_tokens: 512,
        });
        let server = server.await.unwrap();
        let address = server.address();
        let site = Arc::clone(&server.site);
        let stop = CancellationToken::new();
        let running = tokio::spawn(server.run(stop.clone()));
        Self {
            folder,
            address,
            stop,
            running,
            site,
            client: Client::new(),
        }
    }

    /// Waits until this many completions wait.
    async fn wait_for(&self, count: usize) {
        while self.site.engine.waiting() != count {
            tokio::task::yield_now().await;
        }
    }

    fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        let url = format!("http://{}{path}", self.address);
        self.client.post(url).body(body.to_string())
    }

    async fn call(&self, path: &str, body: &Value) -> (u16, Value) {
        sent(self.post(path, body)).await
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        sent(self.client.get(format!("http://{}{path}", self.address))).await
    }

    async fn load(&self, name: &str) -> (u16, Value) {
        let path = self.folder.path().join(name);
        let kwargs = json!({"weights_path": path});
        self.call(
            "/collective_rpc",
            &json!({"method": "reload_weights", "kwargs": kwargs}),
        )
        .await
    }
}

async fn sent(request: RequestBuilder) -> (u16, Value) {
    let reply = request.send().await.unwrap();
    let status = reply.status().as_u16();
    let text = reply.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or_default())
}

#[tokio::test]
async fn a_seed_gives_the_tokens_and_log_probs_of_the_engine_in_the_process() {
    let served = Fixture::start(true).await;
    // The same model as version 0 of a run.
    let store = served.folder.path().join("store");
    let weights = Weights::new(
        Store::open(store.to_str().unwrap()).unwrap(),
        "lead".parse().unwrap(),
    );
    let folder = ModelFolder::open(served.folder.path().join("0")).unwrap();
    let files = folder.files().unwrap().into_iter();
    let files = files.map(|(name, bytes)| (name, bytes.into())).collect();
    let _ = weights.publish(PolicyVersion::ZERO, files).await.unwrap();
    let policy = "lead".parse().unwrap();
    let engine = LocalEngine::open(weights, policy, PolicyVersion::ZERO)
        .await
        .unwrap();
    for (temperature, top_p, top_k) in [(1.0, 1.0, 0), (0.7, 0.9, 5), (0.0, 1.0, 0)] {
        let sampling = Sampling {
            max_tokens: 12,
            temperature,
            top_p,
            top_k,
        };
        let prompts = ["12+3=".to_owned(), "7=".to_owned()];
        let expected = engine
            .generate(&prompts, sampling, vec![7, 7])
            .await
            .unwrap();
        let body = json!({"prompt": prompts, "max_tokens": 12, "temperature": temperature,
            "top_p": top_p, "top_k": top_k, "seed": 7, "logprobs": 2, "return_token_ids": true});
        let (status, reply) = served.call("/v1/completions", &body).await;
        assert_eq!(status, 200, "{reply}");
        for (choice, expected) in reply["choices"].as_array().unwrap().iter().zip(&expected) {
            assert_eq!(choice["token_ids"], json!(expected.tokens), "{reply}");
            assert_eq!(choice["prompt_token_ids"], json!(expected.prompt_tokens));
            assert_eq!(choice["text"], json!(expected.text));
            assert_eq!(
                choice["logprobs"]["token_logprobs"],
                json!(expected.logprobs)
            );
            assert_eq!(choice["finish_reason"], expected.finish_reason.as_str());
            let top = choice["logprobs"]["top_logprobs"][0].as_object().unwrap();
            assert!((2..=3).contains(&top.len()), "{top:?}");
        }
        let ids = json!(expected[0].prompt_tokens);
        let params = json!({"max_tokens": 12, "temperature": temperature, "top_p": top_p,
            "top_k": top_k, "seed": 7, "logprobs": 0, "n": 2});
        let body = json!({"token_ids": ids, "sampling_params": params});
        let (_, reply) = served.call("/inference/v1/generate", &body).await;
        let choice = &reply["choices"][0];
        let end = expected[0].tokens.len();
        assert_eq!(choice["token_ids"], json!(expected[0].tokens), "{reply}");
        let spans = json!([{"version": "default", "start": 0, "end": end}]);
        assert_eq!(choice["weight_versions"], spans);
        let first = &choice["logprobs"]["content"][0];
        assert_eq!(first["logprob"], json!(expected[0].logprobs[0]));
    }
}

#[tokio::test]
async fn weights_are_changed_in_a_pause_and_what_waits_gets_the_new_ones() {
    let served = Fixture::start(true).await;
    assert_eq!(served.call("/pause?mode=abort", &json!({})).await.0, 200);
    assert_eq!(served.get("/is_paused").await.1["is_paused"], true);
    let body = json!({"token_ids": [2, 3], "sampling_params": {"max_tokens": 4, "seed": 3}});
    let waiting = tokio::spawn(sent(served.post("/inference/v1/generate", &body)));
    assert_eq!(served.load("1").await.0, 200);
    // Weights without a label are of no version.
    assert_eq!(
        served.get("/weight_info").await.1["weight_version"],
        "unlabelled"
    );
    let label = json!({"new_version": "lead-1-0123"});
    assert_eq!(served.call("/update_weight_version", &label).await.0, 200);
    assert_eq!(served.call("/reset_prefix_cache", &json!({})).await.0, 200);
    assert_eq!(served.call("/resume", &json!({})).await.0, 200);
    let (status, reply) = waiting.await.unwrap();
    assert_eq!(status, 200);
    assert_eq!(
        reply["choices"][0]["weight_versions"][0]["version"],
        "lead-1-0123"
    );

    // A folder that cannot be loaded leaves weights and label.
    let (status, reply) = served.load("2").await;
    assert_eq!(
        (status, &reply["error"]["param"]),
        (400, &json!("kwargs.weights_path"))
    );
    let larger = Tokenizer::characters(&"0123456789+=*".chars().collect()).unwrap();
    let config = DecoderConfig::tiny(larger.vocab_size());
    let params = ParamSet::init(&config, 0).unwrap();
    let other = ModelFolder::new(config, larger, params).unwrap();
    other.save(served.folder.path().join("3")).unwrap();
    let (status, reply) = served.load("3").await;
    assert!(
        status == 400 && reply.to_string().contains("another model"),
        "{reply}"
    );
    assert_eq!(
        served.get("/weight_info").await.1["weight_version"],
        "lead-1-0123"
    );
    assert_eq!(served.call("/pause?mode=zzz", &json!({})).await.0, 400);
}

#[tokio::test]
async fn what_waits_is_aborted_by_its_id_or_with_its_client() {
    let served = Fixture::start(true).await;
    served.call("/pause", &json!({})).await;
    let body = json!({"prompt": "1+", "max_tokens": 2, "request_id": "roll-1"});
    let waiting = tokio::spawn(sent(served.post("/v1/completions", &body)));
    let abort = json!({"request_ids": ["cmpl-roll-1-0"]});
    served.wait_for(1).await;
    assert_eq!(served.call("/abort_requests", &abort).await.1["aborted"], 1);
    let (status, reply) = waiting.await.unwrap();
    assert_eq!(
        (status, &reply["choices"][0]["finish_reason"]),
        (200, &json!("abort"))
    );
    assert_eq!(reply["usage"]["completion_tokens"], 0);

    // A client that goes away: its connection ends, and only the other completion is sampled.
    let gone = TcpStream::connect(served.address).await.unwrap();
    let text = json!({"prompt": "1+", "max_tokens": 2}).to_string();
    let head = format!(
        "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n",
        text.len()
    );
    let mut gone = gone;
    gone.write_all(format!("{head}{text}").as_bytes())
        .await
        .unwrap();
    gone.shutdown().await.unwrap();
    let mut rest = Vec::new();
    gone.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    served.call("/resume", &json!({})).await;
    assert_eq!(served.call("/v1/completions", &body).await.0, 200);
    served.stop.cancel();
    assert_eq!(served.running.await.unwrap(), 1);
}

#[tokio::test]
async fn requests_that_came_are_answered_when_it_ends() {
    let body = json!({"prompt": "1+", "max_tokens": 100, "n": 8, "ignore_eos": true});
    for paused in [false, true] {
        let served = Fixture::start(true).await;
        served.call("/pause", &json!({})).await;
        let waiting = tokio::spawn(sent(served.post("/v1/completions", &body)));
        served.wait_for(8).await;
        if !paused {
            served.site.engine.resume();
        }
        served.stop.cancel();
        let (status, reply) = waiting.await.unwrap();
        assert_eq!(status, 200, "{reply}");
        let finish = if paused { "abort" } else { "length" };
        let choices = reply["choices"].as_array().unwrap();
        assert_eq!(choices.len(), 8);
        assert!(
            choices
                .iter()
                .all(|choice| choice["finish_reason"] == finish),
            "{reply}"
        );
        assert_eq!(served.running.await.unwrap(), if paused { 0 } else { 8 });
    }
}

#[tokio::test]
async fn whatever_else_is_asked_is_refused_in_openais_shape() {
    let served = Fixture::start(false).await;
    for (path, status, kind) in [
        ("/v1/nothing", 404, "NotFoundError"),
        ("/props", 404, "NotFoundError"),
        ("/v1/completions", 405, "MethodNotAllowedError"),
        ("/weight_info", 403, "PermissionDeniedError"),
    ] {
        let (found, reply) = served.get(path).await;
        assert_eq!(
            (found, &reply["error"]["type"]),
            (status, &json!(kind)),
            "{path}"
        );
        assert_eq!(reply["error"]["code"], status);
    }
    assert_eq!(
        served.load("1").await.0,
        403,
        "the weights are not for everybody"
    );
    let large = json!({"prompt": "1".repeat(9 << 20)});
    assert_eq!(served.call("/v1/completions", &large).await.0, 413);
    let page = served
        .post("/v1/completions", &json!({"prompt": "1"}))
        .header("origin", "http://evil");
    assert_eq!(sent(page).await.0, 403);
    let named = served
        .post("/v1/completions", &json!({"prompt": "1"}))
        .header("host", "evil.example");
    assert_eq!(sent(named).await.0, 421);
    let (status, models) = served.get("/v1/models").await;
    assert_eq!((status, &models["data"][0]["id"]), (200, &json!("policy")));
    assert_eq!(served.get("/health").await.0, 200);
}

/// Requests that come while new weights wait to be loaded are sampled by them, and those in hand by
/// the old ones to their end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_weights_wait_for_what_is_in_hand_and_what_comes_waits_for_them() {
    let served = Fixture::start(true).await;
    let engine = &served.site.engine;
    let context = engine.texts().config().max_position_embeddings;
    let generate = |tokens: usize| {
        served.post(
            "/inference/v1/generate",
            &json!({"token_ids": [1, 2], "sampling_params": {"max_tokens": tokens, "ignore_eos": true}}),
        )
    };
    for round in 0..5 {
        let label = format!("label {round}");
        engine.set_label(label.clone());
        engine.pause().await;
        let before = tokio::spawn(sent(generate(context - 2)));
        served.wait_for(1).await;
        engine.resume();
        served.wait_for(0).await;
        let mut loading = Box::pin(engine.load(served.folder.path().join("1")));
        // Polled once, so that the change has begun.
        tokio::select! {
            biased;
            _ = &mut loading => panic!("a folder is read on another thread"),
            () = std::future::ready(()) => {}
        }
        let after = tokio::spawn(sent(generate(2)));
        loading.await.unwrap();
        for (reply, label) in [(before, label.as_str()), (after, "unlabelled")] {
            let (status, reply) = reply.await.unwrap();
            assert_eq!(status, 200, "{reply}");
            let sampled_by = &reply["choices"][0]["weight_versions"][0]["version"];
            assert_eq!(sampled_by, label, "{reply}");
        }
    }
}
