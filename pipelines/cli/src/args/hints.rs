//! Test that every flag, verb and setting which a text of the program or a page names exists.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};
use vintage_config::{Key, Layers, Resolved};
use vintage_settings::RunConfig;

use clap::{Command, CommandFactory as _};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::Cli;

/// Flags of other programs, which messages of ours tell people to run.
const OF_OTHERS: [&str; 21] = [
    "--alter",                  // kafka-configs, kafka-topics
    "--add-config",             // kafka-configs
    "--bootstrap-server",       // kafka-configs, kafka-topics
    "--entity-type",            // kafka-configs
    "--entity-name",            // kafka-configs
    "--topic",                  // kafka-topics
    "--partitions",             // kafka-topics
    "--ignore-formatted",       // kafka-storage
    "--gpus",                   // docker
    "--release",                // cargo
    "--features",               // cargo
    "--revision",               // hf download
    "--logprobs-mode",          // vllm serve
    "--max-num-batched-tokens", // vllm serve
    "--generation-config",      // vllm serve
    "--enable-scale-out",       // vllm serve
    "--enable-lora",            // vllm serve
    "--max-lora-rank",          // vllm serve
    "--eval",                   // node, perl
    "--print",                  // node
    "--help",                   // clap's own
];
/// Names that are skipped: build output, tests, this file, and the log of earlier releases.
const ASIDE: [&str; 6] = [
    "target",
    "tests",
    "examples",
    "tests.rs",
    "hints.rs",
    "CHANGELOG.md",
];
/// Last parts of dotted names that are files, tensors or Kafka options and not settings.
const NO_SETTINGS: [&str; 12] = [
    "ms",
    "json",
    "jsonl",
    "toml",
    "rs",
    "safetensors",
    "delta",
    "parquet",
    "html",
    "weight",
    "py",
    "md",
];
/// Functions whose string arguments name points in the code.
const OF_FAULTS: [&str; 3] = ["point", "failure", "mistake"];

/// Text of the program or of a page, and its source.
struct Text {
    place: String,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Collects the files below `folder` with an extension, except those in [`ASIDE`].
fn files(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    let Ok(entries) = folder.read_dir() else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_aside = ASIDE.contains(&&*name);
        if is_aside || name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
}

/// Returns every string of the program's source, without tests and documentation.
fn of_source() -> Vec<Text> {
    let mut sources = Vec::new();
    for part in ["schemas", "infra", "producers", "consumers", "pipelines"] {
        files(&root().join(part), "rs", &mut sources);
    }
    let mut texts = Vec::new();
    for path in sources {
        let source = fs::read_to_string(&path).expect("a source file");
        let tokens = source.parse().expect("it was compiled");
        let place = path.display().to_string();
        strings(tokens, &mut |text| {
            texts.push(Text {
                place: place.clone(),
                text,
            });
        });
    }
    assert!(texts.len() > 1000, "only {} strings found", texts.len());
    texts
}

fn strings(tokens: TokenStream, found: &mut impl FnMut(String)) {
    let tokens: Vec<_> = tokens.into_iter().collect();
    let is_called = |at: usize, names: &[&str]| match at.checked_sub(1).map(|at| &tokens[at]) {
        Some(TokenTree::Ident(name)) => names.iter().any(|known| name == known),
        _ => false,
    };
    let mut of_tests = false;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket => {
                let text = group.stream().to_string();
                of_tests |= text.replace(' ', "") == "cfg(test)";
                if !text.starts_with("doc") {
                    strings(group.stream(), found);
                }
            }
            TokenTree::Group(group) => {
                let is_body = group.delimiter() == Delimiter::Brace;
                if !(of_tests && is_body || is_called(at, &OF_FAULTS)) {
                    strings(group.stream(), found);
                }
                of_tests &= !is_body;
            }
            TokenTree::Literal(literal) => {
                held(&literal.to_string()).into_iter().for_each(&mut *found);
            }
            TokenTree::Ident(_) | TokenTree::Punct(_) => {}
        }
    }
}

