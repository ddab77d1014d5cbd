//! What there is to be watched of a node, as text for Prometheus: `http://HOST:PORT/metrics`.
//!
//! Most of it is asked of the node when the page is (`collect`), by a client whose questions are not
//! counted among those of others, so that looking changes nothing. What is counted while it happens
//! costs a few relaxed additions for each request, batch or sync, and never goes down. Looking at
//! mailboxes gives every actor a turn: some milliseconds for ten thousand of them.

mod collect;

use std::{
    collections::BTreeSet, convert::Infallible, io, net::TcpListener as StdListener, rc::Rc,
    time::Duration,
};

use flumen_actors::gateway::listener::BindError;
use flumen_runtime::credit::Credit;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ACCEPT, ALLOW, CONTENT_TYPE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};

use crate::node::Node;

/// The formats that Prometheus knows the text by: that which who wants it asks for, and the older one.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Connections at a time: those who watch are few.
const CONNECTIONS_MAX: usize = 16;
/// How long the head of a request may take.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// How long accepting rests when the process has no descriptor left.
const REST: Duration = Duration::from_millis(100);

/// An address where the page is to be.
#[derive(Debug)]
pub struct Page(StdListener);

impl Page {
    /// Takes the address.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(address: &str) -> Result<Self, BindError> {
        let failed = |error| BindError { address: address.into(), error };
        let socket = StdListener::bind(address).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        Ok(Self(socket))
    }

    /// Shows the metrics of `node` there, for as long as the process runs; where that is.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn start(self, node: &Node) -> io::Result<String> {
        let address = self.0.local_addr()?;
        let socket = TcpListener::from_std(self.0)?;
        let node = Rc::new(node.clone());
        actix_rt::spawn(accept(socket, node));
        Ok(format!("http://{address}/metrics"))
    }
}

async fn accept(socket: TcpListener, node: Rc<Node>) {
    let places = Credit::new(CONNECTIONS_MAX, 0);
    loop {
        let place = places.acquire(1, 0).await;
        match socket.accept().await {
            Ok((stream, _)) => {
                let node = node.clone();
                actix_rt::spawn(async move {
                    converse(stream, node).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection for metrics");
                tokio::time::sleep(REST).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, node: Rc<Node>) {
    let answer = service_fn(|request| answer(request, node.clone()));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).keep_alive(false);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), answer).await {
        tracing::debug!(%error, "a connection for metrics has broken");
    }
}

async fn answer(
    request: Request<Incoming>,
    node: Rc<Node>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let response = Response::builder();
    let response = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => match collect::page(&node).await {
            Ok(text) if is_wanted_open(&request) => {
                response.header(CONTENT_TYPE, OPEN_METRICS).body(text.into())
            }
            Ok(text) => response.header(CONTENT_TYPE, TEXT).body(classic(&text).into()),
            Err(error) => {
                let status = response.status(StatusCode::SERVICE_UNAVAILABLE);
                status.body(format!("{error}\n").into())
            }
        },
        (_, "/metrics") => response
            .status(StatusCode::METHOD_NOT_ALLOWED)
            .header(ALLOW, "GET")
            .body("the metrics are read with GET\n".into()),
        _ => response.status(StatusCode::NOT_FOUND).body("the metrics are at /metrics\n".into()),
    };
    Ok(response.expect("its head is made of constants"))
}

fn is_wanted_open(request: &Request<Incoming>) -> bool {
    let accepted = request.headers().get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.into_iter().any(|value| value.contains("application/openmetrics-text"))
}

/// The page in the older format: there a counter is described under the name that its samples have.
fn classic(page: &str) -> String {
    let counter =
        |line: &str| line.strip_prefix("# TYPE ")?.strip_suffix(" counter").map(str::to_owned);
    let counters: BTreeSet<String> = page.lines().filter_map(counter).collect();
    let mut text = String::with_capacity(page.len() + page.len() / 8);
    for line in page.lines().filter(|line| *line != "# EOF") {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(what), Some(name), Some(rest)) if counters.contains(name) => {
                text.extend(["# ", what, " ", name, "_total ", rest]);
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_the_older_format_a_counter_is_described_under_the_name_of_its_samples() {
        let page = "# HELP a Some words.\n# TYPE a counter\na_total{x=\"y z\"} 1\n\
                    # HELP b Others.\n# TYPE b gauge\nb 2\n# EOF\n";
        let text = "# HELP a_total Some words.\n# TYPE a_total counter\na_total{x=\"y z\"} 1\n\
                    # HELP b Others.\n# TYPE b gauge\nb 2\n";
        assert_eq!(classic(page), text);
    }
}
