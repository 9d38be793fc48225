use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use super::*;

#[tokio::test(start_paused = true)]
async fn one_datagram_holds_ready_and_status() {
    let (systemd, socket) = Systemd::bind();
    systemd.notifier(None).ready("Serving");
    let mut buffer = [0; 100];
    let length = socket.recv(&mut buffer).expect("a datagram");
    assert_eq!(&buffer[..length], b"READY=1\nSTATUS=Serving\n");
}

#[tokio::test(start_paused = true)]
async fn a_status_is_sent_when_it_changes_and_is_one_line() {
    let systemd = Systemd::paused();
    let notifier = systemd.notifier(None);
    notifier.status("database unreachable:\nWATCHDOG=1\r\nSTOPPING=1");
    notifier.status("database unreachable:\nWATCHDOG=1\r\nSTOPPING=1");
    notifier.status(&"ü".repeat(5000));
    until("two lines", secs(1), || systemd.lines().len() >= 2).await;
    let texts = systemd.texts();
    assert_eq!(
        texts[0],
        "STATUS=database unreachable: WATCHDOG=1  STOPPING=1"
    );
    assert!(texts[1].ends_with("ü…") && texts[1].len() < 1100);
    assert_eq!(texts.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn after_stopping_nothing_claims_to_serve() {
    let systemd = Systemd::paused();
    let notifier = systemd.notifier(None);
    notifier.stopping("Stopping (SIGTERM)");
    notifier.status("Serving");
    notifier.ready("Serving");
    notifier.stopping("Stopping again");
    notifier.last_words("Bye");
    until("last words", secs(1), || systemd.status() == "Bye").await;
    assert_eq!(
        systemd.texts(),
        ["STOPPING=1", "STATUS=Stopping (SIGTERM)", "STATUS=Bye"]
    );
}

#[test]
fn an_abstract_socket_is_reached() {
    let name = format!("cognitive-memory-mcp-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("an abstract address");
    let socket = UnixDatagram::bind_addr(&address).expect("an abstract socket");
    Notifier::to(Some(OsStr::new(&format!("@{name}"))), None).ready("Serving");
    let mut buffer = [0; 100];
    let length = socket.recv(&mut buffer).expect("a datagram");
    assert_eq!(&buffer[..length], b"READY=1\nSTATUS=Serving\n");
}

#[test]
fn nothing_happens_without_a_usable_socket() {
    for address in [
        None,
        Some(""),
        Some("vsock:2:1234"),
        Some("/nowhere/at/all"),
    ] {
        let notifier = Notifier::to(address.map(OsStr::new), Some(secs(60)));
        notifier.ready("Serving");
        notifier.status("Still serving");
        notifier.ping();
        notifier.stopping("Stopping");
    }
}

#[test]
fn a_limit_counts_only_with_a_socket_to_ping() {
    assert_eq!(Notifier::to(None, Some(secs(60))).watchdog_limit(), None);
    let (systemd, _socket) = Systemd::bind();
    assert_eq!(systemd.notifier(Some(secs(0))).watchdog_limit(), None);
    assert_eq!(
        systemd.notifier(Some(secs(60))).watchdog_limit(),
        Some(secs(60))
    );
}

#[test]
fn a_receiver_that_never_reads_does_not_stop_us() {
    let (systemd, _socket) = Systemd::bind();
    let notifier = systemd.notifier(Some(secs(60)));
    // The kernel's queue has room for about ten datagrams.
    let begun = std::time::Instant::now();
    for _ in 0..14 {
        notifier.ping();
    }
    assert!(begun.elapsed() < secs(10));
}
