//! What a node says once it serves.

use std::net::SocketAddr;
use std::path::Path;

use federation::Federation;
use serde_json::json;

use crate::config::Config;
use crate::data_folder::DataFolder;
use crate::printer::Printer;

/// Says where the node is reached, and at the first start what was made.
pub(crate) fn announce(
    folder: &DataFolder,
    config: &Config,
    (api, ws): (SocketAddr, SocketAddr),
    federation: Option<&Federation>,
    first: bool,
    printer: Printer,
) -> anyhow::Result<()> {
    let url = |certificate: &Path, plain: &str, address| {
        let end = if certificate.as_os_str().is_empty() { "" } else { "s" };
        format!("{plain}{end}://{address}")
    };
    let version = env!("CARGO_PKG_VERSION");
    let api = url(&config.api.tls_certificate, "http", api);
    let ws = url(&config.ws.tls_certificate, "ws", ws);
    let result = json!({
        "version": version,
        "api": api,
        "ws": ws,
        "federation": federation.map(|federation| json!({
            "domain": federation.domain().as_str(),
            "addresses": federation.addresses(),
        })),
        "data": folder.path(),
        "config": folder.config_file(),
        "secret": folder.secret_file(),
        "created": first,
    });
    printer.print(&result, || {
        let mut lines = vec![
            format!("Entente {version} is ready."),
            format!("  REST API   {api}"),
            format!("  WebSocket  {ws}"),
        ];
        if let Some(federation) = federation {
            let addresses = federation.addresses().join(" ");
            lines.push(format!("  Federation {} at {addresses}", federation.domain()));
        }
        lines.push(format!("  Data       {}", folder.path().display()));
        if first {
            lines.extend([
                String::new(),
                "First start: made the data folder, its config and its secret.".to_owned(),
                format!("  Config     {}", folder.config_file().display()),
                format!("  Secret     {}", folder.secret_file().display()),
                "Next: point an OpenIM SDK at the two addresses; README.md shows a first message."
                    .to_owned(),
            ]);
        }
        lines.join("\n")
    })
}
