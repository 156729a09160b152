//! Templates and vocabulary files that mean harm, and thousands of damaged ones.

use super::*;

const MODEL: &[u8] =
    include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/tokenizers/sentencepiece.model"));
const TIKTOKEN: &[u8] =
    include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/tokenizers/tiktoken.model"));
const CHATS: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/tokenizers/chat.json"));

fn render(source: &str) -> Result<String> {
    let config = TokenizerConfig { bos_token: Some("<s>".into()), ..TokenizerConfig::default() };
    let messages = [Message::new("user", "Hi"), Message::new("assistant", "Hello")];
    // 23 July 2024, 9:05:07.
    ChatTemplate::new("tokenizer_config.json", source, &config, 1_721_725_507)?.render(&messages, true)
}

/// A list that holds itself twice, sixty times over: 2^60 items, were it ever written out.
const NESTED: &str = "{% set n = namespace(a=[1], b=[1]) %}{% for i in range(60) %}{% set n.a = [n.a, n.a] %}{% set n.b = [n.b, n.b] %}{% endfor %}";

#[test]
fn templates_without_an_end_are_stopped() {
    let nested = |rest: &str| format!("{NESTED}{rest}");
    let endless = [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}".to_owned(),
        "{% for i in range(99999) %}{{ 'long ' * 200 }}{% endfor %}".to_owned(),
        "{% set n = namespace(a='abcdefgh') %}{% for i in range(60) %}{% set n.a = n.a ~ n.a %}{% endfor %}".to_owned(),
        "{% set n = namespace(a='abcdefgh') %}{% for i in range(60) %}{% set n.a = n.a + n.a %}{% endfor %}".to_owned(),
        "{% set n = namespace(a=[1]) %}{% for i in range(60) %}{% set n.a = n.a + n.a %}{% endfor %}{{ n.a|length }}{{ n.a }}"
            .to_owned(),
        format!("{{% set a = [1] %}}{}{{{{ a|length }}}}", "{% set a = a + a %}".repeat(60)),
        "{% set n = namespace(a='ab') %}{% for i in range(60) %}{% set c %}{{ n.a }}{{ n.a }}{% endset %}{% set n.a = c %}{% endfor %}"
            .to_owned(),
        "{% set n = namespace(a='aa') %}{% for i in range(60) %}{% set n.a = n.a.replace('a', 'aa') %}{% endfor %}".to_owned(),
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) }}".to_owned(),
        nested("{{ n.a }}"),
        nested("{{ n.a ~ '' }}"),
        nested("{{ n.a|string|length }}"),
        nested("{{ n.a|tojson }}"),
        nested("{{ n.a|tojson(indent=4) }}"),
        nested("{{ n.a|join }}"),
        nested("{{ n.a == n.b }}"),
        nested("{{ [n.a, n.b]|sort }}"),
        "{% set n = namespace(a={'x': 1}) %}{% for i in range(60) %}{% set n.a = {'x': n.a, 'y': n.a} %}{% endfor %}{{ n.a }}".to_owned(),
        "{% set n = namespace(a=(1, 2)) %}{% for i in range(60) %}{% set n.a = (n.a, n.a) %}{% endfor %}{{ n.a }}".to_owned(),
        "{% set n = namespace(a=[1]) %}{% for i in range(60) %}{% set n.a = (n.a + n.a)|batch(2)|list %}{% endfor %}{{ n.a }}".to_owned(),
    ];
    for source in endless {
        let error = render(&source).expect_err(&source).to_string();
        assert!(error.contains("does not come to an end") || error.contains("recursion"), "{source}: {error}");
    }
}

#[test]
fn templates_reach_nothing_outside() {
    for (source, reason) in [
        ("{% include '/etc/passwd' %}", "unknown statement include"),
        ("{% import 'x' as y %}", "unknown statement import"),
        ("{% extends 'x' %}", "unknown statement extends"),
        ("{{ ''.__class__.__mro__ }}", "undefined"),
        ("{{ self.x() }}", "undefined"),
        ("{{ open('/etc/passwd') }}", "open is unknown"),
        ("{{ messages.append(1) }}", "no method named append"),
        ("{{ raise_exception('No tools, ' + messages[0].role) }}", "No tools, user"),
        ("{{ strftime_now('%Q') }}", "unknown part"),
        ("{% if %}", "the chat template, line 1"),
        ("{{ 'a' * 99999999999 }}", ""),
        ("{{ 1 // 0 }}", ""),
        ("{{ 1 % 0 }}", ""),
        ("{{ 10 ** 999999 }}", ""),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", ""),
        ("{{ '%9999999999d' % 1 }}", ""),
        ("{{ '%9999999999d'|format(1) }}", ""),
        ("{{ '{:>9999999999}'.format(1) }}", ""),
        ("{{ range(999999999)|list }}", ""),
        ("{{ [1]|chain([2]) }}", "chain"),
        ("{{ 'a\nb'|indent(9999999999) }}", ""),
    ] {
        let error = render(source).expect_err(source);
        assert!(error.to_string().contains(reason), "{source}: {error}");
        assert!(!error.advice().is_empty());
    }
    let long = " ".repeat(300 << 10);
    assert!(render(&long).expect_err("too long").to_string().contains("of 300 KiB; at most"));
}