/// Returns the text of a string literal; `None` for other literals.
fn held(literal: &str) -> Option<String> {
    let (from, to) = (literal.find('"')?, literal.rfind('"')?);
    // A source line that ends in a backslash continues on the next.
    let mut lines = literal.get(from + 1..to)?.split("\\\n");
    let first = lines.next()?.to_owned();
    let text = lines.fold(first, |text, line| text + line.trim_start());
    Some(text.replace("\\n", "\n"))
}

/// Returns the output of `--help` of every verb.
fn of_help() -> Vec<Text> {
    fn walk(command: &Command, found: &mut Vec<Text>) {
        found.push(Text {
            place: format!("help of {}", command.get_name()),
            text: command.clone().render_long_help().to_string(),
        });
        for verb in command.get_subcommands() {
            walk(verb, found);
        }
    }
    let mut command = Cli::command();
    command.build();
    let mut found = Vec::new();
    walk(&command, &mut found);
    found
}

/// Returns the code in the repository's pages, and the presets.
fn of_pages() -> Vec<Text> {
    let mut pages = Vec::new();
    files(&root(), "md", &mut pages);
    let mut texts: Vec<_> = pages
        .iter()
        .map(|path| Text {
            place: path.display().to_string(),
            text: code(&fs::read_to_string(path).expect("a page")),
        })
        .collect();
    let mut presets = Vec::new();
    files(&root().join("pipelines/presets"), "toml", &mut presets);
    texts.extend(presets.iter().map(|path| Text {
        place: path.display().to_string(),
        text: fs::read_to_string(path).expect("a preset"),
    }));
    texts
}

/// Returns the code blocks and code spans of a page, one per line.
fn code(page: &str) -> String {
    let mut text = String::new();
    for (at, part) in page.split("```").enumerate() {
        let is_block = at % 2 == 1;
        let spans = part.split('`').enumerate();
        let kept: Vec<_> = spans
            .filter(|(at, _)| is_block || at % 2 == 1)
            // A span may be broken over two lines.
            .map(|(_, span)| {
                if is_block {
                    span.to_owned()
                } else {
                    span.replace('\n', " ")
                }
            })
            .collect();
        text += &kept.join("\n");
        text.push('\n');
    }
    text.replace("\\\n", " ")
}

/// Returns the words that begin with `--`, as they would be typed.
fn flags(text: &str) -> impl Iterator<Item = &str> {
    let starts = text.match_indices("--");
    starts.filter_map(move |(at, _)| {
        let before = text[..at].chars().next_back();
        let is_word = before.is_some_and(|c| c.is_alphanumeric() || c == '-' || c == '_');
        let of_css = text[..at].ends_with("var(");
        let rest = &text[at + 2..];
        let end = rest
            .find(|c: char| !(c.is_ascii_lowercase() || c == '-' || c.is_ascii_digit()))
            .unwrap_or(rest.len());
        let flag = text[at..at + 2 + end].trim_end_matches('-');
        let begins = rest.starts_with(|c: char| c.is_ascii_lowercase());
        (!is_word && !of_css && begins).then_some(flag)
    })
}

/// Returns the long names of a command's flags, global ones included.
fn known(command: &Command) -> BTreeSet<String> {
    let long = command.get_arguments().flat_map(|argument| {
        let aliases = argument.get_all_aliases().unwrap_or_default();
        let names = argument.get_long().into_iter().chain(aliases);
        names.map(|name| format!("--{name}")).collect::<Vec<_>>()
    });
    long.collect()
}

fn all_known(command: &Command) -> BTreeSet<String> {
    let own = known(command);
    let of_verbs = command.get_subcommands().map(all_known);
    of_verbs.fold(own, |all, more| all.union(&more).cloned().collect())
}

