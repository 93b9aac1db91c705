//! Stock nginx as a server of a lab: it reads the PROXY protocol, as `listen … proxy_protocol` has it do since 2013,
//! and leads every request on to the lab's own HTTP server behind it, on the same host.

use super::Problem;
use super::scenario::Server;
use super::state::LabDir;
use core::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::fs;
use std::io;
use std::process::Command;

/// Where the lab's own server listens behind nginx.
pub(super) const BEHIND: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8081));

/// What nginx is told. The two headers say whom it sees: its peer, and the client by the PROXY header.
fn config(server: &Server, prefix: &str) -> String {
    format!(
        "# Written by `lvsd lab`.\n\
         worker_processes 1;\npid {prefix}/pid;\nerror_log {prefix}/error.log;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n\
         \x20 access_log off;\n\
         \x20 client_body_temp_path {prefix}/body;\n  proxy_temp_path {prefix}/proxy;\n\
         \x20 fastcgi_temp_path {prefix}/fastcgi;\n  uwsgi_temp_path {prefix}/uwsgi;\n\
         \x20 scgi_temp_path {prefix}/scgi;\n\
         \x20 client_max_body_size 0;\n  keepalive_requests 1000000;\n\
         \x20 server {{\n\
         \x20   listen {address} proxy_protocol;\n\
         \x20   location / {{\n\
         \x20     proxy_pass http://{BEHIND};\n      proxy_http_version 1.1;\n\
         \x20     proxy_buffering off;\n      proxy_request_buffering off;\n\
         \x20     proxy_pass_header Server;\n\
         \x20     proxy_hide_header X-Peer;\n      proxy_hide_header X-Client-From-Toa;\n\
         \x20     add_header X-Peer \"$remote_addr:$remote_port\";\n\
         \x20     add_header X-Client-From-Toa \"$proxy_protocol_addr:$proxy_protocol_port\";\n\
         \x20   }}\n  }}\n}}\n",
        address = server.address,
    )
}

/// Starts nginx in the host that `command` runs in; it listens when this returns.
pub(super) fn start(
    server: &Server,
    dir: &LabDir,
    command: impl FnOnce(&str) -> io::Result<Command>,
) -> Result<(), Problem> {
    let failed = |e: &dyn core::fmt::Display| Problem::failed(server.name, format!("nginx: {e}"));
    let prefix = dir.file(&format!("{}-nginx", server.name));
    fs::create_dir_all(&prefix).map_err(|e| failed(&e))?;
    let file = prefix.join("nginx.conf");
    fs::write(&file, config(server, &prefix.display().to_string())).map_err(|e| failed(&e))?;
    // It goes into the background once it listens, and ends with the lab's PID namespace.
    let mut nginx = command("nginx").map_err(|e| failed(&e))?;
    let output = match nginx.arg("-p").arg(&prefix).arg("-c").arg(&file).output() {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Problem::Impossible(
                "this lab needs nginx, which is not installed: install it (on Debian `apt-get install nginx-light`), \
                 or try `lvsd lab run fullnat`"
                    .to_owned(),
            ));
        }
        Err(error) => return Err(failed(&error)),
    };
    if output.status.success() {
        return Ok(());
    }
    Err(failed(&String::from_utf8_lossy(&output.stderr).trim()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::scenario::SERVERS;

    #[test]
    fn nginx_listens_where_the_director_sends_and_reads_the_header() {
        let text = config(&SERVERS[0], "/tmp/x");
        assert!(text.contains("listen 10.1.0.11:8080 proxy_protocol;"), "{text}");
        assert_eq!(text.matches('{').count(), text.matches('}').count());
    }
}
