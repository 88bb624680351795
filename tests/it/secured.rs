//! A cluster with authentication: TLS, SCRAM-SHA-512, PLAIN and OAUTHBEARER, and rights by user. A
//! user with the rights trains; one without sees what is missing; no secret is written anywhere.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use vintage_broker::LocalOptions;
use vintage_tests::{Ended, Kafka, Served, free_port, place, python, run, vintage};

use crate::small::digits;

const PASSWORD: &str = "correct-horse-battery-staple";
const PLAIN_PASSWORD: &str = "plain-as-day";
/// Environment variable that holds the password, as the settings name it.
const VARIABLE: &str = "KAFKA_PASSWORD";

/// Kafka with a secured listener for clients beside the one of its own node.
struct Secured {
    _kafka: Kafka,
    address: String,
    folder: PathBuf,
}

impl Secured {
    fn up(folder: &Path) -> Result<Self> {
        certificates(folder)?;
        let dir = folder.join("kafka");
        fs::create_dir(&dir)?;
        let [client, controller, secure] = [free_port()?, free_port()?, free_port()?];
        // The ports it keeps, chosen here because a listener's settings name them.
        let cluster = json!({
            "format": "vintage.local-kafka/1",
            "cluster_id": "c2VjdXJlZC1jbHVzdGVyMQ",
            "nodes": [{ "node": 1, "client": client, "controller": controller }],
        });
        fs::write(dir.join("cluster.json"), cluster.to_string())?;
        let local = |name: &str, port: u16| format!("{name}://127.0.0.1:{port}");
        let open = local("PLAINTEXT", client);
        let secured = local("SECURED", secure);
        let module = "org.apache.kafka.common.security";
        let settings = [
            (
                "listeners",
                format!("{open},{secured},{}", local("CONTROLLER", controller)),
            ),
            ("advertised.listeners", format!("{open},{secured}")),
            (
                "listener.security.protocol.map",
                "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURED:SASL_SSL".into(),
            ),
            ("ssl.keystore.type", "PEM".into()),
            (
                "ssl.keystore.location",
                folder.join("server.pem").display().to_string(),
            ),
            (
                "sasl.enabled.mechanisms",
                "SCRAM-SHA-512,PLAIN,OAUTHBEARER".into(),
            ),
            (
                "listener.name.secured.scram-sha-512.sasl.jaas.config",
                format!("{module}.scram.ScramLoginModule required;"),
            ),
            (
                "listener.name.secured.plain.sasl.jaas.config",
                format!(
                    "{module}.plain.PlainLoginModule required user_plain=\"{PLAIN_PASSWORD}\";"
                ),
            ),
            // Kafka's own validator of unsigned tokens, for tests. The claim is the broker's, which
            // logs in to itself.
            (
                "listener.name.secured.oauthbearer.sasl.jaas.config",
                format!(
                    "{module}.oauthbearer.OAuthBearerLoginModule required \
                     unsecuredLoginStringClaim_sub=\"broker\";"
                ),
            ),
            (
                "authorizer.class.name",
                "org.apache.kafka.metadata.authorizer.StandardAuthorizer".into(),
            ),
            // The user of connections to the node's own listener.
            ("super.users", "User:ANONYMOUS".into()),
        ];
        let settings = settings.map(|(key, value)| (key.to_owned(), value));
        let options = LocalOptions {
            settings: BTreeMap::from(settings),
            ..LocalOptions::default()
        };
        let kafka = Kafka::up_with(&dir, options)?;
        rights(kafka.address())?;
        Ok(Self {
            _kafka: kafka,
            address: format!("127.0.0.1:{secure}"),
            folder: folder.to_owned(),
        })
    }

    /// Writes the settings of a user that trusts the certificates in `trusted`.
    fn settings(&self, mechanism: &str, user: &str, trusted: &str) -> Result<PathBuf> {
        let options = format!(
            "\"sasl.mechanisms\" = \"{mechanism}\"\n\"sasl.username\" = \"{user}\"\n\
             \"sasl.password\" = \"env:{VARIABLE}\"\n"
        );
        self.write(&format!("{user}-{trusted}"), trusted, &options)
    }

