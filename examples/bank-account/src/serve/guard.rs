//! Who may ask, how often, and for how long: what stands before every route.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::Method;
use axum::http::header::{HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::headers::one;
use super::problem::{
    FOREIGN, MALFORMED, Problem, SLOW, TIMED_OUT, TOO_LARGE, TOO_MANY, WRONG_HOST,
};
use super::server::Peer;

/// Most bytes of a body.
pub(super) const MAX_BODY: usize = 16 << 10;
/// After so many requests those clients are forgotten that have not come for a while.
const FORGET_EVERY: u32 = 4_096;

/// What is asked of requests.
pub(super) struct Guards {
    pub(super) hosts: Vec<String>,
    pub(super) rate: Option<NonZeroU32>,
}

/// The same, at work.
pub(super) struct Watch {
    hosts: Vec<String>,
    rate: Option<DefaultKeyedRateLimiter<IpAddr>>,
    seen: AtomicU32,
}

impl Watch {
    pub(super) fn of(guards: Guards) -> Arc<Self> {
        let quota =
            |rate: NonZeroU32| Quota::per_second(rate).allow_burst(rate.saturating_add(rate.get()));
        Arc::new(Self {
            hosts: guards.hosts,
            rate: guards.rate.map(|rate| RateLimiter::keyed(quota(rate))),
            seen: AtomicU32::new(0),
        })
    }

    fn may(&self, peer: IpAddr) -> bool {
        let Some(limiter) = &self.rate else {
            return true;
        };
        if self
            .seen
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(FORGET_EVERY)
        {
            limiter.retain_recent();
        }
        limiter.check_key(&client(peer)).is_ok()
    }

    /// Whether the bank is meant by this name. A name that somebody else's server answers for may be
    /// made to lead here, and their page would then be this one's.
    fn is_ours(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => host.split(':').next().unwrap_or_default(),
        };
        let loopback = name
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback());
        let named = |ours: &String| ours.eq_ignore_ascii_case(name);
        loopback || name.eq_ignore_ascii_case("localhost") || self.hosts.iter().any(named)
    }
}

/// Whose requests are counted together: of IPv6 a whole network, since each of its machines has as
/// many addresses as it likes.
fn client(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

pub(super) async fn may(
    State(watch): State<Arc<Watch>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if let Some(Peer(peer)) = request.extensions().get()
        && !watch.may(*peer)
    {
        return Err(Problem::new(TOO_MANY, "come back in a second"));
    }
    let host = one(request.headers(), &HOST)?;
    // An address that names a host has the last word, by HTTP: so both must be ours.
    let named = request.uri().host();
    let host = host.or(named);
    let host = host.ok_or_else(|| Problem::new(MALFORMED, "say which host is meant"))?;
    if !watch.is_ours(host) || named.is_some_and(|named| !watch.is_ours(named)) {
        let detail = "it is reached by names of this machine, and by those given as --host";
        return Err(Problem::new(WRONG_HOST, detail));
    }
    let changes = !matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS
    );
    if changes && is_foreign(request.headers(), host) {
        return Err(Problem::new(FOREIGN, "ask from a page of this bank"));
    }
    Ok(next.run(request).await)
}

/// Whether a page of another site asks.
fn is_foreign(headers: &HeaderMap, host: &str) -> bool {
    let site = text(headers, &HeaderName::from_static("sec-fetch-site"));
    if site.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        return true;
    }
    match headers.get(ORIGIN) {
        None => false,
        Some(origin) => {
            let origin = origin.to_str().unwrap_or_default();
            origin
                .split_once("://")
                .is_none_or(|(_, of)| !of.eq_ignore_ascii_case(host))
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Takes the body in before anything is done, and lets the rest take only so long.
pub(super) async fn in_time(
    State(patience): State<Duration>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let body = tokio::time::timeout(patience, to_bytes(body, MAX_BODY)).await;
    let slow = |_| Problem::new(SLOW, "the body did not arrive in time; nothing was done");
    let body = body.map_err(slow)?.map_err(|error| {
        let error = error.into_inner();
        if error.is::<http_body_util::LengthLimitError>() {
            return Problem::new(
                TOO_LARGE,
                format_args!("a body has at most {MAX_BODY} bytes"),
            );
        }
        Problem::new(MALFORMED, "the body did not arrive whole; nothing was done")
    })?;
    let request = Request::from_parts(parts, Body::from(body));
    let detail = "whether it was done is not known; repeat it with the same Idempotency-Key";
    let late = |_| Problem::new(TIMED_OUT, detail);
    tokio::time::timeout(patience, next.run(request))
        .await
        .map_err(late)
}

/// What no answer is without.
pub(super) async fn secured(request: Request, next: Next) -> Response {
    const ALWAYS: [(&str, &str); 6] = [
        (
            "content-security-policy",
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
             connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
             require-trusted-types-for 'script'; trusted-types 'none'",
        ),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        (
            "permissions-policy",
            "camera=(), geolocation=(), microphone=(), payment=()",
        ),
    ];
    let mut response = next.run(request).await.into_response();
    let headers = response.headers_mut();
    for (name, value) in ALWAYS {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    headers
        .entry(axum::http::header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bank_is_meant_by_names_of_this_machine_and_by_those_given() {
        let watch = Watch::of(Guards {
            hosts: vec!["bank.example".into()],
            rate: None,
        });
        for ours in [
            "localhost",
            "LOCALHOST:80",
            "127.0.0.1:8080",
            "[::1]:8080",
            "bank.example:80",
        ] {
            assert!(watch.is_ours(ours), "{ours}");
        }
        for other in [
            "evil.example",
            "localhost.evil.example",
            "",
            "[::2]",
            "10.0.0.1",
            "127.0.0.1.evil.example",
        ] {
            assert!(!watch.is_ours(other), "{other}");
        }
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let of = |text: &str| client(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8:0:1::1"), of("2001:db8::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }

    #[test]
    fn more_requests_than_allowed_are_refused_to_one_client_alone() {
        let watch = Watch::of(Guards {
            hosts: vec![],
            rate: NonZeroU32::new(5),
        });
        let (one, other) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let taken = (0..1_000).filter(|_| watch.may(one)).count();
        assert!((10..1_000).contains(&taken), "{taken}");
        assert!(watch.may(other));
    }
}
