//! `tidewire demo`: serves, and feeds the tree from this host's own telemetry.

use super::client::{Client, ClientError, Identity};
use super::serve::{self, Serve};
use crate::demo::Telemetry;
use crate::runtime::now;
use crate::transport::trust::Trust;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Four samples a second.
const INTERVAL: Duration = Duration::from_millis(250);

pub fn demo(arguments: &Serve) -> ExitCode {
    // What a host measured is of no use when the demo starts again, unless somebody asks for it.
    let arguments = Serve { dev: true, ephemeral: arguments.ephemeral || arguments.data.is_none(), ..arguments.clone() };
    let server = match arguments.load().and_then(|config| serve::start(&config)) {
        Ok(server) => server,
        Err(code) => return code,
    };
    let Some(address) = server.local_address() else {
        eprintln!("error: the demo feeds by a listener of HTTP without TLS, and there is none: server.listen is off");
        return ExitCode::from(2);
    };
    println!("  demo     this host's telemetry under host/, watch it at http://{address}/");
    std::thread::spawn(move || feed(&format!("ws://{address}")));
    serve::run(server)
}

/// Feeds until the server stops; a connection that breaks before is opened again.
fn feed(url: &str) {
    loop {
        if let Err(error) = feed_once(url) {
            tracing::debug!(what = %error, "the demo's feed ended");
        }
        std::thread::sleep(INTERVAL);
    }
}

fn feed_once(url: &str) -> Result<(), ClientError> {
    let mut client = Client::connect(url, &Trust::default(), &Identity::default())?;
    let mut telemetry = Telemetry::new(Path::new("/"));
    loop {
        let sample = telemetry.sample(now().0);
        for update in &sample.updates {
            client.write_update(&update.path, update.kind, &update.value)?;
        }
        client.flush()?;
        for path in &sample.removed {
            client.remove(&format!(">{path}"))?;
        }
        client.serve(INTERVAL)?;
    }
}
