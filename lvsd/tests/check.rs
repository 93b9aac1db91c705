//! `lvsd check` as a user meets it: what it prints and the exit code it ends with.
//!
//! Each `tests/config/NAME.toml` has the expected standard error in `NAME.txt`; one that has none
//! must be accepted without a word. `LVSD_BLESS=1 cargo test -p lvsd --test check` writes them anew
//! for review.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config")
}

fn lvsd(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lvsd"))
        .args(arguments)
        .current_dir(directory())
        .output()
        .expect("the binary starts")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("messages are text")
}

#[test]
fn every_message_is_the_one_that_was_reviewed() {
    let bless = std::env::var_os("LVSD_BLESS").is_some();
    let mut seen = 0;
    for entry in fs::read_dir(directory()).expect("the directory is there") {
        let path = entry.expect("readable").path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        seen += 1;
        let name = path.file_name().and_then(|name| name.to_str()).expect("a plain name");
        let output = lvsd(&["check", "--config", name]);
        let said = stderr(&output);
        let golden = path.with_extension("txt");
        if bless && !said.is_empty() {
            fs::write(&golden, &said).expect("writable");
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        assert_eq!(said, expected, "messages of {name}");
        let faulty = expected.contains("error: ");
        assert_eq!(output.status.code(), Some(if faulty { 2 } else { 0 }), "exit code of {name}");
    }
    assert!(seen >= 10, "the cases are found");
}

#[test]
fn every_error_names_file_line_and_column_and_draws_a_caret() {
    for entry in fs::read_dir(directory()).expect("the directory is there") {
        let path = entry.expect("readable").path();
        if path.extension().is_none_or(|extension| extension != "txt") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("readable");
        let findings =
            text.lines().filter(|l| l.starts_with("error: ") || l.starts_with("warning: "));
        let places = text.lines().filter(|l| l.trim_start().starts_with("--> "));
        let carets = text.lines().filter(|l| l.contains('^'));
        let findings = findings.count();
        assert_eq!(places.count(), findings, "{}", path.display());
        assert!(carets.count() >= findings, "{}", path.display());
    }
}

#[test]
fn a_good_file_is_summed_up_and_the_next_step_named() {
    let output = lvsd(&["check", "--config", "good.toml"]);
    assert_eq!(output.status.code(), Some(0));
    let config = lvsd::config::load(&directory().join("good.toml")).expect("good").config;
    let memory = config.session_memory().expect("small").div_ceil(1 << 20);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        format!(
            "good.toml: ok: 2 ports, 2 services, 3 servers, 11 local addresses\n\
             Room for 709621 FullNAT and 65536 NAT sessions, in {memory} MiB\n\
             Next: lvsd run --config good.toml\n"
        )
    );
}

#[test]
fn json_gives_the_same_findings_with_their_places() {
    let output = lvsd(&["check", "--json", "--config", "unknown-key.toml"]);
    assert_eq!(output.status.code(), Some(2));
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(value["schema"], 1);
    assert_eq!(value["ok"], false);
    let first = &value["diagnostics"][0];
    assert_eq!(first["severity"], "error");
    assert_eq!(first["message"], "unknown key `sesions` in [director]");
    assert_eq!((&first["line"], &first["column"]), (&2.into(), &1.into()));
    assert_eq!((&first["end_line"], &first["end_column"]), (&2.into(), &8.into()));
    assert_eq!(first["help"], "did you mean `sessions`?");

    let output = lvsd(&["check", "--json", "--config", "good.toml"]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(value["ok"], true);
    assert_eq!(value["summary"]["services"][0]["local_pool"], "inside");
}

#[test]
fn a_missing_file_and_a_wrong_command_line_exit_with_2_and_say_why() {
    let output = lvsd(&["check", "--config", "no-such-file.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("cannot read no-such-file.toml: No such file"));
    for arguments in
        [&["check"][..], &["chekc"][..], &["check", "--confg", "good.toml"][..], &[][..]]
    {
        let output = lvsd(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains("Usage"), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn help_and_version_go_to_standard_output_and_exit_with_0() {
    for arguments in [&["--version"][..], &["--help"][..], &["check", "--help"][..]] {
        let output = lvsd(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_file_that_is_not_text_is_refused_with_its_line() {
    let path = std::env::temp_dir().join(format!("lvsd-check-{}.toml", std::process::id()));
    fs::write(&path, b"[director]\nname = \"\xff\"\n").expect("writable");
    let output = lvsd(&["check", "--config", path.to_str().expect("a plain path")]);
    fs::remove_file(&path).expect("was written above");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("line 2 is not text in UTF-8"), "{}", stderr(&output));
}
