use std::collections::BTreeMap;

use super::{ChatTemplate, Messages};

const MESSAGES: &str = r#"[{"role": "user", "content": "Hello world"},
    {"role": "assistant", "content": " hi \n"}]"#;

fn template(source: &str) -> crate::Result<ChatTemplate> {
    let tokens = BTreeMap::from([("bos_token".to_owned(), "<s>".to_owned())]);
    ChatTemplate::new(source, tokens)
}

fn render(source: &str) -> String {
    let messages = Messages::from_json(MESSAGES).unwrap();
    template(source).unwrap().render(&messages, true).unwrap()
}

/// Expected texts are those of Jinja2 3.1 with the settings, filters and extensions of transformers
/// 5.
#[test]
fn templates_render_as_jinja2_renders_them() {
    let cases = [
        (
            "{% for m in messages %}\n    {% if m.role == 'user' %}\nU: {{ m.content }}\n    \
             {% else %}\nA: {{ m['content'] }}\n    {% endif %}\n{% endfor %}\n\
             {% if add_generation_prompt %}A:{% endif %}\n",
            "U: Hello world\nA:  hi \n\nA:",
        ),
        (
            "{%- set ns = namespace(n=0) -%}\n{%- for m in messages -%}\n\
             {%- set ns.n = ns.n + 1 -%}\n{{ ns.n ~ ':' ~ m.content.strip().upper() }}\
             {{ '|' if not loop.last }}\n{%- endfor %}\
             {{ messages[0].content.split(' ')[-1].lstrip('w') }} \
             {{ messages[-1].get('name', 'none') }} {{ messages[::-1][0].role.startswith('a') }} \
             {{ messages[0].content.replace('o', '0')|length }}",
            "1:HELLO WORLD|2:HIorld none True 11",
        ),
        (
            "{{ messages[0] | tojson }} {{ messages[0] | tojson(indent=2) }} \
             {{ [1, 2.5, true, none, \"<é&'\"] | tojson }}\
             {{ {'a': []} | tojson(separators=(',', ':')) }}",
            "{\"role\": \"user\", \"content\": \"Hello world\"} {\n  \"role\": \"user\",\n  \
             \"content\": \"Hello world\"\n} [1, 2.5, true, null, \"<é&'\"]{\"a\":[]}",
        ),
        (
            "{{ true }} {{ none }} {{ messages[0].missing }}|\
             {{ messages[0].items() | list | length }} {{ '%s-%s' | format('a', 2) }} \
             {{ ['x','y'] | join(', ') }}",
            "True None |2 a-2 x, y",
        ),
        (
            "{% for m in messages %}{% if m.role == 'assistant' %}\n  {%- generation -%}\n  \
             [{{ m.content }}]\n  {%- endgeneration %}\n{% else %}{% generation %}\n\
             {{ m.content }}\n{% endgeneration %}\n{% endif %}{% endfor %}",
            "Hello world\n[ hi \n]",
        ),
        (
            "{% for m in messages %}{% if loop.index0 == 1 %}{% break %}{% endif %}\
             {{ m.content }}{% endfor %}{% macro p(x) %}<{{ x }}>{% endmacro %}\
             {{ p(bos_token) }}{% if tools %}T{% else %}-{% endif %}\
             {{ messages | map(attribute='role') | list | tojson }}\
             {{ messages | selectattr('role', 'equalto', 'user') | list | length }}\
             {{ documents is none }}",
            "Hello world<<s>>-[\"user\", \"assistant\"]1True",
        ),
        (
            "{% if system is defined %}S{% endif %}{% if messages[0]['role'] == 'system' %}x\
             {% endif %}{{ messages[0].content is string }}\
             {{ messages is iterable and messages is not mapping }}\
             {{ enable_thinking | default(true) }}{{ 'a' in 'cat' }}{{ 7 // 2 }}{{ -7 % 3 }}\
             {{ 'ab' * 2 }}{{ (messages|length) - 1 }}{{ messages[0].content[:3] }}\
             {{ messages[0].content[-1] }}",
            "TrueTrueTrueTrue32abab1Held",
        ),
    ];
    for (source, expected) in cases {
        assert_eq!(render(source), expected, "{source}");
    }
}

