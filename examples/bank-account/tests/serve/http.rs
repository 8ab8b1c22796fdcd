//! A small client: what is sent is exactly what is said.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// So that a test that waits for nothing fails.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The code of the problem that was answered.
    pub fn problem(&self) -> String {
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{self:?}"
        );
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{problem}");
        let code = problem["code"].as_str().unwrap().to_owned();
        assert_eq!(problem["type"], format!("/problems/{code}"));
        code
    }
}

/// One connection.
pub struct Connection(pub BufReader<TcpStream>);

impl Connection {
    pub fn to(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    pub fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.get_mut().write_all(bytes)
    }

    /// The status and headers of an answer.
    pub fn head(&mut self) -> std::io::Result<(u16, Vec<(String, String)>)> {
        let broken = |what: &str| std::io::Error::other(what.to_owned());
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err(broken("no answer"));
        }
        let status = line
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| broken(&line))?;
        let mut headers = Vec::new();
        loop {
            line.clear();
            self.0.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else {
                return Ok((status, headers));
            };
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// One chunk of a body; empty at its end.
    pub fn chunk(&mut self) -> std::io::Result<Vec<u8>> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err(std::io::Error::other("cut off"));
        }
        let length = usize::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
        let mut chunk = vec![0; length + 2];
        self.0.read_exact(&mut chunk)?;
        chunk.truncate(length);
        Ok(chunk)
    }

    pub fn answer(&mut self, has_body: bool) -> std::io::Result<Answer> {
        let (status, headers) = self.head()?;
        let mut answer = Answer {
            status,
            headers,
            body: Vec::new(),
        };
        if !has_body || matches!(status, 204 | 304) {
            return Ok(answer);
        }
        if let Some(length) = answer.header("content-length") {
            let mut body = vec![0; length.parse().map_err(std::io::Error::other)?];
            self.0.read_exact(&mut body)?;
            answer.body = body;
        } else if answer.header("transfer-encoding") == Some("chunked") {
            loop {
                let chunk = self.chunk()?;
                if chunk.is_empty() {
                    break;
                }
                answer.body.extend(chunk);
            }
        } else {
            self.0.read_to_end(&mut answer.body)?;
        }
        Ok(answer)
    }
}

/// A request as it goes over the wire.
pub fn written(method: &str, path: &str, headers: &[(&str, &str)], body: Option<&str>) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n");
    for (name, value) in headers {
        write!(text, "{name}: {value}\r\n").unwrap();
    }
    if let Some(body) = body {
        if !headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("content-type"))
        {
            text.push_str("content-type: application/json\r\n");
        }
        write!(text, "content-length: {}\r\n", body.len()).unwrap();
    }
    text.push_str("\r\n");
    text.push_str(body.unwrap_or_default());
    text
}

pub fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&str>,
) -> Answer {
    let mut connection = Connection::to(address).unwrap();
    connection
        .send(written(method, path, headers, body).as_bytes())
        .unwrap();
    connection.answer(method != "HEAD").unwrap()
}

/// Sends these bytes and nothing else, and returns what is answered.
pub fn raw(address: SocketAddr, bytes: &[u8]) -> std::io::Result<Answer> {
    let mut connection = Connection::to(address)?;
    // It may have answered, and closed, before all was sent.
    let _ = connection.send(bytes);
    connection.answer(true)
}