/// Returns the errors in the `vintage` commands that a text tells people to run.
fn wrong_commands(text: &str, program: &Command) -> Vec<String> {
    let mut wrong = Vec::new();
    for (at, name) in text.match_indices("vintage ") {
        let is_typed = text[..at].is_empty() || text[..at].ends_with(['`', '\n', ' ', '(']);
        let typed = &text[at + name.len()..];
        let typed = &typed[..typed
            .find(['`', '\n', '|', ';', ')'])
            .unwrap_or(typed.len())];
        let mut words = typed.split_whitespace().peekable();
        let quoted = text[..at].ends_with('`');
        let mut command = program;
        let mut path = String::from("vintage");
        while let Some(verb) = words.peek().and_then(|word| command.find_subcommand(word)) {
            command = verb;
            path = format!("{path} {}", verb.get_name());
            words.next();
        }
        if std::ptr::eq(command, program) {
            let names_a_verb = typed.starts_with(|c: char| c.is_ascii_lowercase());
            if quoted && names_a_verb {
                wrong.push(format!("no such verb: vintage {typed}"));
            }
            continue;
        }
        if is_typed {
            let known = known(command);
            let flags = words.flat_map(|word| flags(word).take(1));
            wrong.extend(
                flags
                    .filter(|flag| !known.contains(*flag) && *flag != "--help")
                    .map(|flag| format!("{path} has no {flag}")),
            );
        }
    }
    wrong
}

/// Returns the dotted names in a text that begin with a section of the settings but are not
/// settings.
fn wrong_settings(text: &str, settings: &Resolved<RunConfig>) -> Vec<String> {
    static SECTIONS: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
        let all = Layers::new().resolve::<RunConfig>().expect("the defaults");
        let all = all.to_json(&Key::root());
        let names = all.as_object().expect("an object").keys();
        let firsts = names.map(|name| name.split('.').next().unwrap_or_default().to_owned());
        let maps = ["broker_options", "store_options"].map(str::to_owned);
        firsts.chain(maps).collect()
    });
    let in_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let words = text.split(|c: char| !(in_name(c) || c == '/' || c == '-'));
    words
        .filter(|word| word.contains('.') && word.chars().all(in_name))
        .map(|word| word.trim_matches('.'))
        .filter(|word| {
            let mut parts = word.split('.');
            let first = parts.next().unwrap_or_default();
            let last = parts.next_back().unwrap_or_default();
            SECTIONS.contains(first)
                && !last.is_empty()
                && !NO_SETTINGS.contains(&last)
                && !first.ends_with("_options")
        })
        .filter(|word| !Key::parse(word).is_some_and(|key| settings.has(&key)))
        .map(|word| format!("no such setting: {word}"))
        .collect()
}

#[test]
fn every_flag_verb_and_setting_that_a_text_names_exists() {
    let mut program = Cli::command();
    program.build();
    let settings = Layers::new().resolve::<RunConfig>().expect("the defaults");
    let any = all_known(&program);
    let mut wrong = Vec::new();
    let own: Vec<_> = of_source().into_iter().chain(of_help()).collect();
    for Text { place, text } in &own {
        let unknown = flags(text).filter(|flag| !any.contains(*flag) && !OF_OTHERS.contains(flag));
        wrong.extend(unknown.map(|flag| format!("{place}: no verb has {flag}")));
        // Tensors have the names of their model family, and fault points those of their places.
        if !(place.contains("/infra/model/") || place.contains("/infra/faults/")) {
            let found = wrong_settings(text, &settings);
            wrong.extend(found.into_iter().map(|found| format!("{place}: {found}")));
        }
    }
    for Text { place, text } in own.iter().chain(&of_pages()) {
        let found = wrong_commands(text, &program);
        wrong.extend(found.into_iter().map(|found| format!("{place}: {found}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_does_not_exist_is_found() {
    let mut program = Cli::command();
    program.build();
    let settings = Layers::new().resolve::<RunConfig>().expect("the defaults");
    let wrong = |text: &str| {
        let mut wrong = wrong_commands(text, &program);
        wrong.extend(wrong_settings(text, &settings));
        wrong
    };
    for right in [
        "start `vintage learn --name NAME --start latest` beside it",
        "set learner.optimizer.lr, or see weights/model.safetensors",
        "`vintage topics apply --dry-run`",
    ] {
        assert_eq!(wrong(right), Vec::<String>::new(), "{right}");
    }
    for bad in [
        "`vintage replay --archive DIR`",
        "`vintage repair runs/a`",
        "raise learner.lr",
        "beyond what algorithm.m2_threshold allows",
    ] {
        assert_eq!(wrong(bad).len(), 1, "{bad}: {:?}", wrong(bad));
    }
}
