//! `lvsd diff`: what a reload from one configuration to another would do, without doing it.

use crate::Exit;
use crate::check::{load_or_explain, say};
use crate::config::{BuildError, Loaded, Plan, generation};
use serde_json::json;
use std::path::PathBuf;

/// Version of the shape of the JSON output.
const JSON_SCHEMA: u32 = 1;

/// Arguments of `lvsd diff`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 a running `lvsd run` can take NEW by reload (or nothing changes), 1 that needs a
restart, 2 one of the files is wrong. A director that was reloaded before may have less room for new
local addresses than one that was started with OLD; the reload itself says so.
Next: lvsd reload --status FILE")]
pub struct Args {
    /// The configuration in effect
    #[arg(value_name = "OLD")]
    pub old: PathBuf,
    /// The configuration that is to take its place
    #[arg(value_name = "NEW")]
    pub new: PathBuf,
    /// Write one JSON object to standard output instead of text
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
#[must_use]
pub fn main(args: &Args) -> Exit {
    let loaded = load_or_explain(&args.old).and_then(|old| Ok((old, load_or_explain(&args.new)?)));
    let (old, new) = match loaded {
        Ok(both) => both,
        Err(exit) => return exit,
    };
    match plan(&old, &new) {
        Ok(plan) => {
            show(args, &plan);
            if plan.is_live() { Exit::Ok } else { Exit::Failure }
        }
        Err(error) => {
            eprintln!("lvsd: {error}");
            Exit::Usage
        }
    }
}

fn plan(old: &Loaded, new: &Loaded) -> Result<Plan, BuildError> {
    let mut plan = Plan::between(old, new);
    let first = generation(&old.config, None)?;
    plan.judge_room(&old.config, &new.config, &generation(&new.config, Some(&first))?);
    Ok(plan)
}

fn show(args: &Args, plan: &Plan) {
    if args.json {
        let live = plan.is_live();
        let value = json!({ "schema": JSON_SCHEMA, "reload": live, "changes": plan.to_json() });
        say(&format!("{value:#}\n"));
    } else if plan.is_empty() {
        say("no difference\n");
    } else {
        say(&plan.to_string());
    }
}
