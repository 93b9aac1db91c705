//! `docs/config.md` and the parser tell the same story: the same keys, examples that are accepted,
//! defaults that are the defaults.
//!
//! `LVSD_BLESS=1 cargo test -p lvsd --test config_docs` writes the tables of the page anew.

use lvsd::config::schema::{Key, SECTIONS, Section};
use lvsd::config::{self, Config};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

fn page_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/config.md")
}

fn page() -> String {
    fs::read_to_string(page_path()).expect("docs/config.md is there")
}

/// A section of the page as the schema has it, from its heading to the last row of its table.
fn render(section: &Section) -> String {
    let mut out = format!("## `{}`\n\n{}\n\n", section.header(), section.about);
    out += "| key | value | default | example | meaning |\n|---|---|---|---|---|\n";
    for Key { name, kind, default, example, about } in section.keys {
        let default = literal(default).map_or((*default).to_owned(), |text| format!("`{text}`"));
        out += &format!("| `{name}` | {kind} | {default} | `{example}` | {about} |\n");
    }
    out
}

/// The text when it is a value of TOML and not a description of one.
fn literal(default: &str) -> Option<&str> {
    DeValue::parse(default).is_ok().then_some(default)
}

#[test]
fn the_page_shows_each_section_as_the_schema_has_it() {
    if std::env::var_os("LVSD_BLESS").is_some() {
        bless();
    }
    let page = page();
    for section in SECTIONS {
        let expected = render(section);
        assert!(
            page.contains(&expected),
            "docs/config.md lacks this or has it differently:\n{expected}"
        );
    }
}

/// Replaces each section of the page, up to the blank line behind its table.
fn bless() {
    let mut page = page();
    for section in SECTIONS {
        let heading = format!("## `{}`\n", section.header());
        let new = render(section);
        match page.find(&heading) {
            Some(start) => {
                let table = page[start..].find("\n| key ").map_or(page.len(), |at| start + at);
                let end = page[table + 1..].find("\n\n").map_or(page.len(), |at| table + at + 2);
                page.replace_range(start..end, &new);
            }
            None => page += &format!("\n{new}"),
        }
    }
    fs::write(page_path(), page).expect("writable");
}

#[test]
fn the_page_has_no_section_and_no_key_that_the_parser_lacks() {
    let mut section: Option<&Section> = None;
    for line in page().lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            section = SECTIONS.iter().find(|s| heading == format!("`{}`", s.header()));
            assert!(section.is_some() || !heading.contains('['), "unknown section {heading}");
        }
        let key = line.strip_prefix("| `").and_then(|row| row.split('`').next());
        if let (Some(section), Some(key)) = (section, key) {
            assert!(section.keys.iter().any(|k| k.name == key), "{} {key}", section.header());
        }
    }
}

/// The blocks of the page that are marked as TOML.
fn toml_blocks(page: &str) -> Vec<String> {
    let blocks = page.split("```toml\n").skip(1);
    blocks.filter_map(|rest| rest.split("```").next()).map(str::to_owned).collect()
}

#[test]
fn the_examples_of_the_page_are_accepted_and_the_first_uses_every_key() {
    let page = page();
    let blocks = toml_blocks(&page);
    for block in &blocks {
        let loaded = config::parse("docs/config.md", block).unwrap_or_else(|report| {
            panic!("{}", report.render(false));
        });
        assert!(loaded.report.diagnostics().is_empty(), "{}", loaded.report.render(false));
    }
    let full = DeTable::parse(blocks.first().expect("the page has an example")).expect("valid");
    let mut used = BTreeSet::new();
    collect("", full.get_ref(), &mut used);
    for section in SECTIONS {
        for key in section.keys {
            let path = format!("{}.{}", section.path, key.name);
            assert!(used.contains(&path), "the example lacks {path}");
        }
    }
}

fn collect(path: &str, table: &DeTable<'_>, used: &mut BTreeSet<String>) {
    for (key, value) in table {
        let path = if path.is_empty() {
            key.get_ref().to_string()
        } else {
            format!("{path}.{}", key.get_ref())
        };
        match value.get_ref() {
            DeValue::Table(inner) => collect(&path, inner, used),
            DeValue::Array(items) => {
                for item in items.iter() {
                    if let DeValue::Table(inner) = item.get_ref() {
                        collect(&path, inner, used);
                    }
                }
            }
            _ => {}
        }
        used.insert(path);
    }
}

