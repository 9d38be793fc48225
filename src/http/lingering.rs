//! Closes a connection whose peer may still be sending. Closing it at once would reset the connection, and the peer
//! would lose the answer.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

/// Maximum number of bytes that are still read from the peer.
pub(super) const MAX_BYTES: usize = 16 * 1024 * 1024;
/// Maximum time of this reading.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum time for a short answer to be sent.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// The state of reading and discarding after the answer.
pub(super) struct Lingering {
    deadline: Pin<Box<tokio::time::Sleep>>,
    discarded: usize,
}

impl Lingering {
    pub(super) fn begin() -> Self {
        Self {
            deadline: Box::pin(tokio::time::sleep(TIMEOUT)),
            discarded: 0,
        }
    }

    /// Reads and discards until the peer has sent everything, has sent too much, or has used up its time.
    pub(super) fn poll_discard(
        &mut self,
        stream: Pin<&mut impl AsyncRead>,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        let mut stream = stream;
        let mut space = [0; 16 * 1024];
        while self.deadline.as_mut().poll(context).is_pending() && self.discarded < MAX_BYTES {
            let mut buffer = ReadBuf::new(&mut space);
            match stream.as_mut().poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.discarded += buffer.filled().len()
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(())
    }
}

/// Answers a connection whose request is not read, and closes it so that the peer can read the answer.
pub(super) async fn turn_away(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &[u8]) {
    let answered = tokio::time::timeout(WRITE_TIMEOUT, async {
        stream.write_all(answer).await?;
        stream.shutdown().await
    });
    if !matches!(answered.await, Ok(Ok(()))) {
        return;
    }
    let mut lingering = Lingering::begin();
    poll_fn(|context| lingering.poll_discard(Pin::new(&mut stream), context)).await;
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn a_peer_that_sends_a_large_body_first_reads_why_it_was_turned_away() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let refuse = async {
            let (stream, _) = listener.accept().await.unwrap();
            turn_away(stream, b"full").await;
        };
        let send_and_read = async {
            let mut client = TcpStream::connect(address).await.unwrap();
            // More than fits into the buffers of the kernel.
            client.write_all(&vec![b'x'; MAX_BYTES / 2]).await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let ((), answer) = tokio::join!(refuse, send_and_read);
        assert_eq!(answer, "full");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_neither_reads_nor_closes_is_given_up() {
        let (silent, _peer) = tokio::io::duplex(1);
        turn_away(silent, b"full").await;
        let (quiet, _peer) = tokio::io::duplex(64);
        turn_away(quiet, b"full").await;
    }
}