/// As small as wasm's.
#[test]
fn templates_leave_the_stack_alone() {
    let deep = || {
        let shapes = [
            ("(", ")"),
            ("[", "]"),
            ("not ", ""),
            ("-", ""),
            ("{'a':", "}"),
            ("1 if 1 else ", ""),
            ("", "+1"),
            ("", "~1"),
            ("", ".a"),
            ("", "|d"),
            ("", "[0]"),
            ("", "()"),
            ("", " is defined"),
            ("", " and 1"),
            ("", " if 1"),
            ("", "**1"),
            ("f(", ")"),
        ];
        for count in [140, 300, 900, 20_000] {
            for (open, close) in shapes {
                drop(render(&format!("{{{{ {}1{} }}}}", open.repeat(count), close.repeat(count))));
            }
            let nested = [
                "{% if 1 %}|{% endif %}",
                "{% for i in [1] %}|{% endfor %}",
                "{% if 0 %}{% else %}|{% endif %}",
                "{% set a %}|{% endset %}",
                "{% macro f() %}|{% endmacro %}",
                "{% filter upper %}|{% endfilter %}",
            ];
            for (open, close) in nested.iter().filter_map(|tags| tags.split_once('|')) {
                drop(render(&(open.repeat(count) + &close.repeat(count))));
            }
            drop(render(&format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(count))));
        }
    };
    std::thread::Builder::new().stack_size(1 << 20).spawn(deep).expect("a thread").join().expect("no panic");
}