    /// Writes the settings of a client that gets its tokens from `endpoint`.
    fn oauth_settings(&self, client: &str, endpoint: &str) -> Result<PathBuf> {
        let options = format!(
            "\"sasl.mechanisms\" = \"OAUTHBEARER\"\n\"sasl.oauthbearer.method\" = \"oidc\"\n\
             \"sasl.oauthbearer.token.endpoint.url\" = \"{endpoint}\"\n\
             \"sasl.oauthbearer.client.id\" = \"{client}\"\n\
             \"sasl.oauthbearer.client.secret\" = \"env:{VARIABLE}\"\n"
        );
        self.write(client, "ca.pem", &options)
    }

    fn write(&self, name: &str, trusted: &str, options: &str) -> Result<PathBuf> {
        let path = self.folder.join(format!("{name}.toml"));
        let text = format!(
            "broker = \"{}\"\n[broker_options]\n\"security.protocol\" = \"SASL_SSL\"\n\
             \"ssl.ca.location\" = \"{}\"\n{options}",
            self.address,
            self.folder.join(trusted).display(),
        );
        fs::write(&path, text)?;
        Ok(path)
    }
}

fn openssl(folder: &Path, arguments: &str) -> Result<()> {
    let mut command = Command::new("openssl");
    command.args(arguments.split(' ')).current_dir(folder);
    let made = run(command)?;
    ensure!(
        made.status.success(),
        "openssl {arguments}: {}",
        made.stderr
    );
    Ok(())
}

/// Creates an authority, a certificate by it for the broker, and another authority.
fn certificates(folder: &Path) -> Result<()> {
    for name in ["ca", "other"] {
        openssl(
            folder,
            &format!(
                "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name} -keyout {name}.key \
                 -out {name}.pem"
            ),
        )?;
    }
    fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1\n")?;
    openssl(
        folder,
        "req -newkey rsa:2048 -nodes -subj /CN=broker -keyout broker.key -out broker.csr",
    )?;
    openssl(
        folder,
        "x509 -req -in broker.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
         -extfile names -out broker.pem",
    )?;
    let whole = ["broker.key", "broker.pem", "ca.pem"].map(|name| fs::read(folder.join(name)));
    let whole: Vec<_> = whole.into_iter().collect::<Result<_, _>>()?;
    Ok(fs::write(folder.join("server.pem"), whole.concat())?)
}

/// Grants rights: to `trainer`, those that a run needs by infra/kafka/README.md; to `reader`, all
/// but writing; to `blind`, reading records but not describing topics.
fn rights(address: &str) -> Result<()> {
    let on_topics = |user, operations| json!([user, "topic", "vintage.", operations]);
    let on_groups = |user| json!([user, "group", "vintage-", ["READ"]]);
    let read = ["CREATE", "DESCRIBE", "DESCRIBE_CONFIGS", "READ"];
    let wanted = json!({
        "users": {
            "trainer": PASSWORD, "reader": PASSWORD, "blind": PASSWORD, "stranger": PASSWORD,
        },
        "rights": [
            on_topics("trainer", [&read[..], &["WRITE"]].concat()),
            on_groups("trainer"),
            on_topics("reader", read.to_vec()),
            on_groups("reader"),
            on_topics("blind", vec!["DESCRIBE", "READ"]),
            on_topics("plain", read.to_vec()),
            on_topics("oauth", [&read[..], &["WRITE"]].concat()),
            on_groups("oauth"),
        ],
    });
    let mut granting = Command::new(python())
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("python/rights.py"))
        .arg(address)
        .stdin(Stdio::piped())
        .spawn()?;
    let mut input = granting.stdin.take().context("its standard input")?;
    input.write_all(wanted.to_string().as_bytes())?;
    drop(input);
    ensure!(granting.wait()?.success(), "no rights were granted");
    Ok(())
}

/// Returns every file below a folder that holds one of the secrets.
fn leaks(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in folder.read_dir()? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(leaks(&path)?);
            continue;
        }
        let bytes = fs::read(&path)?;
        let holds = |secret: &str| {
            bytes
                .windows(secret.len())
                .any(|part| part == secret.as_bytes())
        };
        if holds(PASSWORD) || holds(PLAIN_PASSWORD) {
            found.push(path);
        }
    }
    Ok(found)
}

fn run_with_password(mut command: Command, password: &str) -> Result<Ended> {
    command.env(VARIABLE, password).env("RUST_LOG", "debug");
    let ended = run(command)?;
    for secret in [PASSWORD, PLAIN_PASSWORD] {
        ensure!(!ended.stdout.contains(secret), "stdout: {}", ended.stdout);
        ensure!(!ended.stderr.contains(secret), "stderr: {}", ended.stderr);
    }
    Ok(ended)
}