#[test]
fn the_date_is_a_date() {
    let date = render("{{ strftime_now('%d %b %Y') }}");
    let parts: Vec<_> = date.split(' ').collect();
    assert_eq!(parts.len(), 3, "{date}");
    assert!(
        parts[0]
            .parse::<u8>()
            .is_ok_and(|day| (1..=31).contains(&day)),
        "{date}"
    );
    assert!(
        parts[2].parse::<u16>().is_ok_and(|year| year >= 2025),
        "{date}"
    );
}

/// Returns the template of a folder with these files.
fn of_folder(config: Option<&[u8]>, jinja: Option<&[u8]>) -> crate::Result<Option<ChatTemplate>> {
    let file = |name: &str| (name == "tokenizer_config.json").then_some(config)?;
    let special = crate::tokenizer::SpecialTokens::of_folder(file)?;
    ChatTemplate::of_folder(config, jinja, special.spellings())
}

#[test]
fn a_folder_s_template_is_the_file_or_the_config_s_default() {
    let config = |template: &str| {
        let bos = r#""bos_token": {"content": "<b>", "lstrip": false}"#;
        format!(r#"{{"chat_template": {template}, {bos}}}"#)
    };
    let rendered = |config: &str, jinja: Option<&str>| {
        let chat = of_folder(Some(config.as_bytes()), jinja.map(str::as_bytes));
        let messages = Messages::from_json(MESSAGES).unwrap();
        let chat = chat.unwrap();
        chat.map(|chat| chat.render(&messages, false).unwrap())
    };
    let one = config(r#""{{ bos_token }}one""#);
    assert_eq!(rendered(&one, None).as_deref(), Some("<b>one"));
    assert_eq!(
        rendered(&one, Some("{{ bos_token }}file")).as_deref(),
        Some("<b>file")
    );
    let several =
        r#"[{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]"#;
    assert_eq!(rendered(&config(several), None).as_deref(), Some("d"));
    let both = of_folder(Some(config(several).as_bytes()), None)
        .unwrap()
        .unwrap();
    let with_tools = r#"{"messages": [{"role": "user"}], "tools": [{"name": "f"}]}"#;
    let with_tools = Messages::from_json(with_tools).unwrap();
    assert_eq!(both.render(&with_tools, true).unwrap(), "t");
    assert_eq!(rendered(&config("null"), None), None);
    assert!(of_folder(None, None).unwrap().is_none());
    for wrong in [config("7"), config("[]"), "{".to_owned()] {
        let message = of_folder(Some(wrong.as_bytes()), None).unwrap_err();
        let message = message.to_string();
        let named = ["chat_template", "tokenizer_config.json"];
        assert!(named.iter().any(|name| message.contains(name)), "{message}");
    }
}

#[test]
fn a_template_that_fails_says_why() {
    let message = template("{% for m in messages %}").unwrap_err().to_string();
    assert!(message.contains("compiling the chat template"), "{message}");
    assert!(
        message.contains("line 1") || message.contains(":1"),
        "{message}"
    );
    for (source, why) in [
        ("\n{{ messages[0 }}", "chat template:2"),
        ("{{ 1", "chat template:1"),
        ("{{ 'a }}", "chat template:1"),
        ("{{ \"\\N{BULLET}\" }}", "names a character"),
        ("{% include 'x' %}", "include"),
    ] {
        let message = template(source).unwrap_err().to_string();
        assert!(message.contains(why), "{source}: {message}");
    }
    let deep = format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000));
    assert!(template(&deep).is_err());
    let fails = |source: &str, messages: &str| {
        let messages = Messages::from_json(messages).unwrap();
        template(source)
            .unwrap()
            .render(&messages, true)
            .unwrap_err()
            .to_string()
    };
    let raised = "{{ raise_exception('roles must alternate') }}";
    assert!(fails(raised, MESSAGES).contains("roles must alternate"));
    assert!(fails("{{ messages[0].content.mend() }}", MESSAGES).contains("mend"));
    for (chat, why) in [
        ("[", "EOF"),
        ("7", "no list"),
        ("[]", "no messages"),
        ("[7]", "objects"),
        (r#"{"role": "user"}"#, "has no \"role\""),
        (r#"{"messages": [{}], "tools": {}}"#, "tools are no list"),
        (
            r#"{"messages": [{}], "chat_template_kwargs": {"tokenize": 1}}"#,
            "\"tokenize\" is nothing",
        ),
        (
            r#"[{"role": "user", "content": 12345678901234567890123}]"#,
            "lose digits",
        ),
    ] {
        let message = Messages::from_json(chat).unwrap_err().to_string();
        assert!(message.contains(why), "{chat}: {message}");
    }
}
