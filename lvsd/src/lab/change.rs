//! Changes of the configuration while the lab runs, put into effect by `lvsd reload`.

use super::Problem;
use super::scenario::{DIRECTOR, Server};
use super::world::{self, World};
use std::fs;
use std::process::Stdio;

const HEAD: &str = "[[service.server]]\n";

/// The same configuration with other keys for a server; its address stays.
fn with_server(text: &str, server: &Server, keys: &str) -> Option<String> {
    let (before, rest) = text.split_once(&format!("{HEAD}address = \"{}\"\n", server.address))?;
    let after = rest.find("[[").map_or("", |at| &rest[at..]);
    Some(format!("{before}{HEAD}address = \"{}\"\n{keys}\n{after}", server.address))
}

/// Writes other keys for a server into the director's configuration and waits until they are in effect.
pub(super) fn server(world: &World, server: &Server, keys: &str) -> Result<(), Problem> {
    let failed = |e: &dyn core::fmt::Display| Problem::failed("lvsd reload", e);
    let path = world.dir.file("director.toml");
    let text = fs::read_to_string(&path).map_err(|e| failed(&e))?;
    let next = with_server(&text, server, keys).ok_or_else(|| failed(&"no such server"))?;
    fs::write(&path, next).map_err(|e| failed(&e))?;
    let mut command = world.command(DIRECTOR, world::own_program().map_err(|e| failed(&e))?)?;
    command.args(["reload", "--status"]).arg(world.dir.file("status.json")).stdin(Stdio::null());
    let output = command.output().map_err(|e| failed(&e))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(failed(&String::from_utf8_lossy(&output.stderr).trim()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::scenario::{SERVERS, Scenario};
    use super::*;
    use crate::config;

    #[test]
    fn only_the_keys_of_one_server_change_and_change_back() {
        let text = Scenario::Drain.director_config();
        for server in &SERVERS {
            let next = with_server(&text, server, "weight = 0").unwrap();
            assert!(next.contains(&format!("\"{}\"\nweight = 0\n", server.address)));
            assert_eq!(next.matches("weight = 1").count(), 1);
            assert!(config::parse("lab.toml", &next).is_ok());
            assert_eq!(with_server(&next, server, "weight = 1").unwrap(), text);
        }
        assert_eq!(with_server("[director]\n", &SERVERS[0], ""), None);
    }
}