#[test]
fn templates_have_what_hugging_face_gives_them() {
    for (source, expected) in [
        (
            "{{ strftime_now('%d %b %Y|%A %B %-d, %H:%M:%S|%I %p %j %y|%F') }}",
            "23 Jul 2024|Tuesday July 23, 09:05:07|09 AM 205 24|2024-07-23",
        ),
        (
            "{% generation %}{{ messages[1].content }}{% endgeneration %}|{%- generation -%} a {%- endgeneration -%}",
            "Hello|a",
        ),
        ("{% for m in messages %}{% if loop.index == 2 %}{% break %}{% endif %}{{ m.content }}{% endfor %}", "Hi"),
        ("{{ {'b': '<é>', 'a': [1, 2.0, false]} | tojson }}", r#"{"b": "<é>", "a": [1, 2.0, false]}"#),
        (
            "{{ {'b': [], 'a': [1, {'c': none}]} | tojson(indent=2) }}",
            "{\n  \"b\": [],\n  \"a\": [\n    1,\n    {\n      \"c\": null\n    }\n  ]\n}",
        ),
        ("{{ bos_token }}{{ eos_token }}{{ add_generation_prompt }}", "<s>True"),
        ("a\n{% if true %}\n  b\n  {% endif %}\nc\n", "a\n  b\nc"),
    ] {
        assert_eq!(render(source).expect(source), expected, "{source}");
    }
    let mut days = Vec::new();
    for (seconds, day) in [
        (0, "1970-01-01 001"),
        (951_782_400, "2000-02-29 060"),
        (4_107_542_399, "2100-02-28 059"),
        (u64::MAX, "9999-12-31 365"),
    ] {
        days.push(clock::strftime(seconds, "%F %j").expect("a date"));
        assert_eq!(days.last().map(String::as_str), Some(day));
    }
}

#[test]
fn named_templates_are_found() {
    let config = |json: &str| TokenizerConfig::from_json_bytes(json.as_bytes());
    let several =
        config(r#"{"chat_template": [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}]}"#);
    let several = several.expect("named ones");
    assert_eq!(several.chat_template(None).expect("default"), Some("a"));
    assert_eq!(several.chat_template(Some("tool_use")).expect("named"), Some("b"));
    let error = several.chat_template(Some("rag")).expect_err("missing").to_string();
    assert_eq!(error, "tokenizer_config.json: there is no chat template `rag`; there are default, tool_use");
    assert_eq!(config("{}").expect("none").chat_template(None).expect("none"), None);
    let token = config(r#"{"bos_token": {"content": "<s>", "lstrip": false}, "legacy": null}"#).expect("a token");
    assert_eq!(token.bos_token.as_deref(), Some("<s>"));
    for bad in [
        "[]",
        "{",
        r#"{"bos_token": 1}"#,
        r#"{"legacy": 1}"#,
        r#"{"chat_template": {}}"#,
        r#"{"chat_template": [{}]}"#,
        r#"{"added_tokens_decoder": {"x": {}}}"#,
    ] {
        assert!(config(bad).is_err(), "{bad}");
    }
}

fn random(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed;
    move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below.max(1)
    }
}

/// A few bytes changed, a part cut out, doubled or put elsewhere.
fn damage(good: &[u8], random: &mut impl FnMut(usize) -> usize) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for _ in 0..=random(4) {
        let at = random(bytes.len());
        let end = (at + random(40)).min(bytes.len());
        match random(5) {
            0 if !bytes.is_empty() => bytes[at] = random(256) as u8,
            1 => bytes.truncate(at),
            2 => drop(bytes.drain(at..end)),
            3 => {
                let part = bytes[at..end].to_vec();
                let to = random(bytes.len());
                bytes.splice(to..to, part);
            }
            _ => bytes.insert(at, [0, 0x0A, 0x7F, 0x80, 0xFF, b' ', b'\n', b'=', b'%', b'{', b'}'][random(11)]),
        }
    }
    bytes
}

#[test]
fn damaged_tokenizer_models_do_not_panic() {
    let mut random = random(11);
    let config = TokenizerConfig::default();
    let (mut read, mut refused) = (0, 0);
    for round in 0..1500 {
        let bytes = damage(if round % 2 == 0 { MODEL } else { TIKTOKEN }, &mut random);
        let made = tokenizer_model_json("tokenizer.model", &bytes, &config)
            .and_then(|json| Tokenizer::from_json_bytes("tokenizer.model", &json, SpecialIds::default()));
        match made {
            Ok(tokenizer) => {
                drop(tokenizer.encode("The dog ▁ é 👍 12\n", Some(20)));
                read += 1;
            }
            Err(error) => {
                assert!(!error.to_string().contains("cannot handle"), "{error}");
                refused += 1;
            }
        }
    }
    assert!(read > 20 && refused > 500, "{read} read, {refused} refused");
}

#[test]
fn tokenizer_models_that_ask_for_more_are_refused_by_name() {
    // A trainer's and a normalizer's part at the end go over those before, as protocol buffers merge them.
    let with = |tail: &[u8]| [MODEL, tail].concat();
    for (tail, reason) in [
        (&[0x12, 2, 0x18, 1][..], "model_type is unigram; LLaMA's tokenizers are bpe"),
        (&[0x12, 2, 0x18, 4], "model_type is char"),
        (&[0x12, 3, 0xC0, 1, 1], "treat_whitespace_as_suffix"),
        (&[0x1A, 2, 0x20, 1], "asks for remove_extra_whitespaces"),
        (&[0x1A, 2, 0x28, 0], "asks for escape_whitespaces: false"),
        (&[0x1A, 3, 0x12, 1, 65], "its normalizer `identity` rewrites characters"),
        (&[0x0A, 5, 0x0A, 3, b'T', b'h', b'e', 0x0A, 5, 0x0A, 3, b'T', b'h', b'e'], "is there twice"),
        (&[0x0A, 3, 0x0A, 1, 0xFF], "piece 700 is not UTF-8"),
        (&[0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1], "it breaks off"),
        (&[0x0B], "it breaks off"),
    ] {
        let error =
            tokenizer_model_json("tokenizer.model", &with(tail), &TokenizerConfig::default()).expect_err(reason);
        assert!(error.to_string().contains(reason), "{reason}: {error}");
    }
    for (text, reason) in [
        ("IQ== 0\nIQ== 1\n", "token `!` is there twice"),
        ("IQ== 0\nIg== 0\n", "rank 0 is there twice, again in line 2"),
        ("IQ== 0\nIg== 7\n", "line 2 has the rank 7, of 2 tokens"),
        ("IQ== 0\nIg= 1\n", "line 2 has no token and rank"),
        ("IQ== 0\n", "no token for the byte 0x00"),
        ("", "it has no pieces"),
        ("hello", "not a SentencePiece model"),
    ] {
        let error =
            tokenizer_model_json("tokenizer.model", text.as_bytes(), &TokenizerConfig::default()).expect_err(reason);
        assert!(error.to_string().contains(reason), "{reason}: {error}");
    }
}

#[test]
fn damaged_templates_do_not_panic() {
    let json: serde_json::Value = serde_json::from_slice(CHATS).expect("JSON");
    let templates: Vec<&str> =
        json["templates"].as_object().expect("templates").values().filter_map(|t| t.as_str()).collect();
    let mut random = random(13);
    let mut rendered = 0;
    for round in 0..4000 {
        let bytes = damage(templates[round % templates.len()].as_bytes(), &mut random);
        rendered += usize::from(render(&String::from_utf8_lossy(&bytes)).is_ok());
    }
    assert!((200..3900).contains(&rendered), "{rendered} of 4000 rendered");
}