/// A file in which nearly every section occurs, with one key set to a value or left out.
fn with_key(path: &str, key: &str, value: Option<&str>) -> String {
    // Some keys go with others only.
    let service: &[(&str, &str)] = match (path, key) {
        ("service", "mark") => &[("forwarding", "\"nat\"")],
        ("service", "trust_toa") => &[("address", "\"10.0.0.90:80\""), ("forwarding", "\"nat\"")],
        ("service", "one_packet" | "quic") => {
            &[("address", "\"10.0.0.90:80\""), ("protocol", "\"udp\""), ("forwarding", "\"nat\"")]
        }
        _ => &[("address", "\"10.0.0.90:80\""), ("local_pool", "\"inside\"")],
    };
    let required: &[(&str, &[(&str, &str)])] = &[
        ("director", &[]),
        ("timeouts", &[]),
        ("port", &[("name", "\"lan\""), ("addresses", "[\"10.0.0.1/24\", \"2001:db8:1::1/64\"]")]),
        ("route", &[("to", "\"default\""), ("via", "\"10.0.0.254\"")]),
        ("neighbour", &[("ip", "\"10.0.0.253\""), ("mac", "\"02:00:00:00:00:fd\"")]),
        ("local_pool", &[("name", "\"inside\""), ("addresses", "[\"10.1.0.100\"]")]),
        ("mark", &[("mark", "7")]),
        ("service", service),
        ("service.toa", &[]),
        ("service.timeouts", &[]),
        ("service.server", &[("address", "\"10.1.0.20:80\"")]),
    ];
    let mut text = String::new();
    for (section, keys) in required {
        // Next hops need a port with addresses, which is absent while that key is looked at.
        if path == "port" && matches!(*section, "route" | "neighbour") {
            continue;
        }
        let header = SECTIONS.iter().find(|s| s.path == *section).expect("in the schema").header();
        text += &format!("{header}\n");
        let mine = *section == path;
        for (name, fixed) in keys.iter().filter(|(name, _)| !mine || *name != key) {
            text += &format!("{name} = {fixed}\n");
        }
        if let (true, Some(value)) = (mine, value) {
            text += &format!("{key} = {value}\n");
        }
    }
    text
}

fn parsed(text: &str) -> Config {
    match config::parse("test", text) {
        Ok(loaded) => loaded.config,
        Err(report) => panic!("{text}\n{}", report.render(false)),
    }
}

#[test]
fn the_example_of_every_key_is_accepted_at_its_place() {
    for section in SECTIONS {
        for key in section.keys {
            parsed(&with_key(section.path, key.name, Some(key.example)));
        }
    }
}

#[test]
fn a_key_that_is_left_out_has_the_documented_default() {
    let mut compared = 0;
    for section in SECTIONS {
        for key in section.keys {
            if let Some(default) = literal(key.default) {
                let written = parsed(&with_key(section.path, key.name, Some(default)));
                let absent = parsed(&with_key(section.path, key.name, None));
                assert_eq!(written, absent, "{} {}", section.header(), key.name);
                compared += 1;
            }
        }
    }
    assert!(compared >= 12, "only {compared} defaults are values");
}

#[test]
fn a_key_without_a_default_is_required() {
    for section in SECTIONS {
        for key in section.keys.iter().filter(|key| key.default.starts_with("required")) {
            let text = with_key(section.path, key.name, None);
            let report = config::parse("test", &text).expect_err("something is missing");
            let needed = format!("needs `{}`", key.name);
            assert!(
                report.diagnostics().iter().any(|d| d.message.contains(&needed)),
                "{} {}: {}",
                section.header(),
                key.name,
                report.render(false)
            );
        }
    }
}

#[test]
fn no_damage_to_a_file_makes_the_reader_panic() {
    let page = page();
    let text = &toml_blocks(&page)[0];
    for at in 0..text.len() {
        let (before, after) = text.split_at(at);
        let rest = &after[1..];
        let damaged = [
            before.to_owned(),
            format!("{before}{rest}"),
            format!("{before}\"{rest}"),
            format!("{before}[{rest}"),
            format!("{before}9{rest}"),
            format!("{before}\u{202e}{rest}"),
        ];
        for text in damaged {
            if let Err(report) = config::parse("damaged", &text) {
                assert!(report.counts().0 > 0);
                assert!(report.render(true).contains("damaged:"));
                assert_eq!(report.to_json().len(), report.diagnostics().len());
            }
        }
    }
}