/// Checks that a command was refused: exit code 2 if nothing was begun, 1 if a run was.
fn refused(ended: &Ended, code: i32, words: &[&str]) -> Result<()> {
    ensure!(
        ended.status.code() == Some(code),
        "{}\n{}",
        ended.status,
        ended.stderr
    );
    let error = ended
        .stderr
        .lines()
        .filter(|line| line.starts_with("error:"));
    let error = error.collect::<String>();
    for word in words {
        ensure!(error.contains(word), "{word:?} is not in: {}", ended.stderr);
    }
    Ok(())
}

#[test]
fn tls_scram_and_rights_admit_and_refuse() -> Result<()> {
    let (folder, out) = place()?;
    let secured = Secured::up(folder.path())?;
    let with = |mut command: Command, settings: &Path| {
        command.arg("-c").arg(settings);
        command
    };
    let list = |settings: &Path| with(vintage(["topics", "list", "--output", "json"]), settings);
    let run_in = |out: &Path, settings: &Path| -> Result<Command> {
        Ok(with(digits(folder.path(), out)?, settings))
    };
    let scram = |user, trusted| secured.settings("SCRAM-SHA-512", user, trusted);

    let trainer = scram("trainer", "ca.pem")?;
    let trained = run_with_password(run_in(&out, &trainer)?, PASSWORD)?.json()?;
    ensure!(trained["finished"] == true, "{trained}");
    ensure!(leaks(&out)? == Vec::<PathBuf>::new(), "{:?}", leaks(&out)?);
    let recorded = fs::read_to_string(out.join("config.toml"))?;
    ensure!(recorded.contains("env:KAFKA_PASSWORD"), "{recorded}");
    let shown = run_with_password(with(vintage(["config", "show"]), &trainer), PASSWORD)?;
    ensure!(
        shown.stdout.contains("env:KAFKA_PASSWORD"),
        "{}",
        shown.stdout
    );

    let plain = secured.settings("PLAIN", "plain", "ca.pem")?;
    let listed = run_with_password(list(&plain), PLAIN_PASSWORD)?.json()?;
    ensure!(listed[0]["exists"] == true, "{listed}");

    // Every role's client, and the one that describes topics, gets a token of its own.
    let tokens = Served::start("tokens.py", ["learners", "oauth"], PASSWORD)?;
    let oauth = secured.oauth_settings("learners", tokens.said())?;
    let mut by_token = run_in(&folder.path().join("token"), &oauth)?;
    by_token.args(["--set", "run=token"]);
    let trained = run_with_password(by_token, PASSWORD)?.json()?;
    ensure!(trained["finished"] == true, "{trained}");
    let wrong = run_with_password(list(&oauth), "guessed")?;
    refused(&wrong, 2, &["refused the connection", "OAUTHBEARER"])?;

    let wrong = run_with_password(list(&trainer), "guessed")?;
    refused(&wrong, 2, &["refused the connection", "uthentication"])?;
    let unset = run(list(&trainer))?;
    refused(&unset, 2, &["broker_options.sasl.password", VARIABLE])?;
    let untrusted = run_with_password(list(&scram("trainer", "other.pem")?), PASSWORD)?;
    refused(&untrusted, 2, &["refused the connection", "certificate"])?;
    // A user without the right to describe topics sees that, and continues.
    let apply = with(vintage(["topics", "apply"]), &scram("blind", "ca.pem")?);
    let unseen = run_with_password(apply, PASSWORD)?;
    ensure!(unseen.status.success(), "{}", unseen.stderr);
    let may_not = "may not read its settings";
    ensure!(unseen.stderr.contains(may_not), "{}", unseen.stderr);
    ensure!(
        unseen.stderr.contains("DescribeConfigs"),
        "{}",
        unseen.stderr
    );
    let stranger = run_with_password(list(&scram("stranger", "ca.pem")?), PASSWORD)?;
    let denied = [
        "asking for topic vintage.run.rollouts.v1",
        "authorization failed",
    ];
    refused(&stranger, 2, &denied)?;
    let mut reading = run_in(&folder.path().join("second"), &scram("reader", "ca.pem")?)?;
    reading.args(["--set", "run=second"]);
    let denied = [
        "publishing to topic vintage.second.",
        "authorization failed",
    ];
    // A missing right is the user's fault, whichever role meets it.
    refused(&run_with_password(reading, PASSWORD)?, 2, &denied)
}
