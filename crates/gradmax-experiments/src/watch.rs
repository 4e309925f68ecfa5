//! The report of runs that go on, served to a browser on this machine.

use std::io::Cursor;
use std::path::PathBuf;

use anyhow::{Result, anyhow};
use tiny_http::{Header, Method, Request, Response, Server};

use crate::failure::{misuse, sentence};
use crate::report;

/// A server that nobody but this machine's users reaches.
pub struct Watch {
    server: Server,
    folders: Vec<PathBuf>,
}

impl Watch {
    /// Serves the report of all runs in the folders; port 0 is any that is free.
    ///
    /// # Errors
    /// If the port is taken.
    pub fn new(folders: Vec<PathBuf>, port: u16) -> Result<Self> {
        let server = Server::http(("127.0.0.1", port)).map_err(|error| {
            misuse(format!(
                "cannot serve on port {port} of this machine: {error}; choose another with --port, or 0 for any"
            ))
        })?;
        Ok(Self { server, folders })
    }

    /// Where a browser finds it.
    ///
    /// # Errors
    /// If the server has no address.
    pub fn address(&self) -> Result<String> {
        let address = self.server.server_addr().to_ip().ok_or_else(|| anyhow!("the server has no address"))?;
        Ok(format!("http://{address}/"))
    }

    /// Answers until the program ends.
    ///
    /// # Errors
    /// If the server fails; what goes wrong with one answer, or with reading a run, is told to the browser.
    pub fn serve(&self) -> Result<()> {
        loop {
            let request = self.server.recv()?;
            let answer = self.answer(&request);
            // A browser that is gone needs no answer.
            let _ = request.respond(answer);
        }
    }

    fn answer(&self, request: &Request) -> Response<Cursor<Vec<u8>>> {
        // Pages of other sites can lead a browser here under another name.
        let host = request.headers().iter().find(|header| header.field.equiv("Host")).map(|host| host.value.as_str());
        let own =
            host.is_some_and(|host| ["127.0.0.1", "localhost"].contains(&host.split(':').next().unwrap_or_default()));
        match (own, request.method(), request.url()) {
            (false, ..) => plain(403, "only this machine's own names are answered"),
            (true, Method::Get, "/") => match report::live(&self.folders) {
                Ok(page) => page_of(page),
                Err(error) => plain(500, &sentence(&error)),
            },
            _ => plain(404, "there is only the report, at /"),
        }
    }
}

fn page_of(page: String) -> Response<Cursor<Vec<u8>>> {
    // An icon that is not there would be an error in the browser's console.
    let page = page.replacen("<title>", "<link rel=\"icon\" href=\"data:,\"><title>", 1);
    with_type(Response::from_string(page), "text/html; charset=utf-8")
}

fn plain(status: u16, text: &str) -> Response<Cursor<Vec<u8>>> {
    with_type(Response::from_string(text).with_status_code(status), "text/plain; charset=utf-8")
}

fn with_type(response: Response<Cursor<Vec<u8>>>, kind: &str) -> Response<Cursor<Vec<u8>>> {
    let header = |name: &str, value: &str| Header::from_bytes(name, value).expect("it is plain ASCII");
    response.with_header(header("Content-Type", kind)).with_header(header("Cache-Control", "no-store"))
}
