//! Readers of other programs' data, one file a program: each turns files or rows into calls of a
//! [`Sink`](super::Sink).
