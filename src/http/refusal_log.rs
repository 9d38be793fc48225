//! Logs and counts refused requests: enough detail for programs like fail2ban, but limited, however many there are.
//! Tokens are never logged.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::connection::Peer;

/// At most one line per peer within this time.
const PEER_PAUSE: Duration = Duration::from_secs(1);
/// Maximum number of lines within that time, from all peers together.
const MAX_LINES: usize = 50;
/// Maximum number of remembered peers; more of them clear the list.
const MAX_PEERS: usize = 1024;
/// Maximum number of logged addresses of a forwarding header.
const MAX_FORWARDED: usize = 8;

/// The reason why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RefusalReason {
    /// The token is missing. Clients with OAuth start this way, so it is counted and not logged.
    Missing,
    /// The header does not have the form of a token.
    Malformed,
    /// The token is not known.
    Unknown,
    /// The access token is not valid.
    Invalid,
    /// The access token lacks a scope.
    Scope,
    /// The Host header does not name this service.
    Host,
}

impl RefusalReason {
    fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing_token",
            Self::Malformed => "malformed_token",
            Self::Unknown => "unknown_token",
            Self::Invalid => "invalid_token",
            Self::Scope => "insufficient_scope",
            Self::Host => "wrong_host",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    reason: &'static str,
}

/// Counts and logs. Clones share their state.
#[derive(Debug, Clone, Default)]
pub(super) struct RefusalLog {
    counts: Family<Refused, Counter>,
    recent: Arc<Mutex<Recent>>,
}

/// Peers that were logged recently.
#[derive(Debug, Default)]
struct Recent {
    since: Option<Instant>,
    lines: usize,
    peers: HashMap<Option<IpAddr>, (Instant, u64)>,
}

impl Recent {
    /// Returns how many refusals of this peer were omitted before this one, or `None` if this one is omitted, too.
    fn admit(&mut self, peer: Option<IpAddr>, now: Instant) -> Option<u64> {
        if self
            .since
            .is_none_or(|since| now.duration_since(since) >= PEER_PAUSE)
        {
            (self.since, self.lines) = (Some(now), 0);
        }
        if self.peers.len() >= MAX_PEERS && !self.peers.contains_key(&peer) {
            self.peers
                .retain(|_, (last, _)| now.duration_since(*last) < PEER_PAUSE);
        }
        let (full, has_room) = (self.lines >= MAX_LINES, self.peers.len() < MAX_PEERS);
        match self.peers.get_mut(&peer) {
            Some((last, left_out)) if full || now.duration_since(*last) < PEER_PAUSE => {
                *left_out += 1;
                None
            }
            None if full || !has_room => None,
            entry => {
                self.lines += 1;
                let left_out = entry.map_or(0, |(_, left_out)| *left_out);
                self.peers.insert(peer, (now, 0));
                Some(left_out)
            }
        }
    }
}

impl RefusalLog {
    /// Records a refusal.
    pub(super) fn refused(&self, reason: RefusalReason, peer: Option<&Peer>, headers: &HeaderMap) {
        self.counts
            .get_or_create(&Refused {
                reason: reason.name(),
            })
            .inc();
        if reason == RefusalReason::Missing {
            return;
        }
        let peer = peer.map(|peer| peer.address);
        let admitted = self
            .recent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .admit(peer, Instant::now());
        let Some(left_out) = admitted else { return };
        let peer = peer.map(|peer| peer.to_string());
        let forwarded_for = forwarded_for(headers);
        tracing::warn!(
            reason = reason.name(),
            peer,
            forwarded_for,
            left_out,
            "request refused"
        );
    }

    /// Adds the counts to a registry.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "refused_requests",
            "Requests refused for their token or host, by reason",
            self.counts.clone(),
        );
    }
}

/// Returns the addresses that proxies forward for. Only valid addresses are logged, because any client can send them.
fn forwarded_for(headers: &HeaderMap) -> Option<String> {
    let given = headers.get("x-forwarded-for")?.to_str().ok()?;
    let addresses: Vec<String> = given
        .split(',')
        .take(MAX_FORWARDED)
        .filter_map(|part| part.trim().parse::<IpAddr>().ok())
        .map(|address| address.to_string())
        .collect();
    (!addresses.is_empty()).then(|| addresses.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_writes_few_lines_and_loses_no_count() {
        let (mut recent, start) = (Recent::default(), Instant::now());
        let peer = |last| Some(IpAddr::from([192, 0, 2, last]));
        assert_eq!(recent.admit(peer(1), start), Some(0));
        for _ in 0..1000 {
            assert_eq!(recent.admit(peer(1), start), None);
        }
        assert_eq!(
            recent.admit(peer(2), start),
            Some(0),
            "another peer has a line of its own"
        );
        assert_eq!(recent.admit(peer(1), start + PEER_PAUSE), Some(1000));
    }

    #[test]
    fn many_peers_are_bounded_together() {
        let (mut recent, start) = (Recent::default(), Instant::now());
        let peers = (0..10_000_u32).map(|number| Some(IpAddr::from(number.to_be_bytes())));
        let written = peers
            .filter(|peer| recent.admit(*peer, start).is_some())
            .count();
        assert_eq!(written, MAX_LINES);
        assert!(recent.peers.len() <= MAX_PEERS);
        assert_eq!(
            recent.admit(Some(IpAddr::from([192, 0, 2, 1])), start + PEER_PAUSE),
            Some(0)
        );
    }

    #[test]
    fn only_addresses_of_a_forwarding_header_are_written() {
        let headers = |value: &str| {
            HeaderMap::from_iter([("x-forwarded-for".parse().unwrap(), value.parse().unwrap())])
        };
        assert_eq!(
            forwarded_for(&headers("203.0.113.9, \"x\", 2001:db8::1")).as_deref(),
            Some("203.0.113.9, 2001:db8::1")
        );
        assert_eq!(forwarded_for(&headers("secret-token")), None);
    }
}
